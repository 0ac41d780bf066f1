"""Whatever comes in: an outcome with its reason, or an error with SQLSTATE; and nothing written
but the quarantine record where one is due."""
import json
import time

import psycopg
import pytest

from calls import SECRET, House, fixture, ingest, message, raw, sign

WRITTEN = """SELECT (SELECT count(*) FROM telephony.calls), (SELECT count(*) FROM telephony.call_events),
       (SELECT count(*) FROM telephony.function_calls), (SELECT count(*) FROM telephony.tenant_decisions WHERE kind <> 'enter'),
       (SELECT count(*) FROM tenantcall.call_bindings), (SELECT count(*) FROM tenantcall.quarantine)"""


@pytest.fixture
def house(db, role):
    """Two companies, a gateway, an app and an admin."""
    made = House(db, role("gateway"), role("app"), role("admin"))
    made.company()
    made.company()
    return made


@pytest.fixture
def gateway(house):
    """A connection of the gateway."""
    with house.connect() as conn:
        yield conn


@pytest.fixture
def admin(house):
    """A connection of the superuser."""
    with house.db.connect(autocommit=True) as conn:
        yield conn


def call(conn, function, body, signature=None, **arguments):
    """Calls a function with a body; returns the row as a dict."""
    data = raw(body)
    named = "".join(f", {name} => %s" for name in arguments)
    cursor = conn.execute(f"SELECT * FROM tenantcall.{function}(%s::bytea, %s{named})",
                          [data, signature or sign(data), *arguments.values()])
    return dict(zip([c.name for c in cursor.description], cursor.fetchone()))


def outcome(row):
    """Outcome and reason."""
    return row["outcome"], row["reason"]


def sqlstate(conn, statement, params=None):
    """The SQLSTATE of a statement that must fail, and whether it helps."""
    with pytest.raises(psycopg.Error) as raised:
        conn.execute(statement, params)
    return raised.value.sqlstate


def event(house, call_id, **changes):
    """A call_started of the first company."""
    return message("call_started", call_id, to_number=house.numbers[house.companies[0]][0], **changes)


NONSENSE = {
    b"": "invalid_json",
    b" ": "invalid_json",
    b"{": "invalid_json",
    b"nonsense": "invalid_json",
    b'{"event": "call_started"} trailing': "invalid_json",
    b"[]": "not_an_object",
    b"[1, 2]": "not_an_object",
    b"null": "not_an_object",
    b"17": "not_an_object",
    b'"text"': "not_an_object",
    b"{}": "no_event",
    b'{"event": null}': "no_event",
    b'{"event": 1}': "no_event",
    b'{"event": ""}': "no_event",
    b'{"event": ["call_started"]}': "no_event",
    b'{"event": "' + b"x" * 10000 + b'"}': "no_event",
    b'{"event": "call_started"}': "no_call",
    b'{"event": "call_started", "call": null}': "no_call",
    b'{"event": "call_started", "call": []}': "no_call",
    b'{"event": "call_started", "call": "x"}': "no_call",
    b'{"event": "call_started", "call": {}}': "no_call_id",
    b'{"event": "call_started", "call": {"call_id": ""}}': "no_call_id",
    b'{"event": "call_started", "call": {"call_id": 5}}': "no_call_id",
    b'{"event": "call_started", "call": {"call_id": "' + b"y" * 10000 + b'"}}': "no_call_id",
    b'{"event": "chat_started", "chat": {"chat_id": "c"}}': "no_call",
    b'{"event": "call_inbound", "call": {"call_id": "c"}}': "not_a_call_event",
    b"\xff\xfe": "invalid_utf8",
    b'{"event": "call_started", "call": {"call_id": "\xc3\x28"}}': "invalid_utf8",
    b'{"event": "x\x00y"}': "invalid_utf8",
    b'{"event": "a\\u0000b"}': "invalid_value",
    b'{"event": "\\ud800"}': "invalid_json",
    b'{"event": "\\udc00\\ud800"}': "invalid_json",
    b"[" * 100000: "invalid_value",
    b'{"a":' * 100000: "invalid_value",
    b"[" * 2000 + b"]" * 2000: "not_an_object",
}


