"""Clients and poolers: the examples of README.md under attack, directly and through PgBouncer."""
import http.client
import json
import re
import subprocess

import psycopg
import pytest

import clients
from client_stage import KEY, NUMBERS, ClientStage
from pgserver import Failure
from pooler import Pooler
from retell import inbound, sign

WAYS = ("direct", "session", "transaction")
pytestmark = pytest.mark.limit(240)  # the first program of each language may wait for npm


@pytest.fixture(scope="module")
def stage(workspace, install):
    """Server, roles, tables, companies, pooler."""
    made = ClientStage(workspace, install)
    yield made
    made.close()


@pytest.fixture
def way(request, stage):
    """How a client connects."""
    if request.param != "direct" and stage.pooler is None:
        pytest.skip("pgbouncer is not installed")
    return request.param


def run(stage, *arguments, **options):
    """Runs a program, if its language is there."""
    try:
        return stage.run(*arguments, **options)
    except clients.Unavailable as reason:
        pytest.skip(str(reason))


def each_way(*ways):
    """Runs a test once for each way to connect."""
    return pytest.mark.parametrize("way", ways or WAYS, indirect=True)


@pytest.mark.parametrize("language", ["js", "python", "php"])
@each_way()
def test_example_under_attack(stage, language, way):
    """The example takes in any bytes, keeps companies apart over one pool, and loses no error."""
    messages = stage.messages()
    given = {"messages": [(body.hex(), signature) for (body, signature), _ in messages],
             "tokens": stage.tokens, "companies": stage.companies}
    told = json.loads(run(stage, language, stage.attack_text(language, way), way, given=given))
    assert told == {
        "statuses": [status for _, status in messages], "seen": [[1], [2]],
        "no_begin": "25P01", "bad_token": "PT401", "in_the_middle": "22012", "second_company": "PT403",
        "without": 0, "right": 32, "failed": 8, "bigint": ["9007199254740993", 1, "00ff"]}
    assert stage.sql("SELECT count(*) FROM notes WHERE body = 'half'") == "0"


@each_way()
def test_pipeline_example_under_attack(stage, way):
    """The same of libpq's pipeline mode, where an error comes amid statements that are sent already."""
    messages = stage.messages()
    text = stage.attack_text("c", way)
    tasks = [word for (body, signature), _ in messages for word in ("receive", body.hex(), signature)]
    first, second = stage.tokens
    tasks += ["see", first, "SELECT 'a', body FROM notes", "see", first, "SELECT 1 / 0",
              "see", first + "x", "SELECT 1", "see", second, "SELECT 'b', body FROM notes",
              "see", first, f"SELECT tenantcall.enter_token('{second}')"]
    assert stage.run("c", text, way, *tasks).split("\n") == [
        *[str(status) for _, status in messages], "a note of Acme", "ok", "failed", "failed",
        "b note of Bolt", "ok", "failed", ""]


@each_way()
@pytest.mark.parametrize("statements, told", [
    (["SELECT tenantcall.enter_token('{0}')", "SELECT count(*) FROM notes"], ["25P01", "PGRES_PIPELINE_ABORTED", "0"]),
    (["BEGIN", "SELECT count(*) FROM notes", "SELECT tenantcall.enter_token('{0}')", "SELECT count(*) FROM notes", "COMMIT"],
     ["PGRES_COMMAND_OK", "0", "", "1", "PGRES_COMMAND_OK", "0"]),
    (["BEGIN", "SELECT tenantcall.enter_token('{0}')", "INSERT INTO notes (body) VALUES ('half')", "SELECT 1 / 0", "COMMIT"],
     ["PGRES_COMMAND_OK", "", "PGRES_COMMAND_OK", "22012", "PGRES_PIPELINE_ABORTED", "3"]),
    (["BEGIN", "SELECT tenantcall.enter_token('{0}')", "COMMIT", "SELECT count(*) FROM notes"],
     ["PGRES_COMMAND_OK", "", "PGRES_COMMAND_OK", "0", "0"]),
], ids=["no BEGIN", "enter late", "error amid", "after COMMIT"])
def test_pipelines(stage, way, statements, told):
    """What a pipeline may get wrong: it sees less, never more."""
    statements = [text.format(*stage.tokens) for text in statements]
    assert stage.run("c", stage.attack_text("c", way), way, "pipeline", *statements).split("\n")[:-1] == told
    assert stage.sql("SELECT count(*) FROM notes WHERE body = 'half'") == "0"


