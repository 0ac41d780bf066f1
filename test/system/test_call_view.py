"""The context of a call: one answer within a command, a new one after it."""
import threading

import pytest

CONTEXT = "(tenantcall.call_context('call_view')).status"


@pytest.fixture
def call(db, role):
    """A running call of a company; returns the gateway's role."""
    gateway = role("gateway")
    db.sql(f"""
        SELECT tenantcall.grant_gateway('{gateway}');
        SELECT tenantcall.create_company('c', 'DE', 'UTC') AS c \\gset
        BEGIN;
        SELECT tenantcall.enter(:c);
        INSERT INTO telephony.calls (provider_call_id, status) VALUES ('call_view', 'inbound');
        INSERT INTO tenantcall.call_bindings (provider, provider_call_id, company_id)
            VALUES ('retell', 'call_view', :c);
        COMMIT""")
    return gateway


def test_one_answer_within_a_command(db, call):
    """A change that commits during the command is seen by the next one, not by this one."""
    with db.connect(autocommit=True) as holder, db.connect(role=call, autocommit=True) as reader:
        holder.execute("SELECT pg_advisory_lock(7)")
        rows = []
        thread = threading.Thread(target=lambda: rows.append(reader.execute(
            f"SELECT {CONTEXT}, pg_advisory_lock_shared(7)::text, {CONTEXT}, {CONTEXT}"
        ).fetchone()))
        thread.start()
        db.cluster.wait_until(
            lambda: db.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
                           "AND NOT granted") == "1", "the reader to wait")
        db.sql("SELECT tenantcall.advance_call('call_view', 'ongoing')", role=call)
        holder.execute("SELECT pg_advisory_unlock(7)")
        thread.join()
        assert rows == [("inbound", "", "inbound", "inbound")]
        assert reader.execute(f"SELECT {CONTEXT}").fetchone() == ("ongoing",)


@pytest.mark.parametrize("level, after", [("read committed", "ongoing"),
                                          ("repeatable read", "inbound")])
def test_transaction_isolation(db, call, level, after):
    """Within a transaction it changes as the isolation level says."""
    with db.connect(role=call) as reader:
        reader.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        assert reader.execute(f"SELECT {CONTEXT}").fetchone() == ("inbound",)
        db.sql("SELECT tenantcall.advance_call('call_view', 'ongoing')", role=call)
        assert reader.execute(f"SELECT {CONTEXT}").fetchone() == (after,)
        reader.rollback()
        assert reader.execute(f"SELECT {CONTEXT}").fetchone() == ("ongoing",)


def test_loop_in_one_statement_sees_changes(db, call):
    """A DO block that waits for a state, evaluating a simple expression, gets it."""
    with db.connect(role=call, autocommit=True) as waiter:
        errors = []

        def wait():
            try:
                waiter.execute(f"""
                    SET statement_timeout = '30 s';
                    DO $$ BEGIN WHILE {CONTEXT} <> 'ongoing' LOOP END LOOP; END $$""")
            except Exception as error:  # handed over to the main thread
                errors.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        db.cluster.wait_until(
            lambda: db.sql("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' "
                           "AND query LIKE '%WHILE%' AND pid <> pg_backend_pid()") == "1",
            "the loop to run")
        db.sql("SELECT tenantcall.advance_call('call_view', 'ongoing')", role=call)
        thread.join()
        assert not errors


def test_kept_for_the_command(db, call):
    """1,000 questions about one call in a command read the tables once."""
    with db.connect(role=call, autocommit=True) as reader:
        def scans():
            reader.execute("SELECT pg_stat_force_next_flush()")
            return sum(int(n) for n in db.sql(
                "SELECT coalesce(seq_scan, 0) + coalesce(idx_scan, 0) FROM pg_stat_user_tables "
                "WHERE relname = 'companies' AND schemaname = 'telephony'").split())

        before = scans()
        assert reader.execute(f"SELECT count(DISTINCT {CONTEXT}) FROM generate_series(1, 1000)"
                              ).fetchone() == (1,)
        assert scans() - before < 10
