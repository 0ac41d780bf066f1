"""Work across companies leaves nothing behind: no context, no identity, no memory; and nobody's
code runs under it."""
import json

import psycopg
import pytest

from calls import SECRET, House, ingest, message, raw, sign

HERE = "SELECT current_user::text, tenantcall.current_company_id(), current_setting('search_path')"
CALL = "SELECT outcome FROM tenantcall.ingest_retell(%s::bytea, %s)"


@pytest.fixture
def house(db, role):
    """Two companies and a gateway that may make tables in a schema of its own."""
    made = House(db, role("gateway"))
    made.company()
    made.company()
    db.sql(f"CREATE SCHEMA mine AUTHORIZATION {made.gateway}; "
           f"GRANT {made.gateway} TO postgres")
    return made


def event(house, call_id, which=1, name="call_started", **changes):
    """An event of the second company, as arguments of CALL."""
    body = raw(message(name, call_id, to_number=house.numbers[house.companies[which]][0], **changes))
    return [body, sign(body)]


@pytest.fixture
def gateway(house):
    """A connection of the gateway."""
    with house.connect() as conn:
        conn.execute("SET search_path = mine, public")
        yield conn


@pytest.fixture
def admin(house):
    """A connection of the superuser."""
    with house.db.connect(autocommit=True) as conn:
        yield conn


def test_the_callers_context_stays(house, gateway):
    """A gateway that entered one company takes in another's events, and calls, meanwhile."""
    one = house.companies[0]
    before = (house.gateway, one, "mine, public")
    with gateway.transaction():
        gateway.execute("SELECT tenantcall.enter(%s)", [one])
        assert gateway.execute(HERE).fetchone() == before
        assert gateway.execute(CALL, event(house, "a")).fetchone() == ("applied",)
        assert gateway.execute(HERE).fetchone() == before
        assert gateway.execute("SELECT count(*) FROM telephony.calls").fetchone() == (0,)
        assert gateway.execute(CALL, event(house, "b", which=0)).fetchone() == ("applied",)
        assert gateway.execute("SELECT provider_call_id FROM telephony.calls").fetchall() == [("b",)]
        for bad in ([b"[", sign(b"[")], [b"[", "x"]):
            gateway.execute(CALL, bad)
            assert gateway.execute(HERE).fetchone() == before
        gateway.execute("SELECT tenantcall.replay_quarantined()")
        assert gateway.execute(HERE).fetchone() == before
    assert gateway.execute(HERE).fetchone() == (house.gateway, None, "mine, public")


def test_errors_caught_by_plpgsql(house, gateway, admin):
    """Handlers and savepoints around our functions: identity, context and settings are back."""
    admin.execute("CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS "
                  "$$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '53100'; END $$")
    admin.execute("CREATE TRIGGER fail AFTER INSERT ON telephony.call_events FOR EACH ROW "
                  "WHEN (new.body LIKE '%%full%%') EXECUTE FUNCTION public.fail()".replace("%%", "%"))
    gateway.execute("CREATE TABLE mine.log (n int)")
    gateway.execute("CREATE FUNCTION mine.try(statement text) RETURNS text LANGUAGE plpgsql AS $$ "
                    "BEGIN INSERT INTO mine.log VALUES (1); EXECUTE statement; RETURN 'done'; "
                    "EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$")
    one = house.companies[0]
    before = (house.gateway, one, "mine, public")
    body, signature = event(house, "full")
    failing = f"SELECT tenantcall.ingest_retell(decode('{body.hex()}', 'hex'), '{signature}')"
    with gateway.transaction():
        gateway.execute("SELECT tenantcall.enter(%s)", [one])
        for statement, expected in (
                (failing, "53100"), ("SELECT tenantcall.enter(999999)", "PT404"),
                (f"SELECT tenantcall.enter({house.companies[1]})", "PT403"),
                ("SELECT tenantcall.finish_function_call(%d, 'x', NULL)" % house.companies[1], "PT404"),
                ("SELECT tenantcall.ingest_retell('x'::text, 'y', 'infinity')", "22008")):
            for _ in range(3):
                assert gateway.execute("SELECT mine.try(%s)", [statement]).fetchone() == (expected,)
                assert gateway.execute(HERE).fetchone() == before
                gateway.execute("SAVEPOINT s")
                with pytest.raises(psycopg.Error):
                    gateway.execute(statement)
                gateway.execute("ROLLBACK TO s")
                assert gateway.execute(HERE).fetchone() == before
        # what a handler undid stays undone, and what came after it stays
        assert gateway.execute("SELECT count(*) FROM mine.log").fetchone() == (0,)
        gateway.execute("INSERT INTO mine.log VALUES (2)")
    assert gateway.execute("SELECT n FROM mine.log").fetchall() == [(2,)]
    assert admin.execute("SELECT count(*) FROM telephony.calls").fetchone() == (0,)