@each_way("session", "transaction")
def test_abandoned_transaction(stage, way):
    """A client that goes away within its transaction leaves no context to the next one."""
    for n in range(6):
        conn = stage.connect("desk_app", way)
        conn.execute("SELECT tenantcall.enter_token(%s)", [stage.tokens[n % 2]])
        conn.execute("INSERT INTO notes (body) VALUES ('half')")
        conn.pgconn.finish()
        with stage.connect("desk_app", way, autocommit=True) as after:
            assert after.execute("SELECT count(*), tenantcall.current_company_id() FROM notes").fetchone() == (0, None)
    assert stage.sql("SELECT count(*) FROM notes WHERE body = 'half'") == "0"


def autocommit_calls(stage):
    """What needs no transaction block: statements, with the outcomes that they must have."""
    call = stage.call()
    ring, started, question = inbound(NUMBERS[0]), call.started(), call.function("tool_1")
    return [("SELECT outcome FROM tenantcall.answer_inbound_call(%b, %s)", [ring, sign(ring, KEY)], "accepted"),
            ("SELECT outcome FROM tenantcall.ingest_retell(%b, %s)", [started, sign(started, KEY)], "applied"),
            ("SELECT outcome FROM tenantcall.accept_function_call(%b, %s)", [question, sign(question, KEY)], "run"),
            ("SELECT tenantcall.finish_function_call(1, %s, '{}')", [f"{call.call_id}/tool_1"], ""),
            ("SELECT outcome FROM tenantcall.accept_function_call(%b, %s)", [question, sign(question, KEY)], "replay"),
            ("SELECT company_id FROM tenantcall.resolve_phone(%s)", [NUMBERS[1]], 2),
            ("SELECT allowed FROM tenantcall.take_for(2, 'function_call')", [], True),
            ("SELECT count(*) FROM notes", [], 0)]


@each_way("direct", "session", "transaction", "statement")
def test_autocommit_functions(stage, way):
    """What the platform's messages need works in autocommit mode, and so behind any pooler."""
    with stage.connect("desk_gateway", way, autocommit=True, prepare_threshold=None) as conn:
        for statement, parameters, outcome in autocommit_calls(stage):
            assert conn.execute(statement, parameters).fetchone()[0] == outcome, statement
        with pytest.raises(psycopg.errors.NoActiveSqlTransaction):
            conn.execute("SELECT tenantcall.enter(%s)", [1])


@each_way("statement")
def test_statement_mode(stage, way):
    """Statement mode has no transaction blocks; one message of several statements is one by itself."""
    with stage.connect("desk_gateway", way, autocommit=True) as conn:
        conn.execute("SELECT tenantcall.enter(1); INSERT INTO notes (body) VALUES ('at once')")
        assert conn.execute("SELECT count(*), tenantcall.current_company_id() FROM notes").fetchone() == (0, None)
        with pytest.raises(psycopg.Error, match="transaction blocks not allowed"):
            conn.execute("BEGIN")
    assert stage.sql("DELETE FROM notes WHERE body = 'at once' RETURNING company_id") == "1"


def knows_prepared():
    """Does this PgBouncer keep track of prepared statements?  It does from 1.24 on, if not told otherwise."""
    told = subprocess.run([Pooler.program(), "--version"], capture_output=True, text=True, check=True).stdout
    return [int(part) for part in re.search(r"(\d+)\.(\d+)", told).groups()] >= [1, 24]


