"""Rows written without statements: the same rows, checks, locks and triggers as with statements."""
import json
import re
import threading

import psycopg
import pytest

from calls import SECRET, House, ingest, message, now_ms, sign

START = now_ms() - 3600000
STAGES = ["call_analyzed", "call_started", "call_ended", "call_ended"]
ROWS = """
SELECT 'call', to_jsonb(c) - '{call_id,created_at,provider_call_id,analyzed_at,extra}'::text[]
FROM telephony.calls AS c WHERE c.provider_call_id = %(id)s
UNION ALL
SELECT 'event', jsonb_build_array(e.event, e.deliveries, e.call_at = c.created_at, e.company_id,
    length(e.body) - length(c.provider_call_id))
FROM telephony.call_events AS e JOIN telephony.calls AS c USING (company_id, call_id)
WHERE c.provider_call_id = %(id)s
UNION ALL
SELECT 'move', jsonb_build_array(t.relation, t.from_state, t.to_state, t.by_role, t.event, t.company_id)
FROM telephony.call_transitions AS t JOIN telephony.calls AS c
ON c.company_id = t.company_id AND c.call_id::text = t.key WHERE c.provider_call_id = %(id)s
UNION ALL
SELECT 'decision', to_jsonb(d) - '{decision_id,decided_at,provider_call_id}'::text[]
FROM telephony.tenant_decisions AS d WHERE d.provider_call_id = %(id)s
ORDER BY 1, 2
"""
NOTE = """
CREATE TABLE public.noted (what text);
GRANT INSERT ON public.noted TO PUBLIC;
CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.noted VALUES (TG_TABLE_NAME || ' ' || TG_OP);
    RETURN NEW;
END $$;
"""
# what somebody does to the tables, each of which only a statement serves rightly
UNFIT = {
    "statement trigger": "CREATE TRIGGER n AFTER INSERT ON {} FOR EACH STATEMENT EXECUTE FUNCTION note()",
    "row trigger": "CREATE TRIGGER n BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION note()",
    "policy": "CREATE POLICY mine ON {} AS RESTRICTIVE USING (true)",
    "function of mine as default": "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'; "
                                   "ALTER TABLE {} ADD extra int DEFAULT one()",
    "function of mine in a check": "CREATE FUNCTION yes(bigint) RETURNS bool LANGUAGE sql IMMUTABLE "
                                   "AS 'SELECT true'; ALTER TABLE {} ADD CHECK (yes(company_id))",
    "generated column": "ALTER TABLE {} ADD extra bigint GENERATED ALWAYS AS (company_id + 1) STORED",
    "expression index": "CREATE INDEX ON {} ((company_id + 1))",
    "partial index": "CREATE INDEX ON {} (company_id) WHERE company_id > 0",
    "hash index": "CREATE INDEX ON {} USING hash (company_id)",
    "deferrable key": "ALTER TABLE {} ADD FOREIGN KEY (company_id) REFERENCES telephony.companies "
                      "DEFERRABLE INITIALLY DEFERRED",
    "column of a domain": "CREATE DOMAIN few AS int DEFAULT 3 CHECK (VALUE > 1); ALTER TABLE {} ADD extra few",
}
# and what is served without as well
FIT = {
    "column with default": "ALTER TABLE {} ADD extra int DEFAULT 7",
    "index": "CREATE INDEX ON {} (company_id DESC)",
    "check": "ALTER TABLE {} ADD CHECK (company_id > 0)",
    "foreign key": "ALTER TABLE {} ADD FOREIGN KEY (company_id) REFERENCES telephony.companies",
}
TABLES = ["telephony.calls", "telephony.call_events", "telephony.call_transitions",
          "telephony.tenant_decisions"]


@pytest.fixture
def house(db, role):
    """A company and a gateway."""
    made = House(db, role("gateway"))
    made.company()
    return made


def deliver(house, conn, call_id):
    """Delivers a call's events out of order, one of them twice; returns the outcomes."""
    number = house.numbers[house.companies[0]][0]
    bodies = {name: message(name, call_id, to_number=number, start_timestamp=START)
              for name in STAGES}
    return [ingest(conn, bodies[name])["outcome"] for name in STAGES]


def rows(house, call_id):
    """Everything that is stored of a call, without what differs from call to call."""
    with house.db.connect() as conn:
        return conn.execute(ROWS, {"id": call_id}).fetchall()


def by_statement(conn, run):
    """The tables that are written by statements from now on in this session."""
    told = []

    def note(diagnostic):
        match = re.fullmatch('rows of table "(.*)" are written by statements', diagnostic.message_primary)
        if match:
            told.append(match[1])

    conn.add_notice_handler(note)
    conn.execute("SET client_min_messages = debug1")
    run()
    conn.execute("RESET client_min_messages")
    conn.remove_notice_handler(note)
    return sorted(told)


def test_the_tables_as_they_are_made(house):
    """None of them needs statements."""
    with house.connect() as conn:
        assert by_statement(conn, lambda: deliver(house, conn, "first")) == []


