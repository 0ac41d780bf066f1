"""The faults of the application that tenantcall replaces the inside of.

Each test states a property, shows that a few lines which do what the application did fail it, and
that ours has it.  Of a naive version only the fault counts: everything else about it is charitable.
"""
import itertools
import json

import psycopg
import pytest
from retell import Call, arguments_at_root, encode, fixture, inbound
from world import KEY

A, B, UNKNOWN = "+4930700001", "+4930700002", "+4930799999"
GUESSES = ("call_1", "current", "None", "null", "undefined", "0", "")


class Naive:
    """The application's way, in its own schema and as its own almighty database user."""

    def __init__(self, conn):
        self.conn = conn
        self.run("""
            CREATE SCHEMA app;
            CREATE TABLE app.numbers (number text PRIMARY KEY, company_id bigint);
            CREATE TABLE app.calls (call_id text PRIMARY KEY, company_id bigint, status text,
                                    seen timestamptz DEFAULT clock_timestamp());""")

    def run(self, statements):
        """Runs statements."""
        self.conn.execute(statements)

    def value(self, query, *params):
        """The one value that a query gives."""
        return self.conn.execute(query, params).fetchone()[0]


@pytest.fixture
def naive(db):
    """The application's way."""
    return Naive(db.connect(autocommit=True))


@pytest.fixture
def two(world):
    """Two companies; the first has id 1, as in the application."""
    pair = world.company("Alpha", Main=A), world.company("Beta", Main=B)
    assert pair[0].id == 1
    return pair


def sqlstate_of(conn, statement, params=None):
    """The SQLSTATE by which a statement is refused, or None."""
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(statement, params)
    except psycopg.Error as error:
        return error.sqlstate
    return None


# --- call → company -------------------------------------------------------------------------------


def test_unknown_number_is_not_company_1(world, two, naive):
    """A number that nobody owns leads to nobody."""
    naive.run("""
        INSERT INTO app.numbers VALUES ('+4930700001', 1), ('+4930700002', 2);
        CREATE FUNCTION app.company_of(text) RETURNS bigint LANGUAGE sql AS
        $$ SELECT coalesce((SELECT company_id FROM app.numbers WHERE number = $1), 1) $$""")
    assert naive.value("SELECT app.company_of(%s)", B) == 2
    assert naive.value("SELECT app.company_of(%s)", UNKNOWN) is not None

    gateway = world.gateway()
    call = Call("call_unknown", to=UNKNOWN)
    ring = gateway.ring(inbound(UNKNOWN))
    assert (ring["outcome"], ring["answer"]) == ("unknown", {"call_inbound": {"reject": True}})
    for body in (call.started(), call.ended(), call.analyzed()):
        told = gateway.event(body)
        assert (told["outcome"], told["reason"]) == ("quarantined", "number_not_assigned")
        assert (told["company_id"], told["call_id"]) == (None, None)
    asked = gateway.function(call.function("t"))
    assert (asked["outcome"], asked["company_id"]) == ("unknown", None)
    assert world.signer.execute("SELECT count(*) FROM tenantcall.resolve_phone(%s)",
                                [UNKNOWN]).fetchone() == (0,)
    assert sqlstate_of(world.signer, "SELECT tenantcall.enter_phone(%s)", [UNKNOWN]) == "PT404"
    for company in two:
        assert world.see(company, "SELECT (SELECT count(*) FROM telephony.calls), (SELECT count(*) "
                                  "FROM telephony.tenant_decisions WHERE kind <> 'enter')") == [(0, 0)]