def turns(conns, tokens, count):
    """Transactions of two clients in turn, for two companies; the companies that each saw."""
    seen = []
    for n in range(count):
        with conns[n % 2].transaction():
            conns[n % 2].execute("SELECT tenantcall.enter_token(%s)", [tokens[n % 2]])
            seen += conns[n % 2].execute("SELECT DISTINCT company_id FROM notes").fetchone()
    return seen


@each_way()
@pytest.mark.parametrize("threshold", [None, 0], ids=["unprepared", "prepared"])
def test_prepared_statements(stage, way, threshold):
    """A prepared statement is planned anew for each company; in transaction mode there must be none."""
    conns = [stage.connect("desk_app", way, autocommit=True, prepare_threshold=threshold) for _ in range(2)]
    if way == "transaction" and threshold == 0 and not knows_prepared():
        with pytest.raises((psycopg.errors.DuplicatePreparedStatement, psycopg.errors.InvalidSqlStatementName)):
            turns(conns, stage.tokens, 40)
    else:
        assert turns(conns, stage.tokens, 40) == stage.companies * 20
    for conn in conns:
        conn.close()


PDO_KINDS = """<?php
$options = ['native' => [], 'emulated' => [PDO::ATTR_EMULATE_PREPARES => true],
            'unnamed' => [PDO::PGSQL_ATTR_DISABLE_PREPARES => true]][$argv[1]];
$conns = [new PDO('pgsql:user=desk_gateway', options: $options), new PDO('pgsql:user=desk_gateway', options: $options)];
[[$body, $signature]] = json_decode(getenv('TC_GIVEN'));
foreach ($conns as $n => $conn) {
    $queries[$n] = $conn->prepare("SELECT outcome || $n FROM tenantcall.ingest_retell(?::bytea, ?)");
    $queries[$n]->bindValue(1, hex2bin($body), PDO::PARAM_LOB);
    $queries[$n]->bindValue(2, $signature);
}
foreach ([0, 1, 0, 1, 0, 1] as $n) {
    $queries[$n]->execute();
    echo $queries[$n]->fetchColumn(), ' ';
}
"""


@pytest.mark.parametrize("kind", ["native", "emulated", "unnamed"])
@each_way()
def test_pdo_prepares(stage, way, kind):
    """Bytes arrive whole in each of PDO's ways to bind.

    Behind a pooler in transaction mode two clients have the same names for their own prepared
    statements: PDO then runs that of the other one, and says nothing.
    """
    binary = b"\x00\xff\\'" + kind.encode() + way.encode()
    try:
        told = run(stage, "php", PDO_KINDS, way, kind, given=[[binary.hex(), sign(binary, KEY)]])
    except Failure as failure:
        told = str(failure)
    unsafe = (way, kind) == ("transaction", "native") and not knows_prepared()
    assert (told == "quarantined0 quarantined1 " * 3) != unsafe, told


NAMED = """
const { Client } = require('pg');
async function main() {
  const conns = [new Client({ user: 'desk_gateway' }), new Client({ user: 'desk_gateway' })];
  for (const conn of conns) await conn.connect();
  const seen = new Set();
  for (let n = 0; n < 10; n++)
    for (const conn of conns)
      seen.add((await conn.query({ name: process.argv[2], text: 'SELECT company_id AS n FROM tenantcall.resolve_phone($1)',
        values: [process.argv[3]] })).rows[0].n);
  console.log([...seen].join(' '));
  for (const conn of conns) await conn.end();
}
main().catch((error) => { console.log(error.code); process.exit(0); });
"""


@each_way()
@pytest.mark.parametrize("name", ["", "named"])
def test_node_prepares(stage, way, name):
    """node-postgres names no statements unless told to."""
    told = run(stage, "js", NAMED, way, name, NUMBERS[1]).strip()
    refused = (way, name) == ("transaction", "named") and not knows_prepared()
    assert told in (("42P05", "26000") if refused else ("2",))