def change_tables(house, change):
    """Does it to each of the tables; functions are made once."""
    house.db.sql(NOTE)
    for table in TABLES:
        *first, last = {**UNFIT, **FIT}[change].format(table).split("; ")
        if table == TABLES[0]:
            house.db.sql(";".join(first))
        house.db.sql(last)


@pytest.mark.parametrize("change", [*UNFIT, *FIT])
def test_same_rows(house, change):
    """Whatever was done to the tables, also amid a session, the same comes out."""
    outcomes = []
    with house.connect() as conn:
        assert deliver(house, conn, "before") == ["merged", "merged", "merged", "duplicate"]
        change_tables(house, change)
        told = by_statement(conn, lambda: outcomes.extend(deliver(house, conn, "after_")))
    assert outcomes == ["merged", "merged", "merged", "duplicate"]
    expected = {table.removeprefix("telephony.") for table in TABLES} if change in UNFIT else set()
    if change == "policy":
        expected.remove("call_transitions")  # no policy binds the writer of the audit trail
    assert {name.partition("_20")[0] for name in told} == expected
    assert rows(house, "after_") == rows(house, "before")
    assert len(rows(house, "after_")) >= 8
    for table in TABLES:
        name = table.removeprefix("telephony.")
        if "trigger" in change:
            assert house.db.sql(f"SELECT count(*) > 0 FROM noted WHERE what LIKE '{name}% INSERT'") == "t"
        if "default" in change:
            assert house.db.sql(f"SELECT DISTINCT extra FROM {table}") == ("7" if change in FIT else "1")
        if change == "generated column":
            assert house.db.sql(f"SELECT bool_and(extra = company_id + 1) FROM {table}") == "t"


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_isolation_levels(house, level):
    """The same under a snapshot that lasts."""
    with house.connect() as conn:
        deliver(house, conn, "before")
        with conn.transaction():
            conn.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
            deliver(house, conn, "after_")
    assert rows(house, "after_") == rows(house, "before")


def test_read_only(house):
    """A transaction that may not write does not."""
    with house.connect() as conn:
        deliver(house, conn, "before")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            with conn.transaction():
                conn.execute("SET TRANSACTION READ ONLY")
                deliver(house, conn, "after_")
    assert rows(house, "after_") == []


def test_refused_by_the_tables(house):
    """What a constraint refuses is quarantined, and the session goes on."""
    number = house.numbers[house.companies[0]][0]
    with house.connect() as conn:
        deliver(house, conn, "before")
        house.db.sql("ALTER TABLE telephony.calls ADD CONSTRAINT mine CHECK (agent <> 'odd')")
        for attempt in range(3):
            got = ingest(conn, message("call_ended", f"odd_{attempt}", to_number=number, agent_id="odd"))
            assert (got["outcome"], got["reason"]) == ("quarantined", "not_applicable")
            deliver(house, conn, f"good_{attempt}")
        assert rows(house, "good_2")[0] == rows(house, "before")[0]
    assert house.db.sql("SELECT count(*) FROM tenantcall.quarantine WHERE detail LIKE '%mine%'") == "3"
    assert house.db.sql("SELECT count(*) FROM telephony.calls WHERE provider_call_id LIKE 'odd%'") == "0"


def test_foreign_keys(house):
    """A row that is named must be there, and stays until the end of the transaction."""
    company = house.companies[0]
    branch = house.branches[company][0]
    lock = f"SELECT FROM telephony.branches WHERE branch_id = {branch} FOR UPDATE NOWAIT"
    with house.connect() as conn, house.db.connect(autocommit=True) as other:
        with conn.transaction():
            deliver(house, conn, "before")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute(lock)
        other.execute(lock)
        other.execute("SET session_replication_role = replica")
        other.execute("DELETE FROM telephony.branches WHERE branch_id = %s", [branch])
        got = ingest(conn, message("call_started", "orphan", to_number=house.numbers[company][0]))
        assert (got["outcome"], got["reason"]) == ("quarantined", "not_applicable")
        # a call that is there may go on: it names no other row than before
        assert ingest(conn, message("call_ended", "before", to_number=house.numbers[company][0],
                                    start_timestamp=now_ms()))["outcome"] == "duplicate"
    assert house.db.sql("SELECT detail FROM tenantcall.quarantine") == \
        'insert or update on table "calls" violates foreign key constraint ' \
        '"calls_company_id_branch_id_fkey"'


def test_a_foreign_key_of_mine(house):
    """A foreign key that somebody adds to the events is checked, though that of ours need not be."""
    number = house.numbers[house.companies[0]][0]
    house.db.sql("""CREATE TABLE public.known (event text PRIMARY KEY);
        INSERT INTO public.known VALUES ('call_started'), ('call_ended');
        ALTER TABLE public.known OWNER TO tenantcall_owner;
        GRANT USAGE ON SCHEMA public TO tenantcall_owner;
        ALTER TABLE telephony.call_events ADD CONSTRAINT mine FOREIGN KEY (event) REFERENCES public.known""")
    with house.connect() as conn:
        assert by_statement(conn, lambda: deliver(house, conn, "mine")) == []
        got = ingest(conn, message("call_analyzed", "other", to_number=number))
        assert (got["outcome"], got["reason"]) == ("quarantined", "not_applicable")
        assert ingest(conn, message("call_ended", "other", to_number=number))["outcome"] == "applied"
    assert house.db.sql("SELECT DISTINCT event FROM telephony.call_events ORDER BY 1") == "call_ended\ncall_started"