def test_savepoints_around_ingestion(house, gateway, admin):
    """A rollback to a savepoint takes the event back, and nothing else."""
    with gateway.transaction():
        gateway.execute(CALL, event(house, "a"))
        gateway.execute("SAVEPOINT s")
        assert gateway.execute(CALL, event(house, "b")).fetchone() == ("applied",)
        gateway.execute("ROLLBACK TO s")
        assert gateway.execute(CALL, event(house, "c")).fetchone() == ("applied",)
        assert gateway.execute(HERE).fetchone()[:2] == (house.gateway, None)
    assert admin.execute("SELECT provider_call_id FROM telephony.calls ORDER BY 1").fetchall() == \
        [("a",), ("c",)]


SPY = """
CREATE TABLE mine.seen (what text, who text, company bigint, calls bigint);
CREATE FUNCTION mine.spy() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO mine.seen VALUES (TG_TABLE_NAME || ' ' || TG_NAME, current_user,
        tenantcall.current_company_id(), (SELECT count(*) FROM telephony.calls));
    RETURN NULL;
END $$;
"""


def test_deferred_triggers_of_the_caller(house, gateway, admin):
    """The caller's deferred trigger does not run while we act, but at commit, as the caller."""
    one = house.companies[0]
    gateway.execute(SPY)
    gateway.execute("CREATE TABLE mine.trap (x int)")
    gateway.execute("CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON mine.trap "
                    "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION mine.spy()")
    for entered in (None, one):
        gateway.execute("DELETE FROM mine.seen")
        with gateway.transaction():
            if entered:
                gateway.execute("SELECT tenantcall.enter(%s)", [entered])
            gateway.execute("INSERT INTO mine.trap VALUES (1)")
            assert gateway.execute(CALL, event(house, f"x {entered}")).fetchone() == ("applied",)
            assert gateway.execute("SELECT count(*) FROM mine.seen").fetchone() == (0,)
        assert gateway.execute("SELECT who, company, calls FROM mine.seen").fetchall() == \
            [(house.gateway, entered, 0)]
    assert admin.execute("SELECT count(*) FROM telephony.calls").fetchone() == (2,)


def test_deferred_constraints_of_a_dba(house, gateway, admin):
    """Those on our tables are checked each under its own company: the caller's before, ours within."""
    one, two = house.companies
    admin.execute(SPY.replace("mine.", "public."))
    admin.execute("GRANT INSERT ON public.seen TO PUBLIC")
    for table in ("customers", "calls"):
        for when in ("deferred", "immediate"):
            admin.execute(f"CREATE CONSTRAINT TRIGGER {when} AFTER INSERT OR UPDATE ON telephony.{table} "
                          f"DEFERRABLE INITIALLY {when} FOR EACH ROW EXECUTE FUNCTION public.spy()")
    seen = "SELECT DISTINCT what, who, company FROM public.seen ORDER BY 1, 2, 3"
    mine = [(f"customers {when}", house.gateway, one) for when in ("deferred", "immediate")]
    ours = [(f"calls {when}", "tenantcall_owner", two) for when in ("deferred", "immediate")]
    customer = "INSERT INTO telephony.customers (name) VALUES ('x')"
    count = "SELECT count(*) FROM public.seen WHERE what = 'customers {}'"
    with gateway.transaction():
        gateway.execute("SELECT tenantcall.enter(%s)", [one])
        gateway.execute(customer)
        assert admin.execute(seen).fetchall() == []
        assert gateway.execute(CALL, event(house, "dba")).fetchone() == ("applied",)
        # now each is as it was declared
        gateway.execute(customer)
        gateway.execute("RESET search_path")
    assert admin.execute(seen).fetchall() == sorted(ours + mine)
    assert admin.execute(count.format("deferred")).fetchone() == (2,)
    # of those of the caller, immediate ones are still immediate after we acted
    admin.execute("TRUNCATE public.seen")
    admin.execute("GRANT SELECT ON public.seen TO PUBLIC")
    with gateway.transaction():
        gateway.execute("SELECT tenantcall.enter(%s)", [one])
        gateway.execute(CALL, event(house, "dba 2"))
        gateway.execute(customer)
        assert [gateway.execute(count.format(w)).fetchone()[0] for w in ("immediate", "deferred")] == \
            [1, 0]
    assert admin.execute(count.format("deferred")).fetchone() == (1,)


