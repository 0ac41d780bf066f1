"""Room for answers of calendars is small: what goes, and that the others stay right."""
import datetime

import pytest

import pgserver
from calcom_standin import CalcomStandIn
from desk import DATABASE, Desk, monday

DAY = datetime.timedelta(days=1)
ENTRIES = 64  # the fewest that can be set
SHARE = 16  # of one company
PAGES = 4 * ENTRIES  # each of 63 slots


@pytest.fixture(scope="module", name="desk")
def make_desk(workspace, install, certificates):
    """A server with the smallest cache, and a calendar."""
    with CalcomStandIn(tls=certificates) as calcom:
        cluster = pgserver.Cluster(workspace, install, "room", {
            "tenantcall.worker_databases": DATABASE, "tenantcall.http_local_hosts": "127.0.0.1",
            "tenantcall.http_quota": 0, "tenantcall.slot_cache_entries": ENTRIES}).start()
        cluster.create_template()
        yield Desk(cluster, calcom)
        cluster.discard()
        assert calcom.errors == []


@pytest.fixture(scope="module", name="shops")
def make_shops(desk):
    """Six companies with accounts of their own, each with a service."""
    made = []
    for number in range(6):
        company = desk.company(f"Shop {number}", desk.credential(f"room{number}"), Mitte=None)
        made.append((company, desk.service(company, "Haircut", 501)))
    return made


def ask(desk, shop, days, length=1):
    """The slots of several windows, in one session, and how often the calendar was asked."""
    company, service = shop
    before = desk.asked()
    with desk.as_app(company, "Mitte") as conn:
        got = [[start for start, in conn.execute(*desk.question(
            service, monday() + day * DAY, length, max_wait="60 s")).fetchall()] for day in days]
    return got, desk.asked() - before


def entries(desk):
    """How many answers are kept, by company."""
    rows = desk.cluster.sql("SELECT company_id, sum(entries) FROM tenantcall.stat_cache GROUP BY 1", dbname=DATABASE)
    return {int(row.split("|")[0]): int(row.split("|")[1]) for row in rows.split("\n")}


def test_share_of_a_company(desk, shops):
    """A company that asks a lot drops its own oldest answers, and nobody else's."""
    other, busy = shops[:2]
    first, asked = ask(desk, other, range(3))
    assert asked == 3
    days = range(SHARE + 8)
    told, asked = ask(desk, busy, days)
    assert asked == len(days)
    assert entries(desk)[busy[0].id] == SHARE
    assert ask(desk, busy, days[-SHARE:]) == (told[-SHARE:], 0)  # the latest are there
    assert ask(desk, busy, days[:1]) == (told[:1], 1)
    assert ask(desk, other, range(3)) == (first, 0)


def test_full_of_entries(desk, shops):
    """When all is full, what was not asked for lately goes; every answer stays right."""
    told = {}
    for shop in shops:
        told[shop[0].id], asked = ask(desk, shop, range(SHARE))
        assert sum(entries(desk).values()) <= ENTRIES
    assert sum(entries(desk).values()) == ENTRIES
    for shop in shops:
        got, asked = ask(desk, shop, range(SHARE))
        assert got == told[shop[0].id]


def test_full_of_pages(desk, shops):
    """Long answers push out others before the entries are used up."""
    told = {}
    for shop in shops[:2]:
        told[shop[0].id], _ = ask(desk, shop, range(SHARE), length=60)
    assert len(told[shops[0][0].id][0]) > 600  # more than ten pages each
    kept = entries(desk)
    assert sum(kept.values()) <= PAGES // 10 + ENTRIES
    got, asked = ask(desk, shops[0], range(SHARE), length=60)
    assert got == told[shops[0][0].id] and asked > 0