def test_ids_of_an_agent_are_not_guessed_from(world, two, naive):
    """An id that a language model made up leads to nobody, whoever is on the phone."""
    naive.run("""
        INSERT INTO app.calls VALUES ('live', 2, 'ongoing');
        CREATE FUNCTION app.company_of(text) RETURNS bigint LANGUAGE sql AS $$
        SELECT coalesce((SELECT company_id FROM app.calls WHERE call_id = $1),
                        (SELECT company_id FROM app.calls WHERE status = 'ongoing'
                         ORDER BY seen DESC LIMIT 1)) $$""")
    assert all(naive.value("SELECT app.company_of(%s)", guess) == 2 for guess in GUESSES)

    gateway = world.gateway()
    alive = Call("live", to=B)
    assert gateway.event(alive.started())["company_id"] == two[1].id
    for guess in GUESSES:
        asked = gateway.function(arguments_at_root(guess=guess), call=guess)
        assert (asked["outcome"], asked["company_id"]) == ("unknown", None), guess
        body = fixture("function_check_availability")
        body["call"] = {"call_id": guess}
        asked = gateway.function(encode(body))
        assert (asked["outcome"], asked["company_id"]) == ("unknown", None), guess
    # nor does an id among the arguments, even that of a real call, move a call to its company
    mine = Call("mine", to=A)
    gateway.event(mine.started())
    asked = gateway.function(mine.function("t", {"call_id": "live", "company_id": two[1].id}))
    assert (asked["outcome"], asked["company_id"]) == ("run", two[0].id)
    assert world.see(two[1], "SELECT count(*) FROM telephony.function_calls") == [(0,)]


def test_function_call_before_call_started(world, two, naive):
    """The tenant of a function call does not hang on an event that may come later, or never."""
    naive.run("""
        CREATE FUNCTION app.company_of(text) RETURNS bigint LANGUAGE plpgsql AS $$
        DECLARE found bigint;
        BEGIN
            FOR attempt IN 1 .. 3 LOOP
                SELECT company_id INTO found FROM app.calls WHERE call_id = $1;
                EXIT WHEN found IS NOT NULL;
                PERFORM pg_sleep(0.05);
            END LOOP;
            RETURN found;
        END $$""")
    assert naive.value("SELECT app.company_of('early')") is None
    asked = world.gateway().function(Call("early", to=B).function("t"))
    assert (asked["outcome"], asked["company_id"]) == ("run", two[1].id)


def test_call_is_not_moved_by_a_number(world, two, naive):
    """A call that has a company keeps it, whatever number a later event names."""
    naive.run("""
        INSERT INTO app.numbers VALUES ('+4930700001', 1), ('+4930700002', 2);
        CREATE FUNCTION app.ingest(text, text) RETURNS bigint LANGUAGE sql AS $$
        INSERT INTO app.calls SELECT $1, company_id, 'ongoing' FROM app.numbers WHERE number = $2
        ON CONFLICT (call_id) DO UPDATE SET company_id = excluded.company_id RETURNING company_id $$""")
    assert naive.value("SELECT app.ingest('c', %s)", A) == 1
    assert naive.value("SELECT app.ingest('c', %s)", B) == 2

    gateway = world.gateway()
    assert gateway.event(Call("c", to=A).started())["company_id"] == two[0].id
    told = gateway.event(Call("c", to=B).ended())
    assert (told["outcome"], told["reason"]) == ("conflict", "names_another_tenant")
    assert world.see(two[0], "SELECT provider_call_id, status FROM telephony.calls") == [("c", "ongoing")]
    assert world.see(two[1], "SELECT count(*) FROM telephony.calls") == [(0,)]
    assert world.see(two[0], "SELECT kind, outcome, source, reason FROM telephony.tenant_decisions "
                             "WHERE outcome = 'conflict'") == \
        [("event", "conflict", "binding", "names_another_tenant")]


def test_every_decision_is_on_record(world, two, naive):
    """Which tenant, and from what source, can be asked afterwards: a line in a log cannot."""
    naive.run("""
        CREATE FUNCTION app.company_of(text) RETURNS bigint LANGUAGE plpgsql AS $$
        BEGIN RAISE LOG 'resolved % to company 1', $1; RETURN 1; END $$""")
    naive.value("SELECT app.company_of(%s)", A)
    assert naive.value("SELECT count(*) FROM app.calls WHERE company_id = 1") == 0

    gateway = world.gateway()
    world.agent(two[0], "agent_alpha", "Main")
    gateway.ring(inbound(A))
    gateway.event(Call("in", to=A).started())
    gateway.event(Call("out", to=A, outbound=True).not_connected())
    gateway.event(Call("web", web=True, agent="agent_alpha").started_web())
    assert world.see(two[0], "SELECT kind, outcome, source, provider_call_id, by_role "
                             "FROM telephony.tenant_decisions WHERE kind <> 'enter' "
                             "ORDER BY decision_id") == [
        ("inbound", "accepted", "to_number", None, world.roles["gateway"]),
        ("event", "placed", "to_number", "in", world.roles["gateway"]),
        ("match", "matched", "window", "in", world.roles["gateway"]),
        ("event", "placed", "from_number", "out", world.roles["gateway"]),
        ("event", "placed", "agent", "web", world.roles["gateway"])]
    assert world.see(two[1], "SELECT count(*) FROM telephony.tenant_decisions "
                             "WHERE kind <> 'enter'") == [(0,)]