def test_nonsense(gateway, admin):
    """Authentic bodies that are no event are kept raw, once, with the reason; forged ones are not."""
    for number, (body, reason) in enumerate(NONSENSE.items()):
        assert outcome(ingest(gateway, body, sign(body, "other key"))) == ("rejected", "forged")
        assert admin.execute(WRITTEN).fetchone() == (0, 0, 0, 0, 0, number)
        for _ in range(2):
            got = ingest(gateway, body)
            assert outcome(got) == ("quarantined", reason), body[:80]
            assert got["company_id"] is None
        assert admin.execute(WRITTEN).fetchone() == (0, 0, 0, 0, 0, number + 1)
        assert admin.execute("SELECT reason, body, deliveries, verified_for FROM tenantcall.quarantine "
                             "ORDER BY quarantine_id DESC LIMIT 1").fetchone() == (reason, body, 2, None)


def test_nonsense_for_the_other_functions(gateway, admin, house):
    """The inbound webhook and function calls take nonsense as calmly."""
    functions = {"answer_inbound_call": lambda g: g["outcome"],
                 "accept_function_call": lambda g: g["outcome"]}
    for body in NONSENSE:
        for function, what in functions.items():
            assert what(call(gateway, function, body, sign(body, "other"))) == "rejected"
            assert what(call(gateway, function, body)) == "unknown", (function, body[:80])
    assert admin.execute(WRITTEN).fetchone() == (0, 0, 0, 0, 0, 2 * len(NONSENSE))
    reject = {"call_inbound": {"reject": True}}
    assert call(gateway, "answer_inbound_call", b"[")["answer"] == reject
    for inbound in (None, [], "x", {}, {"to_number": None}, {"to_number": 3}, {"to_number": ""},
                    {"to_number": "030 1234"}, {"to_number": "anonymous"}, {"to_number": "+4930555"}):
        got = call(gateway, "answer_inbound_call", {"event": "call_inbound", "call_inbound": inbound})
        assert got == {"outcome": "unknown", "answer": reject}
    for name, args in (("agent", "a" * 10000), ("call", "c" * 10000)):
        got = call(gateway, "accept_function_call", b'{"a": 1}', **{name: args})
        assert outcome(got) == ("unknown", "argument_too_long")
    body = fixture("function_check_availability")
    for change, expected in (({"call_id": None}, "no_call_id"), ({"call_id": "x" * 10000}, "no_call_id"),
                             ({"to_number": "+4930555"}, "number_not_assigned")):
        got = call(gateway, "accept_function_call", {**body, "call": {**body["call"], **change}})
        assert outcome(got) == ("unknown", expected)
    assert outcome(call(gateway, "accept_function_call", {**body, "name": "n" * 10000})) == \
        ("unknown", "no_name")


WRONG = [None, True, 17, -1, 1.5, "", "text", [], [1], {}, {"a": 1}]


def test_wrong_types_in_every_field(gateway, house):
    """A value of an unexpected type counts as absent; only what identifies the call is needed."""
    fields = list(fixture("call_analyzed")["call"])
    company = house.companies[0]
    for field in fields:
        if field in ("call_id", "to_number"):
            continue
        for number, value in enumerate(WRONG):
            body = message("call_analyzed", f"{field} {number}",
                           to_number=house.numbers[company][0])
            body["call"][field] = value
            got = ingest(gateway, body)
            if field == "start_timestamp" and value == -1 or field == "end_timestamp" and value == -1:
                assert outcome(got) == ("quarantined", "invalid_value")
            elif field == "call_type" and value == "web_call":
                continue
            elif field == "start_timestamp" and value == 17:
                assert outcome(got) == ("quarantined", "number_not_assigned"), "in the year 1970"
            elif field == "start_timestamp" and value == 1.5:
                assert outcome(got) == ("quarantined", "number_not_assigned")
            else:
                assert outcome(got) == ("merged", "held_until_end"), (field, value)
                assert got["company_id"] == company


def test_numbers_out_of_range(gateway, house):
    """Times that no call has; a cost may be any number."""
    for text in ("1e400", "-1e400", "9223372036854775807", "9223372036854775808", "-5",
                 "253402300800000"):
        for field in ("start_timestamp", "end_timestamp"):
            body = json.dumps(event(house, "range", **{field: "@"})).replace('"@"', text)
            assert outcome(ingest(gateway, body)) == ("quarantined", "invalid_value")
        body = json.dumps(event(house, "duration", duration_ms="@")).replace('"@"', text)
        assert ingest(gateway, body.replace("call_started", "call_ended"))["outcome"] == \
            ("applied" if text == "-5" else "quarantined")
        body = json.dumps(event(house, f"cost {text}", call_cost={"combined_cost": "@"}))
        body = body.replace('"@"', text).replace("call_started", "call_ended")
        assert ingest(gateway, body)["outcome"] == "applied"


