"""Keys: rotation by reload, files that are refused, tokens made elsewhere, and a silent log."""
import base64
import hashlib
import hmac
import json
import os
import shutil
import subprocess
import time

import psycopg
import pytest

SECRETS = {f"k{n}": f"secret-of-key-{n}-" + "x" * 32 for n in range(1, 5)}
CONFIG_FILE_ERROR = "F0000"
COMPANY = 7


def b64(data):
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(dbname="postgres", **more):
    """The claims of a valid token."""
    return {"company_id": COMPANY, "aud": dbname, "exp": int(time.time()) + 600, **more}


def token(kid, payload=None, secret=None):
    """A token made with nothing but the standard library."""
    parts = [{"alg": "HS256", "typ": "JWT", "kid": kid}, payload or claims()]
    signed = ".".join(b64(json.dumps(part).encode()) for part in parts)
    key = (secret or SECRETS[kid]).encode()
    return signed + "." + b64(hmac.digest(key, signed.encode(), hashlib.sha256))


def write_keys(server, *kids, text=None):
    """Replaces the key file, as one should: by a rename."""
    new = server.key_file.with_suffix(".new")
    new.write_text(text if text is not None else "".join(f"{k} {SECRETS[k]}\n" for k in kids))
    server._own(new)
    new.rename(server.key_file)


def reload(server, *connections, **settings):
    """Reloads, and waits until these sessions have seen it."""
    query = "SELECT pg_conf_load_time()"
    before = [conn.execute(query).fetchone() for conn in connections]
    server.reload(**settings)
    for conn, time_before in zip(connections, before):
        server.wait_until(lambda c=conn, t=time_before: c.execute(query).fetchone() != t,
                          "the reload")


def enter(conn, text):
    """Enters by a token; returns the company, or the SQLSTATE."""
    try:
        with conn.transaction():
            conn.execute("SELECT tenantcall.enter_token(%s)", [text])
            return conn.execute("SELECT tenantcall.current_company_id()").fetchone()[0]
    except psycopg.Error as error:
        return error.sqlstate


def key_error(conn):
    """The error of a token check that finds no usable key file; None if there was none."""
    try:
        with conn.transaction():
            conn.execute("SELECT tenantcall.enter_token(%s)", [token("k1")])
    except psycopg.Error as error:
        return error
    return None


@pytest.fixture
def server(make_cluster):
    """A server with keys k2 and k1, where the database postgres has the extension."""
    own = make_cluster(template=False)
    write_keys(own, "k2", "k1")
    own.sql("CREATE EXTENSION tenantcall; CREATE ROLE app LOGIN; "
            "GRANT EXECUTE ON FUNCTION tenantcall.enter_token TO app")
    return own


def kid_of(text):
    """The key that a token names."""
    part = text.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["kid"]


def test_rotation_by_reload(server):
    """A key is added, signs, and goes, in sessions that stay connected; no restart."""
    sign = "SELECT tenantcall.sign_token(%s, NULL, '1 minute')"
    with server.connect(autocommit=True) as admin, \
            server.connect(role="app", autocommit=True) as app:
        assert [enter(app, token(k)) for k in ("k1", "k2", "k3")] == [COMPANY, COMPANY, "PT401"]
        assert kid_of(admin.execute(sign, [COMPANY]).fetchone()[0]) == "k2"

        write_keys(server, "k2", "k3")
        assert enter(app, token("k1")) == COMPANY, "a session keeps its keys until the reload"
        reload(server, admin, app)
        assert [enter(app, token(k)) for k in ("k1", "k2", "k3")] == ["PT401", COMPANY, COMPANY]

        write_keys(server, "k3")
        reload(server, admin, app)
        assert [enter(app, token(k)) for k in ("k1", "k2", "k3")] == ["PT401", "PT401", COMPANY]
        assert kid_of(admin.execute(sign, [COMPANY]).fetchone()[0]) == "k3"

        # the same name with another secret is another key
        write_keys(server, text=f"k3 {SECRETS['k4']}\n")
        reload(server, admin, app)
        assert enter(app, token("k3")) == "PT401"
        assert enter(app, token("k3", secret=SECRETS["k4"])) == COMPANY