def test_anonymous_callers_are_not_one_customer(world, two, naive):
    """Callers who hide their number are not taken for each other."""
    naive.run("""
        CREATE TABLE app.customers (phone text UNIQUE, name text);
        INSERT INTO app.customers VALUES ('anonymous', 'Erika');
        CREATE FUNCTION app.greet(text) RETURNS text LANGUAGE sql AS
        $$ SELECT name FROM app.customers WHERE phone = $1 $$""")
    assert naive.value("SELECT app.greet('anonymous')") == "Erika"

    world.insert(two[0], "customers", "customer_id", name="Erika", phone="+4915100000001")
    gateway = world.gateway()
    for caller, customer in (("+4915100000001", "Erika"), ("anonymous", None), ("unknown", None),
                             ("+4915100000002", None)):
        ring = gateway.ring(inbound(A, caller))
        assert ring["outcome"] == "accepted"
        assert ring["answer"]["call_inbound"]["dynamic_variables"].get("customer_name") == customer
    # the other company does not know her; and a customer cannot be stored under such a name
    assert "customer_name" not in gateway.ring(
        inbound(B, "+4915100000001"))["answer"]["call_inbound"]["dynamic_variables"]
    with pytest.raises(psycopg.errors.CheckViolation):
        world.insert(two[0], "customers", "customer_id", name="Nobody", phone="anonymous")
    assert gateway.event(Call("hidden", to=A, caller="anonymous").started())["outcome"] == "applied"


# --- the life of a call ---------------------------------------------------------------------------

BY_EVENT = """
    CREATE FUNCTION app.ingest(id text, event text, call_status text) RETURNS text LANGUAGE sql AS $$
    INSERT INTO app.calls
    VALUES (id, 1, CASE event WHEN 'call_started' THEN 'ongoing' ELSE 'completed' END)
    ON CONFLICT (call_id) DO UPDATE SET status = excluded.status RETURNING status $$"""
BY_CALL_STATUS = """
    CREATE FUNCTION app.ingest(id text, event text, call_status text) RETURNS text LANGUAGE sql AS $$
    INSERT INTO app.calls VALUES (id, 1, CASE call_status WHEN 'registered' THEN 'inbound'
        WHEN 'ongoing' THEN 'ongoing' WHEN 'analyzed' THEN 'analyzed' ELSE 'completed' END)
    ON CONFLICT (call_id) DO UPDATE SET status = excluded.status RETURNING status $$"""


def naive_status(naive, call_id, bodies):
    """The status in which events leave a call in the application."""
    for message in map(json.loads, bodies):
        status = naive.value("SELECT app.ingest(%s, %s, %s)", call_id, message["event"],
                             message["call"]["call_status"])
    return status


def our_status(gateway, bodies):
    """The status in which events leave a call here."""
    return [gateway.event(body) for body in bodies][-1]["status"]


def test_late_call_started_does_not_reopen(world, two, naive):
    """Any order of the same events, repeated or not, ends in the same row."""
    naive.run(BY_EVENT)
    gateway = world.gateway()
    ends = {"naive": set(), "ours": set()}
    orders = list(itertools.permutations(("started", "ended", "analyzed")))
    orders += [order + ("started",) for order in orders] + [("started", "ended", "started")]
    for number, order in enumerate(orders[:-1]):
        call = Call(f"call_{number}", to=A)
        bodies = [getattr(call, name)() for name in order]
        ends["naive"].add(naive_status(naive, call.call_id, bodies))
        ends["ours"].add(our_status(gateway, bodies))
    assert "ongoing" in ends["naive"]
    assert ends["ours"] == {"analyzed"}
    call = Call("call_last", to=A)
    bodies = [getattr(call, name)() for name in orders[-1]]
    assert naive_status(naive, "call_last", bodies) == "ongoing"
    assert our_status(gateway, bodies) == "completed"
    assert world.see(two[0], """
        SELECT count(DISTINCT (status, duration, cost_cents, sentiment, summary, transcript,
                               disconnection_reason, ended_at - started_at)),
               count(*), bool_and(analyzed_at IS NOT NULL)
        FROM telephony.calls WHERE provider_call_id <> 'call_last'""") == [(1, len(orders) - 1, True)]
    assert world.see(two[0], "SELECT count(*) FROM telephony.call_transitions WHERE to_state = "
                             "'ongoing' AND from_state IN ('completed', 'analyzed')") == [(0,)]