def sdk(stage, tasks):
    """What the vendor's SDK says to [body, key] (a signature) or [body, key, signature] (true or false)."""
    try:
        packages = clients.node_modules(stage.dir)
    except clients.Unavailable as reason:
        pytest.skip(str(reason))
    done = subprocess.run(["node", clients.SOURCES / "sign.js"], input=json.dumps(tasks), capture_output=True,
                          text=True, check=True, env=stage.environment(NODE_PATH=packages))
    return json.loads(done.stdout)


BODIES = ["{}", '{"a":1}', '{"name":"Jürgen Groß 🦷"}', '{ "a" : 1.0 }\\n', '{"a":"\\\\u0000"}', "", "x" * 100_000]


def test_signatures_of_the_sdk(stage):
    """What the vendor's SDK signs is authentic here, and what we sign is to the SDK; to the byte."""
    signed = sdk(stage, [[body, KEY] for body in BODIES])
    with stage.connect("desk_gateway", autocommit=True) as conn:
        for body, signature in zip(BODIES, signed):
            told = {}
            for sent in (body.encode(), body.encode() + b" "):
                told[sent], = conn.execute("SELECT outcome FROM tenantcall.ingest_retell(%b, %s)", [sent, signature]).fetchone()
            assert list(told.values()) == ["quarantined", "rejected"], (body[:40], told)
    with stage.connect("postgres") as conn:
        ours = [conn.execute("SELECT tenantcall.retell_signature(%s::text, %s)", [body, KEY]).fetchone()[0] for body in BODIES]
    assert all(sdk(stage, [[body, KEY, signature] for body, signature in zip(BODIES, ours)]))
    assert not any(sdk(stage, [[body + " ", KEY, signature] for body, signature in zip(BODIES, ours)]))


class Receiver:
    """test/clients/receiver.js, running."""

    def __init__(self, stage, **environment):
        packages = clients.node_modules(stage.dir)
        self.log = stage.dir / f"receiver{id(self)}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["node", clients.SOURCES / "receiver.js"], stdout=log, stderr=log,
                env={**stage.environment(NODE_PATH=packages, PGUSER="desk_gateway", RECEIVER_PORT=0, RECEIVER_PATIENCE=60000), **environment})
        self.port = int(stage.cluster.wait_until(
            lambda: re.search(r"listening on port (\d+)", self.log.read_text()), "the receiver")[1])

    def send(self, path, body=b"", signature="", method="POST"):
        """A request; returns (status, headers, parsed body or None)."""
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=90)
        try:
            conn.request(method, path, body, {"x-retell-signature": signature, "content-type": "application/json"})
            response = conn.getresponse()
            text = response.read()
            return response.status, dict(response.getheaders()), json.loads(text) if text else None
        finally:
            conn.close()

    def stop(self):
        """Asks it to end; returns its exit code."""
        self.process.terminate()
        return self.process.wait(30)


@pytest.fixture(scope="module")
def receiver(stage):
    """The receiver, in front of the stage's server; it ends by itself when asked to, and logs no content."""
    try:
        made = Receiver(stage)
    except clients.Unavailable as reason:
        pytest.skip(str(reason))
    yield made
    assert made.stop() == 0
    log = made.log.read_text().split("\n", 1)[1]
    assert "/retell/events 204 applied" in log
    for secret in (NUMBERS[0][1:], "2137771234", "Jürgen", "call_", KEY, "d=", "transcript"):
        assert secret not in log, f"the log of the receiver has {secret}"


def signed(stage, body):
    """A body with the signature that the vendor's SDK gives it."""
    return body, sdk(stage, [[body.decode(), KEY]])[0]


def test_receiver_events(stage, receiver):
    """Events are taken in, once; what is not the platform's is refused, and nothing else is."""
    call = stage.call()
    started, signature = signed(stage, call.started(transcript="Jürgen"))
    assert receiver.send("/retell/events", started, signature)[0] == 204
    assert receiver.send("/retell/events", started, signature)[0] == 204
    assert stage.sql(f"SELECT status, company_id FROM telephony.calls WHERE provider_call_id = '{call.call_id}'") == "ongoing|1"
    assert receiver.send("/retell/events", *signed(stage, call.ended()))[0] == 204
    assert stage.sql(f"SELECT status FROM telephony.calls WHERE provider_call_id = '{call.call_id}'") == "completed"
    junk = bytes(range(256))
    assert receiver.send("/retell/events", junk, sign(junk, KEY))[0] == 204
    for body, given in ((started + b" ", signature), (started, ""), (started, "v=1,d=0"), (b"", "")):
        assert receiver.send("/retell/events", body, given)[0] == 401