def test_a_violated_deferred_constraint(house, gateway, admin):
    """A constraint that our own work violates quarantines that event, and does not hit the caller."""
    admin.execute("ALTER TABLE telephony.calls ADD COLUMN line text")
    admin.execute("CREATE FUNCTION public.never() RETURNS trigger LANGUAGE plpgsql AS "
                  "$$ BEGIN RAISE EXCEPTION 'never' USING ERRCODE = 'check_violation'; END $$")
    admin.execute("CREATE CONSTRAINT TRIGGER never AFTER INSERT ON telephony.calls DEFERRABLE "
                  "INITIALLY DEFERRED FOR EACH ROW WHEN (new.provider_call_id = 'bad') "
                  "EXECUTE FUNCTION public.never()")
    with gateway.transaction():
        assert [gateway.execute(CALL, event(house, call_id)).fetchone()[0]
                for call_id in ("good", "bad", "fine")] == ["applied", "quarantined", "applied"]
        assert gateway.execute(HERE).fetchone()[:2] == (house.gateway, None)
    assert admin.execute("SELECT provider_call_id FROM telephony.calls ORDER BY 1").fetchall() == \
        [("fine",), ("good",)]


def test_cursors_and_loops(house, gateway):
    """Row by row, with other statements in between: no context between the fetches."""
    gateway.execute("CREATE TABLE mine.inbox (n int, body bytea, signature text)")
    for number in range(6):
        gateway.execute("INSERT INTO mine.inbox VALUES (%s, %s, %s)",
                        [number, *event(house, f"c {number}", which=number % 2)])
    query = ("SELECT r.outcome, tenantcall.current_company_id(), current_user::text, "
             "(SELECT count(*) FROM telephony.calls) FROM (SELECT * FROM mine.inbox ORDER BY n) AS i, "
             "tenantcall.ingest_retell(i.body, i.signature) AS r")
    one = house.companies[0]
    for entered, visible in ((None, 0), (one, None)):
        with gateway.transaction():
            if entered:
                gateway.execute("SELECT tenantcall.enter(%s)", [entered])
            gateway.execute(f"DECLARE c CURSOR FOR {query}")
            for _ in range(6):
                row = gateway.execute("FETCH 1 FROM c").fetchone()
                assert row[0] in ("applied", "duplicate")
                assert row[1:3] == (entered, house.gateway)
                assert visible is None or row[3] == visible
                assert gateway.execute(HERE).fetchone()[:2] == (house.gateway, entered)
                assert gateway.execute("SELECT count(*) FROM telephony.calls").fetchone()[0] == \
                    (0 if entered is None else 3)
    gateway.execute("CREATE FUNCTION mine.loop() RETURNS SETOF text LANGUAGE plpgsql AS $$ "
                    "DECLARE r record; BEGIN FOR r IN SELECT x.outcome FROM mine.inbox AS i, "
                    "tenantcall.ingest_retell(i.body, i.signature) AS x LOOP RETURN NEXT r.outcome || "
                    "coalesce(tenantcall.current_company_id()::text, '') || current_user; END LOOP; END $$")
    assert gateway.execute("SELECT DISTINCT mine.loop()").fetchall() == [("duplicate" + house.gateway,)]


def test_from_a_trigger_and_a_definer(house, gateway, admin):
    """Called from a trigger, and from a function of another owner: the identity is that one's again."""
    gateway.execute("CREATE TABLE mine.queue (body bytea, signature text, who text, company bigint)")
    gateway.execute("CREATE FUNCTION mine.take() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                    "PERFORM tenantcall.ingest_retell(new.body, new.signature); "
                    "new.who := current_user; new.company := tenantcall.current_company_id(); "
                    "RETURN new; END $$")
    gateway.execute("CREATE TRIGGER take BEFORE INSERT ON mine.queue FOR EACH ROW EXECUTE FUNCTION mine.take()")
    gateway.execute("INSERT INTO mine.queue VALUES (%s, %s)", event(house, "trigger"))
    assert gateway.execute("SELECT who, company FROM mine.queue").fetchall() == [(house.gateway, None)]
    admin.execute("CREATE FUNCTION public.definer(b bytea, s text) RETURNS text SECURITY DEFINER "
                  "LANGUAGE plpgsql AS $$ BEGIN PERFORM tenantcall.ingest_retell(b, s); "
                  "RETURN current_user; END $$")
    body = event(house, "definer")
    assert gateway.execute("SELECT public.definer(%s::bytea, %s), current_user::text", body).fetchone() == \
        ("postgres", house.gateway)
    assert admin.execute("SELECT count(*) FROM telephony.calls").fetchone() == (2,)
    # decisions name the outer user
    assert admin.execute("SELECT DISTINCT by_role FROM telephony.tenant_decisions "
                         "WHERE kind = 'event'").fetchall() == [(house.gateway,)]