def test_analyzed_is_reached(world, two, naive):
    """A call that was analyzed says so, though the vendor's call_status never does."""
    naive.run(BY_CALL_STATUS)
    call = Call("call", to=A)
    bodies = [call.started(), call.ended(), call.analyzed()]
    assert naive_status(naive, "call", bodies) == "completed"
    assert naive_status(naive, "call", bodies[:2]) == "inbound"  # the vendor's sample: "registered"
    assert our_status(world.gateway(), bodies) == "analyzed"


@pytest.mark.parametrize("call_status, reason, state", [
    ("not_connected", "dial_no_answer", "not_connected"), ("not_connected", "dial_busy", "not_connected"),
    ("error", "error_llm_websocket_open", "failed"), ("error", "error_asr", "failed"),
    ("error", "a_reason_of_next_year", "failed"), ("not_connected", None, "not_connected"),
    ("ended", "call_transfer", "transferred")])
def test_what_failed_is_not_completed(world, two, naive, call_status, reason, state):
    """Calls that failed, or never were, do not count as completed; nor does analysis say they are."""
    naive.run(BY_EVENT)
    call = Call("call", to=A)
    changes = {"call_status": call_status, "disconnection_reason": reason}
    bodies = [call.started(), call.ended(**changes), call.analyzed(**changes)]
    assert naive_status(naive, "call", bodies) == "completed"
    assert our_status(world.gateway(), bodies) == state
    assert world.see(two[0], "SELECT status, analyzed_at IS NOT NULL, sentiment "
                             "FROM telephony.calls") == [(state, True, "Positive")]


def test_illegal_transition_is_refused(world, two, naive):
    """A move against the lifecycle is not written, by whomever and wherever."""
    naive.run("""
        INSERT INTO app.calls VALUES ('done', 1, 'completed');
        CREATE FUNCTION app.warn() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF OLD.status = 'completed' AND NEW.status = 'ongoing' THEN
                RAISE WARNING 'illegal transition';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER warn BEFORE UPDATE ON app.calls FOR EACH ROW EXECUTE FUNCTION app.warn();""")
    reopen = "UPDATE app.calls SET status = 'ongoing' WHERE call_id = 'done'"
    naive.run(reopen)
    assert naive.value("SELECT status FROM app.calls") == "ongoing"
    # the same table under a lifecycle, even for its superuser
    naive.run("DROP TRIGGER warn ON app.calls; UPDATE app.calls SET status = 'completed'; "
              "SELECT tenantcall.track_lifecycle('app.calls', 'status')")
    with pytest.raises(psycopg.Error) as refused:
        naive.run(reopen)
    assert refused.value.sqlstate == "PT409"
    assert "completed" in refused.value.diag.message_detail
    assert "analyzed" in refused.value.diag.message_hint
    assert naive.value("SELECT status FROM app.calls") == "completed"
    # and our own calls, for the app (by privilege) and for a superuser (by the lifecycle)
    call = Call("call", to=A)
    our_status(world.gateway(), [call.started(), call.ended()])
    write = "UPDATE telephony.calls SET status = 'ongoing'"
    with world.as_app(two[0]) as conn:
        assert sqlstate_of(conn, write) == "42501"
    naive.run("BEGIN; SELECT tenantcall.enter(1)")
    assert sqlstate_of(naive.conn, write) == "PT409"
    naive.run("ROLLBACK")