def test_a_large_body(gateway, admin, house):
    """10 MB: kept if authentic, without being parsed; refused if forged; both in reasonable time."""
    body = json.dumps(event(house, "large", transcript="x" * 10_000_000)).encode()
    started = time.monotonic()
    assert outcome(ingest(gateway, body, sign(body, "other"))) == ("rejected", "forged")
    assert admin.execute(WRITTEN).fetchone() == (0, 0, 0, 0, 0, 0)
    assert outcome(ingest(gateway, body)) == ("quarantined", "body_too_large")
    assert admin.execute(WRITTEN).fetchone() == (0, 0, 0, 0, 0, 1)
    assert call(gateway, "answer_inbound_call", body)["outcome"] == "unknown"
    assert outcome(call(gateway, "accept_function_call", body)) == ("unknown", "body_too_large")
    assert time.monotonic() - started < 30


def test_signatures(gateway, admin, house):
    """Wrong length, key, form or time; the edges of the window belong to it."""
    body = raw(event(house, "signed"))
    at = "2026-06-01 12:00:00+00"
    ms = 1780315200000
    good = sign(body, at=ms)
    assert good.startswith("v=1780315200000,d=")
    cases = {
        "": "no_signature", "x": "malformed_signature", good[:-1]: "malformed_signature",
        good + "0": "malformed_signature", " " + good: "malformed_signature",
        good.replace("v=", "v=-"): "malformed_signature", "v=,d=" + "0" * 64: "malformed_signature",
        good.upper(): "malformed_signature", "v=1" + "0" * 30 + ",d=" + "0" * 64: "malformed_signature",
        "é" * 40: "malformed_signature",
        good[:-1] + ("0" if good[-1] != "0" else "1"): "forged",
        sign(body, "other", ms): "forged", sign(body + b" ", at=ms): "forged",
        sign(body, at=ms - 300001): "stale_signature", sign(body, at=ms + 300001): "stale_signature",
        sign(body, "other", ms - 300001): "stale_signature",
    }
    for header, reason in cases.items():
        row = gateway.execute("SELECT outcome, reason FROM tenantcall.ingest_retell(%s::bytea, %s, %s)",
                              [body, header, at]).fetchone()
        assert row == ("rejected", reason), header
    assert gateway.execute("SELECT outcome, reason FROM tenantcall.ingest_retell(%s::bytea, NULL, %s)",
                           [body, at]).fetchone() == ("rejected", "no_signature")
    assert gateway.execute("SELECT outcome, reason FROM tenantcall.ingest_retell(NULL::text, %s, %s)",
                           [good, at]).fetchone() == ("rejected", "no_body")
    assert admin.execute(WRITTEN).fetchone() == (0, 0, 0, 0, 0, 0)
    # the number was not yet assigned then, which shows that the signature was taken
    for shift in (-300000, 0, 300000):
        row = gateway.execute("SELECT outcome FROM tenantcall.ingest_retell(%s::bytea, %s, %s)",
                              [body, sign(body, at=ms + shift), at]).fetchone()
        assert row[0] != "rejected"
    for bad in ("NULL", "'infinity'", "'-infinity'"):
        assert sqlstate(gateway, f"SELECT tenantcall.ingest_retell('x'::text, 'y', {bad})") in \
            ("22004", "22008")
    for far in ("294276-12-31 23:59:59+00", "4714-11-24 00:00:00+00 BC"):
        assert gateway.execute("SELECT reason FROM tenantcall.ingest_retell(%s::bytea, %s, %s)",
                               [body, good, far]).fetchone() == ("stale_signature",)


def test_text_and_bytea_agree(gateway, house):
    """The two forms of each function do the same."""
    body = raw(event(house, "both", transcript="Grüße 😀"))
    query = "SELECT outcome, call_id FROM tenantcall.ingest_retell(%s::{}, %s)"
    first = gateway.execute(query.format("bytea"), [body, sign(body)]).fetchone()
    second = gateway.execute(query.format("text"), [body.decode(), sign(body)]).fetchone()
    assert (first[0], second[0]) == ("applied", "duplicate") and first[1] == second[1]