def test_nobodys_operators(house, gateway, admin):
    """Operators, functions, tables and types of the caller's search path are not looked at."""
    gateway.execute("""
        CREATE TABLE mine.caught (who text);
        CREATE FUNCTION mine.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO mine.caught VALUES (current_user); RETURN true; END $$;
        CREATE FUNCTION mine.eq(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO mine.caught VALUES (current_user); RETURN true; END $$;
        CREATE OPERATOR mine.= (LEFTARG = text, RIGHTARG = text, FUNCTION = mine.eq);
        CREATE OPERATOR mine.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = mine.eq);
        CREATE FUNCTION mine.now() RETURNS timestamptz LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO mine.caught VALUES (current_user); RETURN NULL; END $$;
        CREATE FUNCTION mine.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT mine.now()';
        CREATE FUNCTION mine.greatest(timestamptz, timestamptz) RETURNS timestamptz LANGUAGE sql AS 'SELECT mine.now()';
        CREATE FUNCTION mine.jsonb_build_object(VARIADIC "any") RETURNS jsonb LANGUAGE internal AS 'jsonb_build_object';
        """.replace("""        CREATE FUNCTION mine.jsonb_build_object(VARIADIC "any") RETURNS jsonb LANGUAGE internal AS 'jsonb_build_object';
""", ""))
    gateway.execute("CREATE TEMP TABLE companies (company_id bigint)")
    gateway.execute("CREATE TEMP TABLE calls (company_id bigint)")
    with house.connect() as fresh:
        fresh.execute("CREATE TEMP TABLE disconnection_reasons (reason text, state text)")
        fresh.execute("CREATE TEMP TABLE pg_class (oid oid)")
        fresh.execute("SET search_path = pg_temp, mine, pg_catalog")
        for name in ("call_ended", "call_started", "call_analyzed", "call_analyzed"):
            assert fresh.execute(
                "SELECT outcome FROM tenantcall.ingest_retell(%s::bytea, %s, pg_catalog.now())",
                event(house, "op", name=name)).fetchone()[0] in ("applied", "merged", "duplicate")
        fresh.execute("SELECT * FROM tenantcall.answer_inbound_call(%s::bytea, %s, pg_catalog.now())",
                      [b"{}", sign(b"{}")])
        fresh.execute("SELECT tenantcall.resolve_phone(%s)", [house.numbers[house.companies[0]][0]])
        fresh.execute("SELECT tenantcall.replay_quarantined()")
    assert gateway.execute("SELECT count(*) FROM mine.caught").fetchone() == (0,)
    assert admin.execute("SELECT status FROM telephony.calls").fetchall() == [("analyzed",)]


def test_settings_of_the_caller(house, gateway, admin):
    """What a caller may set does not change what is written."""
    admin.execute("GRANT TEMP ON DATABASE \"%s\" TO PUBLIC" % house.db.name)
    rows = set()
    for number, settings in enumerate((
            "SET timezone = 'UTC'", "SET timezone = 'Asia/Kathmandu'; SET datestyle = 'SQL, DMY'",
            "SET intervalstyle = 'iso_8601'; SET bytea_output = 'escape'; SET extra_float_digits = -15",
            "SET row_security = off", "SET transform_null_equals = on; SET standard_conforming_strings = off",
            "SET plan_cache_mode = force_generic_plan", "SET plan_cache_mode = force_custom_plan",
            "SET tenantcall.missing_context = error", "SET enable_indexscan = off; SET enable_bitmapscan = off",
            "SET default_transaction_isolation = 'repeatable read'",
            "SET default_transaction_isolation = 'serializable'", "SET search_path = ''")):
        with house.connect() as conn:
            conn.execute(settings)
            for name in ("call_started", "call_ended", "call_analyzed"):
                body, signature = event(house, f"set {number}", name=name, start_timestamp=1800000000000,
                                        end_timestamp=1800000015000)
                assert conn.execute(CALL, [body, signature]).fetchone() == ("applied",), settings
        rows |= set(admin.execute("SELECT status, started_at, ended_at, duration, cost_cents, from_number "
                                  "FROM telephony.calls WHERE provider_call_id = %s", [f"set {number}"]))
    assert len(rows) == 1
    with house.connect() as conn:
        conn.execute("SET default_transaction_read_only = on")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            conn.execute(CALL, event(house, "read only"))