def test_duplicates_do_nothing_twice(world, two, naive):
    """A repeated delivery is counted, not applied; a retried function call gets its answer."""
    naive.run("""
        CREATE TABLE app.log (what text);
        CREATE FUNCTION app.handle(text) RETURNS void LANGUAGE sql AS
        $$ INSERT INTO app.log VALUES ($1) $$;
        SELECT app.handle('booked') FROM generate_series(1, 3)""")
    assert naive.value("SELECT count(*) FROM app.log") == 3

    gateway = world.gateway()
    call = Call("call", to=A)
    gateway.event(call.started())
    assert [gateway.event(call.ended())["outcome"] for _ in range(3)] == \
        ["applied", "duplicate", "duplicate"]
    asked = gateway.function(call.function("t"))
    assert [gateway.function(call.function("t"))["outcome"] for _ in range(2)] == ["busy", "busy"]
    gateway.finish(asked, {"booked": 1})
    again = gateway.function(call.function("t"))
    assert (asked["outcome"], again["outcome"], again["answer"]) == ("run", "replay", {"booked": 1})
    assert world.see(two[0], "SELECT event, deliveries FROM telephony.call_events ORDER BY 1") == \
        [("call_ended", 3), ("call_started", 1)]


# --- isolation ------------------------------------------------------------------------------------


def test_without_a_user_nothing_is_seen(world, two, naive):
    """A webhook has no user: what it sees is nothing, not everything."""
    naive.run("""
        INSERT INTO app.calls VALUES ('a', 1, 'ongoing'), ('b', 2, 'ongoing');
        CREATE FUNCTION app.visible() RETURNS SETOF app.calls LANGUAGE sql AS $$
        SELECT * FROM app.calls
        WHERE nullif(current_setting('app.user_company', true), '') IS NULL
           OR company_id = current_setting('app.user_company', true)::bigint $$""")
    assert naive.value("SELECT count(*) FROM app.visible()") == 2
    gateway = world.gateway()
    for number in (A, B):
        gateway.event(Call(f"call_{number}", to=number).started())
    for kind in ("app", "gateway", "admin"):
        conn = world.connect(kind)
        for table in ("calls", "call_events", "companies", "branches", "phone_numbers", "services"):
            assert conn.execute(f"SELECT count(*) FROM telephony.{table}").fetchone() == (0,), table
        for write in ("DELETE FROM telephony.services", "UPDATE telephony.branches SET name = 'x'",
                      "INSERT INTO telephony.customers (name) VALUES ('x')"):
            assert sqlstate_of(conn, write) is not None, write


def test_a_query_that_forgets_the_company(world, two, naive):
    """One and the same table, role and queries, before and after scope_table()."""
    naive.run(f"""
        CREATE TABLE app.notes (note_id int PRIMARY KEY, company_id bigint, body text);
        INSERT INTO app.notes VALUES (1, 1, 'of alpha'), (2, 2, 'of beta');
        GRANT USAGE ON SCHEMA app TO {world.roles['app']};
        GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON app.notes TO {world.roles['app']};""")
    attacks = ["INSERT INTO app.notes VALUES (9, 2, 'planted')",
               "UPDATE app.notes SET company_id = 2",
               "INSERT INTO app.notes VALUES (1, 1, 'x') ON CONFLICT (note_id) "
               "DO UPDATE SET company_id = 2",
               "TRUNCATE app.notes"]

    def leaks(company):
        """What of another company an app gets at."""
        with world.as_app(company) as conn:
            seen = {row[0] for row in conn.execute("SELECT company_id FROM app.notes")}
            found = [f"sees {other}" for other in sorted(seen - {company.id})]
            for statement in ("UPDATE app.notes SET body = 'x'", "DELETE FROM app.notes"):
                with conn.transaction(force_rollback=True):
                    if conn.execute(statement).rowcount != 1:
                        found.append(statement)
            return found + [attack for attack in attacks if sqlstate_of(conn, attack) is None]

    assert leaks(two[0]) == ["sees 2", "UPDATE app.notes SET body = 'x'", "DELETE FROM app.notes",
                             *attacks]
    naive.run("SELECT tenantcall.scope_table('app.notes')")
    assert leaks(two[0]) == []


