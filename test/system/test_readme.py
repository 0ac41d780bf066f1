"""README.md and the pages that follow it: everything in them is run, in order, in one fresh database.

    TC_README=accept test/run --only system readme     takes differing output over into them
"""
import os
import re
import subprocess

import pytest

import clients
import pgserver
from pgserver import REPO
from readme_blocks import CALENDAR, DATABASE, KEY_FILE, README, Block, Reader, all_blocks, tidy

RUN = ("sql", "python", "js", "php", "c")
TINY_JWT = '''
import base64, hashlib, hmac, json
def encode(claims, key, algorithm, headers):
    assert algorithm == "HS256"
    b64 = lambda b: base64.urlsafe_b64encode(b).rstrip(b"=")
    head = {"typ": "JWT", "alg": algorithm, **headers}
    signed = b".".join(b64(json.dumps(part).encode()) for part in (head, claims))
    return (signed + b"." + b64(hmac.new(key.encode(), signed, hashlib.sha256).digest())).decode()
'''


def of_language(language):
    """The blocks in a language."""
    return [block for block in all_blocks() if block.language == language]


def make_calendar(calcom):
    """The account and the event types that README.md speaks of; returns the calendar's address."""
    text = README.read_text()
    key = re.search(rf"set_credential\('[^']*', '([^']*)', '{CALENDAR}'\)", text)[1]
    calcom.account(key)
    for event_type in set(re.findall(r"\b25\d{5}\b", text)):
        calcom.event_type(key, event_type, time_zone="Europe/Berlin")
    return calcom.url


def settings_of_readme():
    """The settings that README.md has in postgresql.conf."""
    return dict(re.findall(r"^([\w.]+) = '([^']*)'", of_language("conf")[0].text, re.M))


def make_keys(cluster):
    """Makes the key file by the commands of README.md."""
    commands = next(b.text for b in of_language("sh") if KEY_FILE in b.text)
    commands = commands.replace(KEY_FILE, str(cluster.key_file))
    user = pgserver.server_user()
    if user is None:
        commands = commands.replace("-o postgres -g postgres ", "")
    else:
        commands = commands.replace("postgres", user.pw_name)
    cluster.key_file.unlink()
    subprocess.run(["sh", "-euc", commands.replace("sudo ", "")], check=True)
    assert cluster.key_file.stat().st_mode & 0o777 == 0o600


@pytest.fixture
def reader(make_cluster, tmp_path, calcom):
    """A newcomer with a new server, configured and given keys as README.md says, and a calendar.

    The calendar is at loopback, which must be allowed, and its limit is not kept, to go faster.
    """
    settings = settings_of_readme()
    assert settings.pop("tenantcall.key_file") == KEY_FILE
    assert settings["tenantcall.worker_databases"] == DATABASE
    cluster = make_cluster(start=False, **settings, **{
        "tenantcall.http_local_hosts": "127.0.0.1", "tenantcall.http_quota": 0})
    make_keys(cluster)
    cluster.start()
    cluster.sql(f"CREATE DATABASE {DATABASE}")
    try:
        import jwt  # noqa: F401
    except ImportError:
        (tmp_path / "jwt.py").write_text(TINY_JWT)
    return Reader(cluster, tmp_path, make_calendar(calcom))


def accept(block, printed):
    """Replaces the output of a block by the error or the last result."""
    text = block.path.read_text()
    start = text.index("```text\n", text.index(f"```{block.language}\n{block.text}```\n"))
    start += len("```text\n")
    assert text[start:].startswith(block.output)
    error = printed.find("ERROR: ")
    results = max(1, block.output.count("?") + block.output.count(" rows)") + block.output.count(" row)"))
    new = printed[error:] if error >= 0 else "\n\n".join(tidy(printed).split("\n\n")[-results:])
    block.path.write_text(text[:start] + tidy(new) + "\n" + text[start + len(block.output):])


@pytest.mark.limit(300)
def test_every_block_runs(reader):
    """Each block of SQL, and each program, ends as is said there, with the output that it shows."""
    faults = []
    for block in all_blocks():
        assert set(block.attributes) <= {"role", "error", "run"}, f"{block.path.name}, line {block.line}"
        if block.language in RUN or "run" in block.attributes:
            try:
                printed, wrong = reader.run(block)
            except clients.Unavailable:
                continue  # test_clients.py says so
            if wrong and block.output is not None and os.environ.get("TC_README") == "accept":
                accept(block, printed)
            elif wrong:
                faults.append(f"{block.path.name}, line {block.line}: {wrong}")
    assert not faults, "\n\n".join(faults)


def test_commands_exist():
    """Each make goal, script and package of the shell blocks exists; nothing else is in them."""
    packages = (REPO / "test/setup/packages").read_text()
    for block in of_language("sh"):
        if KEY_FILE in block.text or "run" in block.attributes:
            continue  # run by the other test
        for line in block.text.split("\n"):
            words = line.split(" #")[0].removeprefix("sudo ").split()
            if words[:1] == ["make"]:
                subprocess.run(["make", "-n", *words[1:]], cwd=REPO, check=True,
                               stdout=subprocess.DEVNULL, env=pgserver.environment())
            elif words[:1] and words[0].startswith("test/"):
                assert os.access(REPO / words[0], os.X_OK), words[0]
            elif words[:2] == ["apt", "install"]:
                for package in (word for word in words[2:] if not word.startswith("./")):
                    if package.startswith("./build/deb/"):
                        continue  # made by make deb, in the line before
                    assert re.sub(r"-\d+$", "-", package) in packages, package
            else:
                assert words[:1] in ([], ["systemctl"]) or words[:2] == ["-u", "postgres"], line


def test_languages():
    """There are no blocks that nobody runs."""
    assert {block.language for block in all_blocks()} <= {*RUN, "sh", "conf", "mermaid"}


def test_deviations_are_noticed(reader):
    """The reader complains of errors, of errors that stay away, and of other output."""
    good = [("SELECT 1 AS n;", {}, " n\n---\n 1\n(1 row)\n"), ("SELECT 1 / 0;", {"error": "22012"}, None),
            ("BEGIN;\nSELECT 1 / 0;\nCOMMIT;", {"error": "22012"}, None)]
    bad = [("SELECT 1 AS n;", {}, " n\n---\n 2\n(1 row)\n"), ("SELECT 1 / 0;", {}, None),
           ("SELECT 1 / 0;", {"error": "22013"}, None), ("SELECT 1;", {"error": "22012"}, None),
           ("SELECT 1 / 0;\nSELECT 1 / 0;", {"error": "22012"}, None), ("COMMIT;", {}, None),
           ("\\nonsense", {}, None)]
    for text, attributes, output in good + bad:
        wrong = reader.run(Block(README, 1, "sql", attributes, text + "\n", output))[1]
        assert (wrong is None) == ((text, attributes, output) in good), (text, wrong)
    assert reader.run(Block(README, 1, "python", {}, "1 / 0\n", None))[1] is not None
