"""Lifecycles beyond one session: dump and restore, standby, replication, parallel workers."""
import psycopg
import pytest

TABLES = """
    CREATE TABLE calls (call_id int PRIMARY KEY, status text);
    CREATE TABLE moves (n int GENERATED ALWAYS AS IDENTITY, relation text, key text,
        from_state text, to_state text, at timestamptz, by_role text, reason text, event text);
"""
TRACK = "SELECT tenantcall.track_lifecycle('calls', 'status', audit => 'moves')"


def refused(database, statement):
    """Is the statement refused as an illegal move or beginning?"""
    with database.connect(autocommit=True) as conn:
        with pytest.raises(psycopg.Error) as caught:
            conn.execute(statement)
    return caught.value.sqlstate == "PT409"


def test_dump_and_restore(db):
    """Tracked tables and changed rules come back; shipped rules are not dumped; ALWAYS stays."""
    db.sql(TABLES + TRACK)
    db.sql("INSERT INTO calls VALUES (1, 'inbound'); UPDATE calls SET status = 'completed'")
    db.sql("""SELECT tenantcall.set_lifecycle_state('call', 'voicemail', 40, is_terminal => true),
                     tenantcall.set_transition('call', 'inbound', 'voicemail'),
                     tenantcall.set_transition('call', 'inbound', 'failed', false)""")
    dump = db.cluster.client_program("pg_dump", "--dbname", db.name)
    assert "COPY tenantcall.lifecycle_states " in dump and "voicemail" in dump
    assert "lifecycle_state_defaults" not in dump
    name = db.cluster.create_database(db.name + "_restored", template="template0")
    copy = type(db)(db.cluster, name)
    try:
        copy.sql(dump)
        rules = "SELECT lifecycle, state, next_states FROM tenantcall.lifecycles ORDER BY 1, 2"
        assert copy.sql(rules) == db.sql(rules)
        tracked = "SELECT * FROM tenantcall.tracked_tables WHERE relation = 'calls'::regclass"
        assert copy.sql(tracked) == db.sql(tracked) == "calls|status|call|public.moves|t"
        assert copy.sql("SELECT status FROM calls") == "completed"
        assert refused(copy, "UPDATE calls SET status = 'ongoing'")
        copy.sql("UPDATE calls SET status = 'analyzed'")
        assert copy.sql("SELECT count(*) FROM moves") == "3"
    finally:
        db.cluster.drop_database(name)


def test_rules_on_a_standby(make_cluster):
    """A backend of a standby that has the rules in memory sees a change when it is replayed."""
    server = make_cluster()
    server.create_database("app")
    copy = server.standby()
    asked = "SELECT tenantcall.can_transition('call', 'ongoing', 'inbound')"
    with copy.connect(dbname="app", autocommit=True) as conn:
        assert conn.execute(asked).fetchone() == (False,)
        server.sql("SELECT tenantcall.set_transition('call', 'ongoing', 'inbound')", dbname="app")
        server.wait_for_replay(copy)
        assert conn.execute(asked).fetchone() == (True,)


def test_replicated_moves_pass(make_cluster):
    """A subscriber takes what its publisher has judged, also rows in later states, and records
    none of it again; local changes are still judged."""
    server = make_cluster(wal_level="logical")
    for name in ("here", "there"):
        server.create_database(name)
        server.sql(TABLES + TRACK, dbname=name)
    server.sql("INSERT INTO calls VALUES (1, 'inbound'); UPDATE calls SET status = 'completed';"
               "CREATE PUBLICATION calls FOR TABLE calls;"
               "SELECT pg_create_logical_replication_slot('calls', 'pgoutput')", dbname="here")
    with server.connect(dbname="here") as conn:
        dsn = f"host={conn.info.host} port={conn.info.port} user=postgres dbname=here"
    server.sql(f"CREATE SUBSCRIPTION calls CONNECTION '{dsn}' PUBLICATION calls "
               "WITH (create_slot = false, slot_name = 'calls')", dbname="there")

    def arrived(state):
        return lambda: server.sql("SELECT status FROM calls", dbname="there") == state

    server.wait_until(arrived("completed"), "the first copy")
    server.sql("UPDATE calls SET status = 'analyzed'", dbname="here")
    server.wait_until(arrived("analyzed"), "the change")
    assert server.sql("SELECT count(*) FROM moves", dbname="there") == "0"
    with server.connect(dbname="there", autocommit=True) as conn:
        conn.execute("SET session_replication_role = replica")
        with pytest.raises(psycopg.Error) as caught:
            conn.execute("UPDATE calls SET status = 'ongoing'")
        assert caught.value.sqlstate == "PT409"
    server.sql("DROP SUBSCRIPTION calls", dbname="there")


def test_parallel_workers(db):
    """Parallel workers know the same rules, uncommitted changes of their leader included."""
    with db.connect() as conn:
        conn.execute("SELECT tenantcall.set_transition('call', 'ongoing', 'inbound')")
        conn.execute("CREATE TABLE states AS SELECT s FROM generate_series(1, 10000), "
                     "unnest('{inbound,completed,analyzed}'::text[]) s")
        for setting in ("parallel_setup_cost", "parallel_tuple_cost", "min_parallel_table_scan_size"):
            conn.execute(f"SET {setting} = 0")
        query = ("SELECT s, count(*) FROM states WHERE tenantcall.can_transition('call', 'ongoing', s) "
                 "GROUP BY s ORDER BY s")
        plan = "\n".join(line for (line,) in conn.execute("EXPLAIN " + query).fetchall())
        assert "Workers Planned" in plan
        assert conn.execute(query).fetchall() == [("completed", 10000), ("inbound", 10000)]


def test_first_use_in_many_backends(db):
    """Backends that see their first rules through a trigger all judge alike."""
    db.sql(TABLES + TRACK)
    for call in range(5):
        db.sql(f"INSERT INTO calls VALUES ({call}, 'outbound')")
        assert refused(db, f"UPDATE calls SET status = 'analyzed' WHERE call_id = {call}")
