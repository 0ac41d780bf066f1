"""The quota: no window of the calendar's ever sees more than its limit.

The window is scaled down to 2 s; test/bench/http_soak.py takes the real one of 60 s, for an hour.
"""
import os
import signal

import pytest

import pgserver
from http_stage import CONF, Load, Preload, Stage

WINDOW, LIMIT = 2, 24
QUOTA = {"tenantcall.http_quota": LIMIT, "tenantcall.http_quota_window": WINDOW,
         "tenantcall.http_quota_burst": 6, "tenantcall.http_quota_reserve": 2}

pytestmark = pytest.mark.limit(300)


@pytest.fixture
def stage(workspace, install):
    """A server whose wall clock can be set."""
    preload = Preload(workspace)
    with preload:
        server = pgserver.Cluster(workspace, install, "quota", {**CONF, **QUOTA}).start()
    server.create_template()
    server.create_database("app")
    stage = Stage(server)
    stage.preload = preload
    stage.wait_for_worker()
    yield stage
    server.discard()


def arrivals(calcom):
    """How many requests came."""
    return calcom.count("/v2/me")


def wait_for_more(stage, calcom, number):
    """Waits until so many more requests have come."""
    target = arrivals(calcom) + number
    stage.cluster.wait_until(lambda: arrivals(calcom) >= target, "requests to come")


def test_never_exceeded(stage, calcom):
    """Under load, with restarts of worker and server, with clocks that jump: never more."""
    calcom.limit.set(limit=LIMIT, window=float(WINDOW), block=float(WINDOW))
    name = stage.account(calcom)
    load = Load(stage, name)
    wait_for_more(stage, calcom, 3 * LIMIT)
    pid = stage.worker()
    os.kill(pid, signal.SIGTERM)
    wait_for_more(stage, calcom, LIMIT)
    for seconds in (3600, -3600, 86400, 0):
        stage.preload.set_clock(seconds)
        wait_for_more(stage, calcom, LIMIT)
    os.kill(stage.worker(), signal.SIGKILL)
    wait_for_more(stage, calcom, LIMIT)
    stage.cluster.restart("fast")
    wait_for_more(stage, calcom, LIMIT)
    stage.cluster.restart("immediate")
    wait_for_more(stage, calcom, LIMIT)
    answered = load.end()
    assert calcom.most_in_window(window=float(WINDOW)) <= LIMIT
    assert calcom.limit.refused == 0
    assert min(answered.values()) * 2 >= max(answered.values()) > 0, answered


def test_learned(stage, calcom):
    """A calendar that admits less than configured: its headers are believed."""
    calcom.limit.set(limit=6, window=float(WINDOW), block=float(WINDOW))
    name = stage.account(calcom)
    load = Load(stage, name)
    wait_for_more(stage, calcom, 20)
    refused = calcom.limit.refused
    assert stage.stat(name, "quota_limit") == "6"
    wait_for_more(stage, calcom, 20)
    load.end()
    assert calcom.limit.refused == refused <= 6


def test_one_key_by_several_names(stage, calcom):
    """The calendar counts by key: so do we, under whatever names, in whichever database."""
    calcom.limit.set(limit=LIMIT, window=float(WINDOW), block=float(WINDOW))
    stage.cluster.restart("fast", **{"tenantcall.worker_databases": "app, second"})
    stage.cluster.create_database("second")
    stage.wait_for_worker()
    second = Stage(stage.cluster, "second")
    second.wait_for_worker()
    key = calcom.account("one key for all")
    loads = [Load(place, place.credential(name, calcom.url, key))
             for place, name in ((stage, "first"), (stage, "alias"), (second, "third"))]
    wait_for_more(stage, calcom, 6 * LIMIT)
    for load in loads:
        load.end()
    assert calcom.most_in_window(window=float(WINDOW)) <= LIMIT
    assert calcom.limit.refused == 0
