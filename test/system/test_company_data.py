"""Deleting a company: in batches, also while others still work on its rows."""
import threading

import pytest

from retell import Call, inbound

COMPANY = """
    SELECT tenantcall.create_company('c', 'DE', 'UTC') AS c \\gset
    BEGIN;
    SELECT tenantcall.enter(:c);
    INSERT INTO telephony.calls (provider_call_id, status)
        SELECT 'call_' || :c || '_' || n, 'inbound' FROM generate_series(1, %d) AS n;
    INSERT INTO telephony.call_events (call_id, call_at, event, received_at, last_received_at, body)
        SELECT call_id, created_at, 'call_started', now(), now(), '{}' FROM telephony.calls
        WHERE company_id = :c;
    COMMIT;
    SELECT tenantcall.set_company_status(:c, 'suspended', 'test');
    \\echo :c"""


def make(db, calls):
    """Makes a suspended company with so many calls; returns its id."""
    return int(db.sql(COMPANY % calls).split()[-1])


REST = """SELECT (SELECT count(*) FROM telephony.companies WHERE company_id = %(c)s),
       (SELECT count(*) FROM telephony.calls WHERE company_id = %(c)s),
       (SELECT count(*) FROM telephony.call_events WHERE company_id = %(c)s)"""


@pytest.mark.limit(180)
def test_many_batches_in_bounded_memory(db, role):
    """A company of several batches goes altogether, and memory does not grow with it."""
    admin = role("admin")
    db.sql(f"SELECT tenantcall.grant_admin('{admin}')")
    other, company = make(db, 100), make(db, 25000)
    with db.connect(role=admin, autocommit=True) as conn:
        def peak():
            with open(f"/proc/{conn.info.backend_pid}/status", encoding="utf-8") as status:
                return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))

        conn.execute("SELECT count(*) FROM tenantcall.export_company(%s)", [other])
        before = peak()
        rows = conn.execute("SELECT count(*) FROM tenantcall.export_company(%s) AS e "
                            "WHERE relation = 'telephony.calls'", [company]).fetchone()[0]
        assert rows == 25000
        deleted = dict(conn.execute("SELECT * FROM tenantcall.delete_company(%s)",
                                    [company]).fetchall())
        assert deleted["telephony.calls"] == deleted["telephony.call_events"] == 25000
        assert deleted["telephony.call_transitions"] == 25000
        assert peak() - before < 32 * 1024  # kB
    with db.connect() as conn:
        assert conn.execute(REST, {"c": company}).fetchone() == (0, 0, 0)
        assert conn.execute(REST, {"c": other}).fetchone() == (1, 100, 100)


def test_rows_that_change_meanwhile(db):
    """A row that another session moves while the deletion waits for it goes as well."""
    company = make(db, 10)
    with db.connect() as worker, db.connect(autocommit=True) as deleter:
        worker.execute("UPDATE telephony.calls SET summary = repeat('x', 9000), status = 'ongoing' "
                       "WHERE company_id = %s", [company])
        worker.execute("INSERT INTO telephony.call_events (company_id, call_id, call_at, event, "
                       "received_at, last_received_at, body) SELECT company_id, call_id, "
                       "created_at, 'call_ended', now(), now(), '{}' FROM telephony.calls "
                       "WHERE company_id = %s", [company])
        done = []
        thread = threading.Thread(target=lambda: done.append(deleter.execute(
            "SELECT * FROM tenantcall.delete_company(%s)", [company]).fetchall()))
        thread.start()
        db.cluster.wait_until(
            lambda: db.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Extension' "
                           "AND query LIKE '%delete_company%'") == "1", "the deletion to wait")
        worker.commit()
        thread.join()
        assert done
    with db.connect() as conn:
        assert conn.execute(REST, {"c": company}).fetchone() == (0, 0, 0)


@pytest.mark.parametrize("kind", ["function", "ring"])
def test_refusal_meanwhile(world, kind):
    """A function call, or a ring, that is refused while its company is being deleted gets an answer, and leaves nothing."""
    acme, gateway, answers = world.company("Acme", Mitte="+4930111111"), world.gateway(), []
    world.admin.execute("SELECT tenantcall.set_company_status(%s, 'suspended', 'test')", [acme.id])
    body = inbound("+4930111111") if kind == "ring" else Call("c1", to="+4930111111").function("t1")
    thread = threading.Thread(target=lambda: answers.append(getattr(gateway, kind)(body)["outcome"]))
    with world.admin.transaction():
        world.admin.execute("SELECT * FROM tenantcall.delete_company(%s)", [acme.id])
        thread.start()
        world.db.cluster.wait_until(lambda: world.db.sql(
            f"SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = {gateway.connection.info.backend_pid}") != "0",
            "the refusal to wait")
    thread.join(60)
    assert answers and answers[0] in ("suspended", "unknown")
    assert world.db.sql("SELECT count(*) FROM telephony.refusals") == "0"


def test_no_table_is_left_out(db, role):
    """Every table with a company, in both schemas and of whatever version, is exported and emptied."""
    admin = role("admin")
    db.sql(f"SELECT tenantcall.grant_admin('{admin}')")
    company = make(db, 3)
    with db.connect(autocommit=True) as root:
        there = {name for name, in root.execute(r"""
            SELECT c.oid::regclass::text FROM pg_class AS c
            JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname IN ('company_id', 'verified_for')
            WHERE c.relnamespace IN ('telephony'::regnamespace, 'tenantcall'::regnamespace)
            AND c.relkind IN ('r', 'p') AND NOT c.relispartition
            AND c.relname NOT LIKE '%\_defaults'""").fetchall()}
        root.execute("INSERT INTO tenantcall.call_bindings VALUES ('retell', %s, %s)",
                     [f"call_{company}_1", company])
        root.execute("INSERT INTO tenantcall.quarantine (provider, kind, provider_call_id, received_at, "
                     "outcome, reason, body, body_digest) VALUES ('retell', 'event', %s, now(), "
                     "'conflict', 'x', 'of a call of the company', 'd')", [f"call_{company}_1"])
    with db.connect(role=admin, autocommit=True) as conn:
        exported = {name for name, in conn.execute(
            "SELECT DISTINCT relation FROM tenantcall.export_company(%s)", [company]).fetchall()}
        assert exported <= there
        assert {"telephony.companies", "telephony.calls", "telephony.call_events", "tenantcall.quarantine",
                "tenantcall.call_bindings"} <= exported
        deleted = dict(conn.execute("SELECT * FROM tenantcall.delete_company(%s)", [company]).fetchall())
        assert set(deleted) == there - {"telephony.companies"}
        assert deleted["tenantcall.quarantine"] == 1