def test_suspended_company(gateway, admin, house):
    """Its events are taken in; new calls and function calls are refused, with a record."""
    company = house.companies[0]
    admin.execute("SELECT tenantcall.set_company_status(%s, 'suspended', 'unpaid')", [company])
    assert outcome(ingest(gateway, event(house, "suspended"))) == ("applied", None)
    inbound = fixture("call_inbound")
    inbound["call_inbound"]["to_number"] = house.numbers[company][0]
    assert call(gateway, "answer_inbound_call", inbound) == \
        {"outcome": "suspended", "answer": {"call_inbound": {"reject": True}}}
    body = fixture("function_check_availability")
    body["call"].update(call_id="suspended")
    got = call(gateway, "accept_function_call", body)
    assert outcome(got) == ("suspended", "company_suspended") and got["args"] is None
    assert admin.execute("SELECT kind, outcome FROM telephony.tenant_decisions WHERE outcome = "
                         "'suspended' ORDER BY decision_id").fetchall() == \
        [("inbound", "suspended"), ("function_call", "suspended")]
    assert admin.execute("SELECT count(*) FROM telephony.function_calls").fetchone() == (0,)


BATCH = ("SELECT i.n, r.outcome, r.reason, tenantcall.current_company_id() FROM inbox AS i, "
         "tenantcall.ingest_retell(i.body, i.signature) AS r ORDER BY i.n")


def fill_inbox(gateway, bodies):
    """Puts bodies into a table of the gateway's own."""
    gateway.execute("CREATE TEMP TABLE inbox (n int, body bytea, signature text)")
    for number, body in enumerate(bodies):
        gateway.execute("INSERT INTO inbox VALUES (%s, %s, %s)", [number, raw(body), sign(body)])


def poison(admin):
    """Makes the tables refuse one call, as a DBA's own constraint might."""
    admin.execute("ALTER TABLE telephony.calls ADD CONSTRAINT poisoned "
                  "CHECK (from_number <> '+49666666666')")


def test_a_poisoned_batch(gateway, admin, house):
    """One event that the tables refuse does not stop the others, and is kept."""
    poison(admin)
    fill_inbox(gateway, [event(house, "b0"), event(house, "b1", from_number="+49666666666"), b"[",
                         event(house, "b3")])
    assert gateway.execute(BATCH).fetchall() == [
        (0, "applied", None, None), (1, "quarantined", "not_applicable", None),
        (2, "quarantined", "invalid_json", None), (3, "applied", None, None)]
    assert admin.execute(WRITTEN).fetchone() == (2, 2, 0, 2, 2, 2)
    assert admin.execute("SELECT detail FROM tenantcall.quarantine WHERE reason = 'not_applicable'"
                         ).fetchone()[0].find("poisoned") > 0
    admin.execute("ALTER TABLE telephony.calls DROP CONSTRAINT poisoned")
    assert gateway.execute("SELECT outcome, company_id FROM tenantcall.replay_quarantined() "
                           "ORDER BY quarantine_id").fetchall() == \
        [("applied", house.companies[0]), ("quarantined", None)]


def test_cancelling_is_not_content(gateway, admin, house):
    """statement_timeout inside of an event raises, even through a handler around it, and undoes."""
    admin.execute("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
                  "$$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$")
    admin.execute("CREATE TRIGGER slow AFTER INSERT ON telephony.call_events FOR EACH ROW "
                  "EXECUTE FUNCTION slow()")
    body = raw(event(house, "slow"))
    gateway.execute("SET statement_timeout = '300ms'")
    assert sqlstate(gateway, "SELECT tenantcall.ingest_retell(%s::bytea, %s)",
                    [body, sign(body)]) == "57014"
    gateway.execute("CREATE TEMP TABLE mine (x int)")
    gateway.execute("CREATE FUNCTION pg_temp.caught(b bytea, s text) RETURNS text LANGUAGE plpgsql AS $$"
                    "BEGIN INSERT INTO mine VALUES (1); PERFORM tenantcall.ingest_retell(b, s); "
                    "RETURN 'not cancelled'; EXCEPTION WHEN query_canceled THEN "
                    "RETURN coalesce(tenantcall.current_company_id()::text, current_user); END $$")
    got = gateway.execute("SELECT pg_temp.caught(%s::bytea, %s)", [body, sign(body)]).fetchone()
    assert got == (house.gateway,)
    gateway.execute("RESET statement_timeout")
    assert gateway.execute("SELECT count(*) FROM mine").fetchone() == (0,), "undone by the handler"
    with gateway.transaction():
        gateway.execute("SELECT tenantcall.enter(%s)", [house.companies[1]])
        gateway.execute("SET LOCAL statement_timeout = '300ms'")
        gateway.execute("SELECT pg_temp.caught(%s::bytea, %s)", [body, sign(body)])
        assert gateway.execute("SELECT tenantcall.current_company_id(), (SELECT count(*) FROM mine)"
                               ).fetchone() == (house.companies[1], 0)
    assert admin.execute(WRITTEN).fetchone() == (0, 0, 0, 0, 0, 0)