def test_a_pooled_connection_forgets_its_tenant(world, two, naive):
    """The next request on a connection is not taken for the last one's tenant; nor can it say so."""
    naive.run("SELECT set_config('app.user_company', '1', false)")
    assert naive.value("SELECT current_setting('app.user_company')") == "1"  # another transaction
    conn = world.connect("app")
    with conn.transaction():
        conn.execute("SELECT tenantcall.enter_token(%s)", [world.token(two[0])])
        assert conn.execute("SELECT count(*) FROM telephony.companies").fetchone() == (1,)
        # a tenant is set once: neither by a second token nor by a setting to another one
        assert sqlstate_of(conn, "SELECT tenantcall.enter_token(%s)", [world.token(two[1])]) == "PT403"
        assert sqlstate_of(conn, "SET LOCAL tenantcall.company_id = '2'") == "42501"
    assert conn.execute("SELECT tenantcall.current_company_id()").fetchone() == (None,)
    assert conn.execute("SELECT count(*) FROM telephony.companies").fetchone() == (0,)
    assert sqlstate_of(conn, f"SELECT tenantcall.enter({two[1].id})") == "42501"


def test_keys_do_not_cross_companies(world, two, naive):
    """A reference to another company's row is refused: foreign keys are led by the company."""
    naive.run("""
        CREATE TABLE app.branches (branch_id bigint PRIMARY KEY, company_id bigint);
        CREATE TABLE app.offers (branch_id bigint REFERENCES app.branches, company_id bigint);
        INSERT INTO app.branches VALUES (20, 2);
        INSERT INTO app.offers VALUES (20, 1)""")
    service = world.service(two[0], "Haircut", calcom_event_type_id=1)
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        world.insert(two[0], "branch_services", "branch_id", branch_id=two[1].branches["Main"],
                     service_id=service)


# --- limits ---------------------------------------------------------------------------------------

BY_ADDRESS = """
    CREATE TABLE app.buckets (key text PRIMARY KEY, used int);
    CREATE FUNCTION app.allow(key text) RETURNS boolean LANGUAGE sql AS $$
    INSERT INTO app.buckets VALUES (key, 1)
    ON CONFLICT (key) DO UPDATE SET used = app.buckets.used + 1 RETURNING used <= 100 $$"""


def test_limit_is_not_shared_by_all_tenants(world, two, naive):
    """The platform calls from one address for everybody: the limit is each company's own."""
    naive.run(BY_ADDRESS)
    platform = "100.20.5.228"
    for _ in range(100):
        assert naive.value("SELECT app.allow(%s)", platform)
    assert not naive.value("SELECT app.allow(%s)", platform)  # and this was another company's call

    gateway = world.gateway()

    def ask(stem, number, count):
        """Function calls, each of a call of its own: the limits within one call are narrower."""
        return [gateway.function(Call(f"{stem}_{n}", to=number).function("t"))["outcome"]
                for n in range(count)]

    outcomes = ask("loud", A, 200)
    assert set(outcomes[:100]) == {"run"} and "limited" in outcomes
    assert ask("quiet", B, 100) == ["run"] * 100


def test_unknown_callers_have_a_bucket_of_their_own(world, two, naive):
    """Calls for numbers that nobody owns take no company's tokens, and are limited by themselves."""
    naive.run(BY_ADDRESS)
    assert [naive.value("SELECT app.allow(%s)", "100.20.5.228") for _ in range(101)][-1] is False

    gateway = world.gateway()
    stranger = Call("stranger", to=UNKNOWN)
    asked = [gateway.function(stranger.function(f"t{n}")) for n in range(120)]
    assert {answer["company_id"] for answer in asked} == {None}
    assert {answer["outcome"] for answer in asked} == {"unknown", "limited"}
    assert asked[-1]["outcome"] == "limited"
    for company in two:
        assert world.value(company, "SELECT remaining FROM tenantcall.peek('function_call')") == 100
    shared = world.signer.execute(
        "SELECT allowed, remaining FROM tenantcall.take_for(NULL, 'function_call', 100)").fetchone()
    assert shared[0] is False