def test_precision_of_a_column(house):
    """What somebody narrows is narrow: numbers are rounded as a statement rounds them."""
    number = house.numbers[house.companies[0]][0]
    house.db.sql("ALTER TABLE telephony.calls ALTER COLUMN cost_cents TYPE numeric(10, 1)")
    with house.connect() as conn:
        told = by_statement(conn, lambda: ingest(conn, message(
            "call_ended", "cost", to_number=number, call_cost={"combined_cost": 12.34})))
    assert house.db.sql("SELECT cost_cents FROM telephony.calls") == "12.3"
    assert told == ["calls"]


def test_two_sessions_make_the_same_row(house):
    """Both are bound already and find no row: the second one waits, and then merges."""
    company = house.companies[0]
    number = house.numbers[company][0]
    house.db.sql("INSERT INTO tenantcall.call_bindings (provider, provider_call_id, company_id) "
                 f"VALUES ('retell', 'twice', {company})")
    late = {}
    with house.connect() as first, house.connect() as second:
        pid = second.info.backend_pid

        def run():
            """The second session."""
            late.update(ingest(second, message("call_started", "twice", to_number=number)))

        with first.transaction():
            assert ingest(first, message("call_ended", "twice", to_number=number))["outcome"] == "applied"
            thread = threading.Thread(target=run)
            thread.start()
            house.db.cluster.wait_until(
                lambda: house.db.sql(f"SELECT cardinality(pg_blocking_pids({pid}))") == "1", "the wait")
        thread.join(30)
    assert late["outcome"] == "merged" and late["status"] == "completed"


@pytest.mark.limit(300)
def test_memory_of_a_batch_is_flat(house):
    """A batch of events takes the same memory, however many they are."""
    number = house.numbers[house.companies[0]][0]
    house.db.sql(f"""CREATE TABLE public.inbox AS
        SELECT g, b.body, tenantcall.retell_signature(b.body, '{SECRET}', now()) AS signature
        FROM generate_series(1, 22000) AS g, LATERAL (SELECT format(
            '{{"event": "%s", "call": {{"call_id": "c%s", "call_type": "phone_call", "to_number": "{number}",
            "from_number": "+4915112345678", "direction": "inbound", "disconnection_reason": "user_hangup",
            "start_timestamp": {START}, "end_timestamp": {START + 60000}, "transcript": "%s"}}}}',
            CASE g % 2 WHEN 0 THEN 'call_ended' ELSE 'call_started' END, (g + 1) / 2, repeat('Hello. ', 50))
            AS body) AS b;
        GRANT SELECT ON public.inbox TO PUBLIC""")
    batch = ("SELECT count(*) FILTER (WHERE i.outcome = 'applied') FROM inbox AS m, "
             "tenantcall.ingest_retell(m.body, m.signature) AS i WHERE m.g BETWEEN %s AND %s")
    memory = "SELECT sum(total_bytes) FROM pg_backend_memory_contexts"
    house.db.sql(f"GRANT pg_read_all_stats TO {house.gateway}")
    with house.connect() as conn, conn.transaction():
        assert conn.execute(batch, [1, 2000]).fetchone()[0] == 2000
        before = conn.execute(memory).fetchone()[0]
        assert conn.execute(batch, [2001, 22000]).fetchone()[0] == 20000
        # PostgreSQL itself notes some dozens of bytes for each subtransaction and row changed twice
        assert conn.execute(memory).fetchone()[0] - before < 20000 * 150


def test_memory_of_refused_events_is_flat(house):
    """Nor does what the tables refuse add up, until the transaction ends."""
    number = house.numbers[house.companies[0]][0]
    house.db.sql("ALTER TABLE telephony.calls ADD CONSTRAINT mine CHECK (agent <> 'odd')")
    body = json.dumps(message("call_ended", "odd", to_number=number, agent_id="odd"))
    batch = ("SELECT count(*) FILTER (WHERE i.reason = 'not_applicable') FROM generate_series(1, %s) AS g, "
             "tenantcall.ingest_retell(left(%s, 100000 + g), %s) AS i")
    memory = "SELECT sum(total_bytes) FROM pg_backend_memory_contexts"
    house.db.sql(f"GRANT pg_read_all_stats TO {house.gateway}")
    with house.connect() as conn, conn.transaction():
        assert conn.execute(batch, [200, body, sign(body.encode())]).fetchone()[0] == 200
        before = conn.execute(memory).fetchone()[0]
        assert conn.execute(batch, [2000, body, sign(body.encode())]).fetchone()[0] == 2000
        # a subtransaction each, and its row in quarantine; a table's state has a hundred thousand
        assert conn.execute(memory).fetchone()[0] - before < 2000 * 2000