BAD_TEXTS = {
    "empty": "",
    "comments only": "# nothing\n",
    "short secret": "k1 tooshort\n",
    "no secret": "k1\n",
    "bad name": f"k/1 {SECRETS['k1']}\n",
    "twice": f"k1 {SECRETS['k1']}\nk1 {SECRETS['k2']}\n",
    "three words": f"k1 {SECRETS['k1']} {SECRETS['k2']}\n",
    "too many": "".join(f"n{n} {SECRETS['k1']}\n" for n in range(9)),
    "too large": f"k1 {SECRETS['k1']}\n#" + "x" * 20000,
    "binary": f"k1 {SECRETS['k1']}\0\n",
}


def check_refused(server, app, admin, what):
    """The file is refused with one clear error, whose reason only an admin and the log get."""
    shown = key_error(app)
    assert shown is not None and shown.sqlstate == CONFIG_FILE_ERROR, what
    assert shown.diag.message_detail == "The reason is in the server log.", what
    assert "key_file" in shown.diag.message_hint, what
    reason = key_error(admin).diag.message_detail
    assert reason != shown.diag.message_detail and reason.endswith("."), what
    assert reason in server.log(), what
    for secret in SECRETS.values():
        assert secret not in reason, what
    return reason


def test_bad_files(server):
    """What the file must not be; once it is mended, the next use finds it so."""
    with server.connect(autocommit=True) as admin, \
            server.connect(role="app", autocommit=True) as app:
        for what, text in BAD_TEXTS.items():
            write_keys(server, text=text)
            reload(server, admin, app)
            check_refused(server, app, admin, what)
            write_keys(server, "k1")
            assert enter(app, token("k1")) == COMPANY, "mended without another reload"


def test_bad_permissions(server):
    """Nobody but the server's user may reach the file."""
    with server.connect(autocommit=True) as admin, \
            server.connect(role="app", autocommit=True) as app:
        for mode in (0o644, 0o640, 0o620, 0o610, 0o604, 0o602, 0o660, 0o666):
            server.key_file.chmod(mode)
            reload(server, admin, app)
            assert "access" in check_refused(server, app, admin, oct(mode))
        server.key_file.chmod(0o400)
        assert enter(app, token("k1")) == COMPANY


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_owner(server):
    """A file of root may be readable for the server's group; one of a third party is refused."""
    group = server.key_file.stat().st_gid
    with server.connect(autocommit=True) as admin, \
            server.connect(role="app", autocommit=True) as app:
        os.chown(server.key_file, 12345, group)
        server.key_file.chmod(0o640)
        reload(server, admin, app)
        assert "owned" in check_refused(server, app, admin, "foreign")
        os.chown(server.key_file, 0, group)
        assert enter(app, token("k1")) == COMPANY
        server.key_file.chmod(0o600)
        reload(server, admin, app)
        assert "Permission denied" in check_refused(server, app, admin, "closed to the server")
        server.key_file.chmod(0o644)
        assert "access" in check_refused(server, app, admin, "open to all")


def test_not_a_file(server):
    """No setting, no file, a directory, a pipe (which must not be waited for); then other ways."""
    pipe = server.dir / "pipe"
    places = {"": "is empty", str(server.dir / "nothing"): "No such file",
              str(server.data): "not a regular file", str(pipe): "not a regular file"}
    os.mkfifo(pipe)
    server._own(pipe)
    with server.connect(autocommit=True) as admin, \
            server.connect(role="app", autocommit=True) as app:
        for place, reason in places.items():
            reload(server, admin, app, **{"tenantcall.key_file": place})
            assert reason in check_refused(server, app, admin, place)
            assert enter(app, "not a token") == "PT401", "a fault of the token stays one"
        shutil.copy2(server.key_file, server.data / "keys")
        server._own(server.data / "keys")
        reload(server, admin, app, **{"tenantcall.key_file": "keys"})
        assert enter(app, token("k1")) == COMPANY, "relative to the data directory"
        (server.data / "link").symlink_to(server.key_file)
        reload(server, admin, app, **{"tenantcall.key_file": "link"})
        assert enter(app, token("k1")) == COMPANY, "a link to a file that is as it must be"