def test_parallel_queries(house, gateway, admin):
    """Workers see the caller's company, before and after we acted for another one."""
    one = house.companies[0]
    gateway.execute("CREATE TABLE mine.big AS SELECT n, %s::bigint AS company_id "
                    "FROM generate_series(1, 20000) AS n" % one)
    gateway.execute("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; "
                    "SET min_parallel_table_scan_size = 0; SET force_parallel_mode = on"
                    if admin.info.server_version < 160000 else
                    "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; "
                    "SET min_parallel_table_scan_size = 0; SET debug_parallel_query = on")
    query = "SELECT count(*) FROM mine.big WHERE company_id = tenantcall.current_company_id()"
    assert "Workers Planned" in str(gateway.execute("EXPLAIN " + query).fetchall())
    with gateway.transaction():
        gateway.execute("SELECT tenantcall.enter(%s)", [one])
        assert gateway.execute(query).fetchone() == (20000,)
        assert gateway.execute(CALL, event(house, "parallel")).fetchone() == ("applied",)
        assert gateway.execute(query).fetchone() == (20000,)
    assert gateway.execute(query).fetchone() == (0,)


def test_roles_of_one_session(house, admin):
    """Plans made while one role was set serve another, and rights are checked anew."""
    with house.db.connect(autocommit=True) as conn:
        assert conn.execute(CALL, event(house, "r 0")).fetchone() == ("applied",)
        for number in range(8):
            conn.execute(f"SET ROLE {house.gateway}")
            assert conn.execute(CALL, event(house, f"r {number}", which=number % 2,
                                            name="call_ended")).fetchone()[0] in ("applied", "conflict")
            conn.execute("SET ROLE pg_monitor")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(CALL, event(house, "r 0"))
            conn.execute("RESET ROLE")
            assert conn.execute(CALL, event(house, f"r {number}")).fetchone()[0] != "rejected"


def memory_of(conn):
    """The memory of the backend that no other process shares, in kB."""
    pid = conn.execute("SELECT pg_backend_pid()").fetchone()[0]
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
    raise AssertionError("no RssAnon")


@pytest.mark.limit(180)
def test_memory_stays_flat(house, admin):
    """Many thousand calls within one statement."""
    number = house.numbers[house.companies[0]][0]
    template = message("call_started", "CALL", to_number=number)
    text = json.dumps(template).replace("'", "").replace("CALL", "' || n || '")
    signed = ("FROM generate_series(RANGE) AS n, LATERAL (SELECT '%s' || '' AS body) AS b, "
              "tenantcall.retell_signature(b.body, '" + SECRET + "') AS s, ")
    statements = {
        "SELECT count(*) FROM generate_series(RANGE) AS n, "
        f"tenantcall.resolve_phone('{number}')": 100000,
        "SELECT count(r.outcome) " + signed % text + "tenantcall.ingest_retell(b.body, s) AS r": 5000,
        "SELECT count(r.outcome) " + signed % "[' || n || '" + "tenantcall.ingest_retell(b.body, s) AS r":
            10000,
        "SELECT count(r.outcome) FROM generate_series(RANGE) AS n, "
        "tenantcall.ingest_retell('['::text, CASE WHEN n > 0 THEN 'x' END) AS r": 100000,
    }
    for statement, many in statements.items():
        # the first round fills caches and reaches the peak (a transaction keeps 8 kB for each of its
        # subtransactions), so what the second one adds is lost
        memory = []
        for start in (1, many + 1, 2 * many + 1):
            filled = statement.replace("RANGE", f"{start}, {start + many - 1}")
            assert admin.execute(filled).fetchone() == (many,)
            memory.append(memory_of(admin))
        # malloc gives back to the system now and then: only what grows from round to round is lost
        assert memory[2] - max(memory[:2]) < 4000, statement
