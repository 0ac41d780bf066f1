"""Clients and poolers: the examples of README.md under attack, directly and through PgBouncer."""
import json

import psycopg
import pytest

import clients
from client_stage import KEY, NUMBERS, ClientStage
from pooler import Pooler
from retell import inbound, sign

WAYS = ("direct", "session", "transaction")


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
    try:
        told = json.loads(stage.run(language, stage.attack_text(language, way), way, given=given))
    except clients.Unavailable as reason:
        pytest.skip(str(reason))
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


def pooled_prepares(stage):
    """Does this PgBouncer know prepared statements in transaction mode?  It does from 1.21 on."""
    with stage.pooler.connect("pgbouncer", dbname="pgbouncer", autocommit=True, prepare_threshold=None) as conn:
        version = conn.pgconn.parameter_status(b"server_version")
    return [int(part) for part in version.decode().split("/")[0].split(".")[:2]] >= [1, 21]