def functions(admin):
    """The extension's functions: signature, name, argument types."""
    return admin.execute(
        "SELECT p.oid::regprocedure::text, p.proname, p.proargtypes::regtype[]::text[] FROM pg_proc AS p "
        "JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' "
        "JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'tenantcall' "
        "WHERE p.prokind = 'f' AND NOT 'internal' = ANY (p.proargtypes::regtype[]::text[]) "
        "AND NOT 'cstring' = ANY (p.proargtypes::regtype[]::text[]) "
        "AND coalesce(obj_description(p.oid, 'pg_proc'), '') NOT LIKE 'internal:%' "
        "AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype) ORDER BY 1").fetchall()


REFUSALS = {"22004", "22023", "22008", "22007", "22P02", "39004", "PT401", "PT403", "PT404", "PT409",
            "PT429", "42704", "42P01", "42501", "55000", "25P01", "25001", "0A000", "22003", "42602",
            "3F000", "42809", "42703", "42710", "F0000", "22021", "2BP01", "42P06", "23502", "23514",
            "42883", "42846", "0LP01", "42P22"}


def test_null_and_empty_arguments_everywhere(house, admin):
    """Every function, NULL in every argument, and each text empty: no crash, no internal error."""
    log = house.db.cluster.log()
    unexpected = []
    total = 0
    with house.db.connect() as conn:
        for signature, name, types in functions(admin):
            if name == "create_tables":
                continue
            textual = {"text", "name", "bytea", "jsonb"}
            literals = [["NULL::" + t for t in types],
                        ["''::" + t if t in textual - {"jsonb"} else "NULL::" + t for t in types],
                        ["'0'::" + t if t in ("bigint", "integer") else "NULL::" + t for t in types],
                        ["'-1'::" + t if t in ("bigint", "integer") else
                         "'x'::" + t if t in textual - {"jsonb"} else "NULL::" + t for t in types]]
            for arguments in literals:
                for entered in (False, True):
                    total += 1
                    try:
                        conn.execute("BEGIN")
                        if entered:
                            conn.execute("SELECT tenantcall.enter(%s)", [house.companies[0]])
                        conn.execute(f"SELECT tenantcall.{name}({', '.join(arguments)})")
                    except psycopg.Error as error:
                        if error.sqlstate not in REFUSALS:
                            unexpected.append((signature, arguments, error.sqlstate, str(error)))
                    conn.rollback()
    assert total > 400
    assert unexpected == []
    new = house.db.cluster.log()[len(log):]
    assert "PANIC" not in new and "terminated by signal" not in new and "TRAP" not in new


def test_not_preloaded(make_cluster):
    """CREATE EXTENSION works, and everything that needs the library says what to do."""
    server = make_cluster(template=False, shared_preload_libraries=None)
    server.sql("CREATE EXTENSION tenantcall")
    with server.connect(autocommit=True) as conn:
        for statement in ("SELECT tenantcall.enter(1)", "SELECT tenantcall.resolve_phone('+4930')",
                          "SELECT tenantcall.ingest_retell('x'::text, 'y')",
                          "SELECT tenantcall.answer_inbound_call('x'::text, 'y')",
                          "SELECT tenantcall.accept_function_call('x'::text, 'y')",
                          "SELECT tenantcall.finish_function_call(1, 'x', NULL)",
                          "SELECT tenantcall.replay_quarantined()",
                          "SELECT tenantcall.create_company('x', 'DE', 'UTC')",
                          "SELECT tenantcall.assign_number('+4930', 1, 1)",
                          "SELECT tenantcall.release_number('+493012345')",
                          "SELECT tenantcall.assign_agent('x', 1)", "SELECT tenantcall.release_agent('x')",
                          "SELECT tenantcall.set_company_status(1, 'active')",
                          "SELECT tenantcall.set_webhook_key('retell', 'a', 'b')",
                          "SELECT tenantcall.drop_webhook_key('retell', 'a')",
                          "SELECT tenantcall.set_credential('a', 'b', 'https://c')"):
            conn.execute("BEGIN")
            with pytest.raises(psycopg.Error) as raised:
                conn.execute(statement)
            assert raised.value.sqlstate == "55000", statement
            assert "shared_preload_libraries" in raised.value.diag.message_hint, statement
            conn.execute("ROLLBACK")


