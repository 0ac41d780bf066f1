"""The HTTP worker over some thousand requests: nothing grows, and no snapshot is held.

The same over 100,000 requests, with a plot: test/bench/http_flat.py.
"""
import os
import pathlib

import pytest

from http_stage import CONF, DATABASE, Stage

AT_ONCE = 20
PART = 500


@pytest.fixture
def make_stage(make_cluster):
    """A server with a worker, of the test's own: others' requests would be counted."""
    def make():
        server = make_cluster(**{**CONF, "tenantcall.http_credential_requests": AT_ONCE})
        server.create_database(DATABASE)
        stage = Stage(server)
        stage.pid = stage.wait_for_worker()
        return stage
    return make


def used(stage):
    """File descriptors and threads of the worker."""
    process = pathlib.Path(f"/proc/{stage.pid}")
    return len(os.listdir(process / "fd")), len(os.listdir(process / "task"))


def own_memory(stage):
    """Memory that the worker shares with nobody, in kB."""
    for line in pathlib.Path(f"/proc/{stage.pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    raise AssertionError("no RssAnon")


def ask(stage, requests):
    """Sends requests; all must be answered."""
    result = stage.ask("fast", requests=requests, at_once=AT_ONCE, path="/v2/slots", max_wait="60 s")
    assert (result["answered"], result["failed"], result["refused"]) == (requests, 0, 0)


def dead_rows(stage):
    """In the tables of tenantcall, as far as statistics have been told of them."""
    return stage.sql("SELECT sum(n_dead_tup + n_tup_upd + n_tup_del) FROM pg_stat_all_tables "
                     "WHERE schemaname IN ('tenantcall', 'telephony')")


def test_nothing_grows(make_stage, calcom_fast):
    """Descriptors, threads, memory and dead rows are after 5,000 requests what they were after 1,000."""
    stage = make_stage()
    stage.credential("fast", calcom_fast.url)
    ask(stage, 2 * PART)
    before, memory, dead = used(stage), own_memory(stage), dead_rows(stage)
    for _ in range(8):
        ask(stage, PART)
        assert used(stage) == before
    assert own_memory(stage) <= memory + 512
    assert dead_rows(stage) == dead
    assert stage.worker() == stage.pid


def test_nothing_grows_with_failures(make_stage, calcom, certificates):
    """The same when each connection is reset, or TLS fails."""
    stage = make_stage()
    calcom.account("cal_key_of_test")
    stage.credential("fast", calcom.url)
    targets = [calcom.url]
    if certificates:
        targets.append(calcom.bad_tls_url("wrong_name"))
    calcom.fault("reset", times=None)
    before = None
    for _ in range(5):
        for url in targets:
            stage.credential("fast", url)
            result = stage.ask("fast", requests=60, at_once=AT_ONCE, max_wait="60 s")
            assert result["failed"] == 60
        if before is None:
            before = used(stage)
        # threads that resolve names end by themselves
        stage.cluster.wait_until(lambda: used(stage) <= before, f"{before} descriptors and threads")


def test_no_snapshot_is_held(make_stage, calcom):
    """While requests are under way, the worker has no transaction, no snapshot and no lock."""
    stage = make_stage()
    name = stage.account(calcom)
    calcom.fault("hang", times=None)
    future = stage.later(stage.ask, name, requests=AT_ONCE, at_once=AT_ONCE, max_wait="60 s")
    try:
        stage.wait_for(name, f"under_way = {AT_ONCE}")
        for _ in range(20):
            stage.check("nobody")  # has the worker take a turn
            held = stage.sql("SELECT backend_xmin, backend_xid, xact_start, "
                             "(SELECT count(*) FROM pg_locks WHERE pid = a.pid) "
                             f"FROM pg_stat_activity AS a WHERE pid = {stage.pid}")
            assert held == "|||0"
    finally:
        calcom.drop_connections()
    assert future.result()["failed"] == AT_ONCE