def test_token_from_standard_library(server):
    """Python's hmac and json, which also write integers and spaces their own way."""
    with server.connect(role="app", autocommit=True) as app:
        assert enter(app, token("k1")) == COMPANY
        assert enter(app, token("k1", claims(role="app", nbf=int(time.time()), jti="x"))) == COMPANY
        assert enter(app, token("k1", claims(role="other"))) == "PT401"
        assert enter(app, token("k1", claims("template1"))) == "PT401"
        assert enter(app, token("k1", claims(sub="Müller", list=[1, {"a": None}]))) == COMPANY


def test_token_from_pyjwt(server):
    """A stock library (Debian: python3-jwt): its tokens are taken, and it takes ours."""
    jwt = pytest.importorskip("jwt")
    made = jwt.encode(claims(), SECRETS["k1"], algorithm="HS256", headers={"kid": "k1"})
    none = jwt.encode(claims(), None, algorithm="none", headers={"kid": "k1"})
    hs512 = jwt.encode(claims(), SECRETS["k1"], algorithm="HS512", headers={"kid": "k1"})
    swapped = jwt.encode(claims(), SECRETS["k1"], algorithm="HS256", headers={"kid": "k2"})
    with server.connect(role="app", autocommit=True) as app:
        assert enter(app, made) == COMPANY
        assert [enter(app, bad) for bad in (none, hs512, swapped)] == ["PT401"] * 3
    ours = server.sql("SELECT tenantcall.sign_token(7, 9, '1 hour', 'app')")
    read = jwt.decode(ours, SECRETS["k2"], algorithms=["HS256"], audience="postgres")
    assert (read["company_id"], read["branch_id"], read["role"]) == (7, 9, "app")
    assert jwt.get_unverified_header(ours) == {"alg": "HS256", "typ": "JWT", "kid": "k2"}


NODE = """
const {createHmac} = require('crypto');
const part = value => Buffer.from(JSON.stringify(value)).toString('base64url');
const [secret, claims] = process.argv.slice(1);
const signed = part({alg: 'HS256', kid: 'k1'}) + '.' + part(JSON.parse(claims));
console.log(signed + '.' + createHmac('sha256', secret).update(signed).digest('base64url'));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")
def test_token_from_node(server):
    """Another language."""
    done = subprocess.run(["node", "-e", NODE, SECRETS["k1"], json.dumps(claims())],
                          capture_output=True, text=True, check=True)
    with server.connect(role="app", autocommit=True) as app:
        assert enter(app, done.stdout.strip()) == COMPANY


def test_reasons_in_the_log_only(server):
    """Clients get one answer; the log tells why, and neither secret nor token, even at debug5."""
    server.reload(log_min_messages="debug5", log_error_verbosity="verbose")
    now = int(time.time())
    faults = {
        "not three base64url parts": "x.y.z",
        "header is not": token("k1").replace("ey", "fy", 1),
        "no such key": token("k3"),
        "signature does not fit": token("k1", secret=SECRETS["k2"]),
        "claims are missing": token("k1", {"company_id": COMPANY, "exp": now + 60}),
        "made for another database": token("k1", claims("other")),
        "made for another role": token("k1", claims(role="other")),
        "expired": token("k1", claims(exp=now - 60)),
        "not valid yet": token("k1", claims(nbf=now + 60)),
    }
    with server.connect(role="app", autocommit=True) as app:
        reload(server, app)
        answers = set()
        for text in faults.values():
            for statement, arguments in (("SELECT tenantcall.enter_token(%s)", [text]),
                                         (f"SELECT tenantcall.enter_token('{text}')", None)):
                with pytest.raises(psycopg.Error) as raised:
                    app.execute(statement, arguments)
                diag = raised.value.diag
                answers.add((diag.sqlstate, diag.message_primary, diag.message_detail,
                             diag.message_hint, diag.context))
        assert len(answers) == 1
        assert enter(app, token("k1")) == COMPANY
    signed = server.sql("SELECT tenantcall.sign_token(7, NULL, '1 minute')")
    log = server.log()
    assert "DEBUG:" in log
    for reason in faults:
        assert log.count(f"Reason: {reason}") == 2, reason
    for text in [*SECRETS.values(), *faults.values(), signed]:
        assert text not in log