def test_calendar_guard_counts(world, two, naive):
    """A limit that is checked is also spent, per company, and says when instead of sleeping."""
    naive.run("""
        CREATE TABLE app.guard (used int);
        INSERT INTO app.guard VALUES (0);
        CREATE FUNCTION app.allow() RETURNS boolean LANGUAGE sql AS
        $$ SELECT used < 60 FROM app.guard $$""")
    spend = "SELECT count(*) FILTER (WHERE app.allow()) FROM generate_series(1, 1000)"
    assert naive.value(spend) == 1000

    world.admin.execute("SELECT tenantcall.set_rate_policy('calcom', 60, '1 minute')")
    spend = "SELECT count(*) FILTER (WHERE tenantcall.allow('calcom')) FROM generate_series(1, 1000)"
    assert 60 <= world.value(two[0], spend) <= 62
    (denied, wait), = world.see(
        two[0], "SELECT NOT allowed, retry_after FROM tenantcall.take('calcom')")
    assert denied and 0 < wait.total_seconds() <= 1
    assert 60 <= world.value(two[1], spend) <= 62


# --- services and cache keys ----------------------------------------------------------------------


def test_branch_default_beats_company_default(world, two, naive):
    """The default of a branch wins in that branch, whatever the company's is."""
    order = "ORDER BY s.is_default DESC, s.priority LIMIT 1"  # the application's
    first = world.service(two[0], "Company-wide", calcom_event_type_id=10, is_default=True,
                          priority=1)
    second = world.service(two[0], "Of the branch", calcom_event_type_id=20, priority=90)
    main = two[0].branches["Main"]
    world.insert(two[0], "branch_services", "branch_id", branch_id=main, service_id=second,
                 calcom_event_type_id=21, is_default=True)
    assert world.value(two[0], f"SELECT service_id FROM telephony.services AS s {order}") == first
    choose = ("SELECT service_id, calcom_event_type_id, reason "
              "FROM tenantcall.select_service(NULL, %s)")
    assert world.see(two[0], choose, [main]) == [(second, 21, "branch_default")]
    assert world.see(two[0], choose, [None]) == [(first, 10, "company_default")]


def test_choice_does_not_depend_on_the_weather(world, two, naive):
    """Two services that nothing tells apart: the same is chosen after an update of either."""
    naive.run("""
        CREATE TABLE app.services (service_id int, priority int DEFAULT 1);
        INSERT INTO app.services VALUES (1), (2)""")
    theirs = "SELECT service_id FROM app.services ORDER BY priority LIMIT 1"
    before = naive.value(theirs)
    naive.run("UPDATE app.services SET priority = 1 WHERE service_id = 1")
    assert (before, naive.value(theirs)) == (1, 2)

    first, second = [world.service(two[0], name, calcom_event_type_id=5) for name in ("One", "Two")]
    for service in (None, first, second, first):
        with world.as_admin(two[0]) as conn:
            conn.execute("UPDATE telephony.services SET duration = duration WHERE service_id = %s",
                         [service])
        for scan in ("on", "off"):  # off: rows come in the order in which they lie
            with world.as_app(two[0]) as conn:
                conn.execute(f"SET LOCAL enable_indexscan = {scan}")
                conn.execute(f"SET LOCAL enable_bitmapscan = {scan}")
                assert conn.execute("SELECT service_id, reason FROM tenantcall.select_service()"
                                    ).fetchone() == (first, "smallest_id")


def test_next_candidate_is_tried(world, two, naive):
    """A default that cannot be booked is passed over; the application gave up."""
    dead = world.service(two[0], "Default", calcom_event_type_id=None, is_default=True)
    good = world.service(two[0], "Bookable", calcom_event_type_id=7)
    theirs = ("SELECT CASE WHEN calcom_event_type_id IS NOT NULL THEN service_id END "
              "FROM telephony.services ORDER BY is_default DESC LIMIT 1")
    assert world.value(two[0], theirs) is None
    assert world.value(two[0], "SELECT service_id FROM tenantcall.select_service()") == good
    with world.as_admin(two[0]) as conn:
        conn.execute("UPDATE telephony.services SET calcom_event_type_id = 8, is_active = false "
                     "WHERE service_id = %s", [dead])
    assert world.value(two[0], "SELECT service_id FROM tenantcall.select_service()") == good