def test_receiver_inbound(stage, receiver):
    """The phone rings: the answer is that of the company whose number it is; a forged request gets none."""
    for company, number in zip(("Acme", "Bolt"), NUMBERS):
        status, _, answer = receiver.send("/retell/inbound", *signed(stage, inbound(number)))
        assert (status, answer["call_inbound"]["dynamic_variables"]["company_name"]) == (200, company)
    status, _, answer = receiver.send("/retell/inbound", inbound(NUMBERS[0]), "v=1,d=forged")
    assert (status, answer) == (401, None)
    status, _, answer = receiver.send("/retell/inbound", *signed(stage, inbound("+4930999999")))
    assert status == 200 and "Acme" not in json.dumps(answer)


def test_receiver_functions(stage, receiver):
    """A function runs in the company of its call, once; a retry gets the same answer."""
    for company in (0, 1):
        call = stage.call(company)
        assert receiver.send("/retell/events", *signed(stage, call.started()))[0] == 204
        question = signed(stage, call.function("t1", {}, name="opening_hours"))
        first = receiver.send("/retell/function", *question)
        assert (first[0], first[2]) == (200, {"opening_hours": [
            {"weekday": company + 1, "opens": "08:00:00", "closes": "17:00:00"}]})
        stage.sql(f"DELETE FROM telephony.opening_hours WHERE company_id = {company + 1}")  # it is not run again
        assert receiver.send("/retell/function", *question)[2] == first[2]
        assert receiver.send("/retell/function", question[0], "v=1,d=forged")[0] == 401
        unknown = signed(stage, call.function("t2", {}, name="constructor"))
        assert receiver.send("/retell/function", *unknown)[::2] == (200, {"error": "unknown_function"})


def test_receiver_limits(stage, receiver):
    """A company over its limit is answered 429 with the time to come again."""
    with stage.connect("desk_admin", autocommit=True) as admin:
        admin.execute("SELECT tenantcall.set_rate_policy('function_call', 1, '1 hour', company_id => 2)")
        call = stage.call(1)
        receiver.send("/retell/events", *signed(stage, call.started()))
        answers = [receiver.send("/retell/function", *signed(stage, call.function(f"t{n}", {}, name="x"))) for n in range(3)]
        admin.execute("SELECT tenantcall.drop_rate_policy('function_call', company_id => 2)")
    assert answers[2][0] == 429
    assert int(answers[2][1]["Retry-After"]) > 0


def test_receiver_refuses(stage, receiver):
    """Paths, methods and lengths that are not the platform's; and it goes on."""
    assert receiver.send("/")[0] == 404
    assert receiver.send("/constructor")[0] == 404
    assert receiver.send("/retell/events", method="GET")[0] == 405
    assert receiver.send("/retell/events", b"x" * (5 * 1024 * 1024), sign(b"x", KEY))[0] == 413
    assert receiver.send("/retell/events", *signed(stage, stage.call().started()))[0] == 204


def test_receiver_without_database(stage, receiver):
    """Without a database the platform is asked to send again; with it, all is well."""
    cut_off = Receiver(stage, PGPORT="1")
    started, signature = signed(stage, stage.call().started())
    status, headers, answer = cut_off.send("/retell/events", started, signature)
    assert (status, headers["Retry-After"], answer) == (503, "1", None)
    assert cut_off.stop() == 0
    stage.sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'retell receiver'")
    stage.cluster.wait_until(lambda: receiver.send("/retell/events", started, signature)[0] == 204, "the receiver to connect again")