def test_another_version(house, admin):
    """SQL objects of another version are refused, with both versions named."""
    admin.execute("UPDATE pg_extension SET extversion = '0.0.9' WHERE extname = 'tenantcall'")
    with house.connect() as conn:
        for statement in (f"SELECT tenantcall.enter({house.companies[0]})",
                          "SELECT tenantcall.ingest_retell('x'::text, 'y')",
                          "SELECT tenantcall.resolve_phone('+4930')"):
            conn.execute("BEGIN")
            with pytest.raises(psycopg.Error) as raised:
                conn.execute(statement)
            assert raised.value.sqlstate == "55000"
            assert "0.0.9" in str(raised.value) and "ALTER EXTENSION" in raised.value.diag.message_hint
            conn.execute("ROLLBACK")


def test_missing_key_file(make_cluster):
    """Without a key file nothing is stored, and the error says which file is missing."""
    server = make_cluster()
    server.create_database("keyless")
    server.key_file.rename(server.key_file.with_suffix(".away"))
    with server.connect(dbname="keyless", autocommit=True) as conn:
        for statement in ("SELECT tenantcall.set_webhook_key('retell', 'a', 'b')",
                          "SELECT tenantcall.set_credential('a', 'b', 'https://c')"):
            with pytest.raises(psycopg.Error) as raised:
                conn.execute(statement)
            assert raised.value.sqlstate == "F0000" and raised.value.diag.message_hint
        assert conn.execute("SELECT count(*) FROM tenantcall.secrets").fetchone() == (0,)
        # no key is known: everything is rejected, nothing is an error
        body = b"{}"
        assert conn.execute("SELECT outcome, reason FROM tenantcall.ingest_retell(%s::bytea, %s)",
                            [body, sign(body)]).fetchone() == ("rejected", "no_key_fits")


def test_secrets_in_no_log(make_cluster):
    """At debug5, with all statements and plans logged, only what clients sent themselves shows."""
    server = make_cluster(log_min_messages="debug5", log_statement="all", debug_print_plan="on",
                          debug_print_parse="on", log_parameter_max_length_on_error="-1",
                          log_error_verbosity="verbose", track_activity_query_size="16384")
    server.create_database("quiet")
    server.sql("CREATE ROLE gateway LOGIN; ")
    server.sql("SELECT tenantcall.grant_gateway('gateway')", dbname="quiet")
    # what comes in a parameter is not logged if the server is told so
    with server.connect(dbname="quiet", autocommit=True) as admin:
        admin.execute("SET log_parameter_max_length = 0")
        admin.execute("SET log_parameter_max_length_on_error = 0")
        admin.execute("SET debug_print_parse = off")
        admin.execute("SET debug_print_plan = off")
        admin.execute("SELECT tenantcall.set_webhook_key('retell', 'k', %s)", [SECRET])
        admin.execute("SELECT tenantcall.set_credential('c', %s, 'https://api.cal.com')", ["cal_" + SECRET])
    with server.connect(dbname="quiet", role="gateway", autocommit=True) as conn:
        conn.execute("SET client_min_messages = debug5")
        notices = []
        conn.add_notice_handler(lambda diag: notices.append(diag.message_primary or ""))
        for secret in (SECRET, "wrong"):
            body = b'{"event": "x"}'
            conn.execute("SELECT * FROM tenantcall.ingest_retell(%s::bytea, %s)", [body, sign(body, secret)])
        for name in ("secrets", "quarantine", "call_bindings"):
            assert sqlstate(conn, f"SELECT * FROM tenantcall.{name}") == "42501"
    log = server.log()
    assert "DEBUG:" in log
    for form in (SECRET, SECRET.encode().hex()):
        assert form not in log
        assert not any(form in notice for notice in notices)
    keys = [line.split()[1] for line in server.key_file.read_text().splitlines()]
    assert not any(key in log for key in keys)