def test_cache_keys_of_branches_differ(world, two, naive):
    """A key for each branch; the application's reader formatted a UUID as a number."""
    naive.run(r"""
        CREATE FUNCTION app.key(company bigint, branch uuid, event_type bigint) RETURNS text
        LANGUAGE sql AS $$
        SELECT format('cal_slots_%s_%s_%s', company,
                      coalesce(substring(branch::text FROM '^\d+'), '0'), event_type) $$""")
    uuids = ("7a3cf6a4-5d50-4d0e-9f43-0c2b1f3a9d11", "7f3cf6a4-5d50-4d0e-9f43-0c2b1f3a9d12")
    assert len({naive.value("SELECT app.key(1, %s::uuid, 5)", u) for u in uuids}) == 1

    branches = [world.insert(two[0], "branches", "branch_id", name=f"B{n}") for n in range(30)]
    keys = {row[0] for company in two for row in world.see(company, """
        SELECT tenantcall.alternatives_cache_key(tenantcall.current_company_id(), b, e, t,
                                                 t + interval '2 hours')
        FROM unnest(%s::bigint[]) AS b, unnest('{5,55}'::bigint[]) AS e,
             unnest('{2026-12-01 08:00Z,2026-12-01 18:00Z}'::timestamptz[]) AS t""", [branches])}
    assert len(keys) == 2 * 30 * 2 * 2


def test_cache_key_without_team_is_refused(world, two, naive):
    """The team carries the tenant: a key without it would be everybody's."""
    naive.run("""
        CREATE FUNCTION app.key(event_type bigint, day date, team bigint DEFAULT NULL) RETURNS text
        LANGUAGE sql AS $$ SELECT format('calcom:slots:%s:%s:%s', team, event_type, day) $$;
        CREATE TABLE app.teams AS SELECT * FROM (VALUES (1, 71), (2, 72)) AS v (company_id, team)""")
    assert naive.value("SELECT count(DISTINCT app.key(5, '2026-12-01', team)) FROM app.teams") == 2
    assert naive.value("SELECT count(DISTINCT app.key(5, '2026-12-01')) FROM app.teams") == 1
    with world.as_app(two[0]) as conn:
        for team in ("NULL", "0", "-1"):
            key = f"SELECT tenantcall.slot_cache_key({team}, 5, '2026-12-01')"
            assert sqlstate_of(conn, key) in ("22004", "22023")
        key = "SELECT tenantcall.alternatives_cache_key(1, NULL, 5, now(), now())"
        assert sqlstate_of(conn, key) == "22004"


def test_key_formats_are_the_applications(world, two, naive):
    """What the application has cached is found again; its invalidators wrote another format."""
    reader, invalidator = ("calcom:slots:%s:%s:%s:%s", "calcom:slots:%s:%s")
    assert reader % (7, 5, "2026-12-01", "2026-12-01") != invalidator % (5, "2026-12-01")
    assert world.see(two[0], """
        SELECT tenantcall.slot_cache_key(7, 5, '2026-12-01'),
               tenantcall.alternatives_cache_key(1, 2, 5, '2026-12-01 09:00+01', '2026-12-01 12:30+01')
        """) == [("calcom:slots:7:5:2026-12-01:2026-12-01",
                  "cal_slots_1_2_5_2026-12-01-08_2026-12-01-11")]


def test_companys_own_key_reaches_that_company_only(world, two, naive):
    """One company's webhook secret is not a key to another's calls; the application checked none."""
    naive.run("INSERT INTO app.calls VALUES ('call', 2, 'ongoing')")
    naive.run("UPDATE app.calls SET status = 'completed' WHERE call_id = 'call'")  # whoever posted it
    assert naive.value("SELECT status FROM app.calls") == "completed"

    world.admin.execute("SELECT tenantcall.set_webhook_key('retell', 'alpha', 'key_of_alpha', %s)",
                        [two[0].id])
    alpha, account = world.gateway("key_of_alpha"), world.gateway(KEY)
    call = Call("call", to=B)
    assert account.event(call.started())["outcome"] == "applied"
    told = alpha.event(call.ended())
    assert (told["outcome"], told["company_id"]) == ("rejected", None)
    assert alpha.event(Call("new", to=B).started())["outcome"] == "rejected"
    assert alpha.event(Call("own", to=A).started())["company_id"] == two[0].id
    assert world.see(two[1], "SELECT provider_call_id, status FROM telephony.calls") == [("call", "ongoing")]
