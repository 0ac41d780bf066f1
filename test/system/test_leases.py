"""Calls at once: exactly the limit, whatever races, dies or is delivered twice; no lease is left."""
import collections
import json
import os
import random
import signal
import threading
import time

import psycopg
import pytest

from calls import House, at_once, fixture, ingest, message, now_ms, raw, sign
from conftest import Database

MATCHED = ("SELECT provider_call_id, matched_by FROM telephony.inbound_requests "
           "WHERE company_id = %s AND provider_call_id IS NOT NULL")
ENDED = "all server processes terminated"
LEASES = "SELECT count(*) FROM telephony.call_leases WHERE company_id = %s"


@pytest.fixture
def house(db, role):
    """Two companies and a gateway."""
    made = House(db, role("gateway"))
    made.company()
    made.company()
    return made


def ring_body(number, caller="+4915111111111"):
    """The inbound webhook's body."""
    body = fixture("call_inbound")
    body["event_timestamp"] = now_ms()
    body["call_inbound"].update(to_number=number, from_number=caller)
    return raw(body)


def ring(conn, body, signature=None):
    """Delivers it; outcome and answer."""
    return conn.execute("SELECT outcome, answer FROM tenantcall.answer_inbound_call(%s::bytea, %s)",
                        [body, signature or sign(body)]).fetchone()


def token_of(answer):
    """The token that the platform is to put into the call's metadata."""
    return answer["call_inbound"]["metadata"]["tenantcall"]


def own_house(make_cluster, **settings):
    """A server of the test's own, with one company that may have 10 calls at once."""
    server = make_cluster(**settings)
    server.sql("CREATE ROLE gateway LOGIN")
    made = House(Database(server, server.create_database("leases")), "gateway")
    company = made.company()
    made.db.sql(f"SELECT tenantcall.set_concurrency_policy(10, company_id => {company})")
    return made, company


@pytest.mark.limit(240)
def test_exactly_the_limit(make_cluster):
    """64 answers at once for 10 calls: exactly 10 are accepted, in each of many runs."""
    house, company = own_house(make_cluster, max_connections=100)
    conns = [house.connect() for _ in range(64)]
    with house.db.connect(autocommit=True) as admin:
        for run in range(25):
            number = house.numbers[company][0]
            bodies = [ring_body(number, f"+49151{run:03}{i:05}") for i in range(64)]
            results = at_once([lambda c=c, b=b: ring(c, b) for c, b in zip(conns, bodies)])
            assert collections.Counter(r[0] for r in results) == {"accepted": 10, "limited": 54}
            assert len({token_of(r[1]) for r in results if r[0] == "accepted"}) == 10
            assert admin.execute(LEASES, [company]).fetchone() == (10,)
            admin.execute("DELETE FROM telephony.call_leases")
        # diallers and ringing phones together: no more than 6 outbound, the rest stays for inbound
        admin.execute("SELECT tenantcall.set_concurrency_policy(10, 4, 2, %s)", [company])
        for run in range(10):
            dials = [lambda c=c, i=i: c.execute(
                "SELECT outcome, reason FROM tenantcall.acquire_call_lease(%s, %s)",
                [company, f"dial {run} {i}"]).fetchone() for i, c in enumerate(conns[:32])]
            rings = [lambda c=c, i=i: ring(c, ring_body(house.numbers[company][0],
                                                        f"+49152{run:03}{i:05}"))
                     for i, c in enumerate(conns[32:])]
            outcomes = collections.Counter(r[0] for r in at_once(dials + rings))
            assert outcomes["acquired"] <= 6 and outcomes["accepted"] >= 6
            assert outcomes["acquired"] + outcomes["accepted"] == 12
            admin.execute("DELETE FROM telephony.call_leases")
    for conn in conns:
        conn.close()


class Ringer(threading.Thread):
    """Rings and hangs up, again and again, whatever becomes of its connection."""

    def __init__(self, house, company, stop):
        super().__init__(daemon=True)
        self.house, self.company, self.stop = house, company, stop
        self.accepted = []
        self.failure = None

    def run(self):
        while not self.stop.is_set():
            try:
                with self.house.connect() as conn:
                    while not self.stop.is_set():
                        body = ring_body(self.house.numbers[self.company][0],
                                         f"+4915{random.randrange(10**9):09}")
                        outcome, answer = ring(conn, body)
                        if outcome == "accepted":
                            self.accepted.append(token_of(answer))
            except psycopg.OperationalError:
                time.sleep(0.01)
            except BaseException as error:  # pylint: disable=broad-except
                self.failure = error
                return


def check_books(admin, company, ringers):
    """What was answered is there; each accepted request has its lease; never more than 10."""
    leases = admin.execute(LEASES, [company]).fetchone()[0]
    assert leases <= 10
    accepted = admin.execute(
        "SELECT r.correlation, l.holder IS NOT NULL FROM telephony.inbound_requests AS r "
        "LEFT JOIN telephony.call_leases AS l ON l.company_id = r.company_id "
        "AND l.holder = r.correlation WHERE r.company_id = %s AND r.outcome = 'accepted'",
        [company]).fetchall()
    assert len(accepted) == leases and all(held for _, held in accepted)
    told = [token for ringer in ringers for token in ringer.accepted]
    known = {row[0] for row in admin.execute(
        "SELECT t FROM unnest(%s::text[]) AS t JOIN telephony.inbound_requests AS r "
        "ON r.correlation = encode(sha256(t::bytea), 'hex')", [told]).fetchall()}
    assert known == set(told)


@pytest.mark.limit(240)
def test_kills_between(make_cluster):
    """Backends and the postmaster die at any moment: no lease is forgotten, leaked or too many."""
    house, company = own_house(make_cluster)
    stop = threading.Event()
    ringers = [Ringer(house, company, stop) for _ in range(8)]
    server = house.db.cluster
    for ringer in ringers:
        ringer.start()
    for number in range(8):
        server.wait_until(lambda: any(r.accepted for r in ringers), "an accepted call")
        if number % 4 == 3:
            server.kill9()
            server.start()
        else:
            victim = server.sql("SELECT pid FROM pg_stat_activity WHERE usename = 'gateway' "
                                "ORDER BY random() LIMIT 1")
            if victim:
                ended = server.log().count(ENDED)
                os.kill(int(victim), signal.SIGKILL)
                server.wait_until(lambda: server.log().count(ENDED) > ended, "the server's end")
                server.wait_until(lambda: server.psql("-c", "SELECT 1").returncode == 0, "recovery")
        with house.db.connect(autocommit=True) as admin:
            # as one statement sees it, while the ringers go on
            assert admin.execute(LEASES, [company]).fetchone()[0] <= 10
            if number % 2:
                for ringer in ringers:
                    ringer.accepted.clear()
                admin.execute("DELETE FROM telephony.inbound_requests")
                admin.execute("DELETE FROM telephony.call_leases")
    stop.set()
    for ringer in ringers:
        ringer.join(30)
        assert ringer.failure is None
    server.kill9()
    server.start()
    with house.db.connect(autocommit=True) as admin:
        assert admin.execute(LEASES, [company]).fetchone()[0] <= 10
        admin.execute("DELETE FROM telephony.inbound_requests")
        admin.execute("DELETE FROM telephony.call_leases")
    again = [Ringer(house, company, threading.Event()) for _ in range(4)]
    for ringer in again:
        ringer.start()
    server.wait_until(lambda: sum(len(r.accepted) for r in again) >= 10, "ten calls")
    server.kill9()
    for ringer in again:
        ringer.stop.set()
        ringer.join(30)
    server.start()
    with house.db.connect(autocommit=True) as admin:
        check_books(admin, company, again)
        assert admin.execute(LEASES, [company]).fetchone() == (10,)
    with house.connect() as gateway:
        body = ring_body(house.numbers[company][0], "+4915999999999")
        assert ring(gateway, body)[0] == "limited"


def test_admission_waits_with_an_end(house):
    """Whoever keeps the company's lock keeps others waiting, but not for ever."""
    company = house.companies[0]
    with house.connect() as holder, house.connect() as gateway:
        holder.execute("BEGIN")
        holder.execute("SELECT tenantcall.acquire_call_lease(%s, 'x')", [company])
        with pytest.raises(psycopg.errors.LockNotAvailable):
            ring(gateway, ring_body(house.numbers[company][0]))
        # other companies do not wait; nor do events; nor does company_lock() get in the way
        assert ring(gateway, ring_body(house.numbers[house.companies[1]][0]))[0] == "accepted"
        got = ingest(gateway, message("call_started", "not kept waiting",
                                      to_number=house.numbers[company][0]))
        assert got["outcome"] == "applied"
        holder.execute("ROLLBACK")
        holder.execute("BEGIN")
        holder.execute("SELECT tenantcall.enter(%s)", [company])
        for key in ("call leases", "\x01call leases"):
            holder.execute("SELECT tenantcall.company_lock(%s)", [key])
        assert ring(gateway, ring_body(house.numbers[company][0]))[0] == "accepted"
        assert gateway.execute("SHOW lock_timeout").fetchone() == ("0",)
        holder.execute("ROLLBACK")


def test_the_same_delivery_at_once(house):
    """Eight deliveries of one request: one answer, one lease, one token of the rate limit."""
    company = house.companies[0]
    house.db.sql("SELECT tenantcall.set_rate_policy('inbound_call', 100, '1 day', "
                 f"company_id => {company})")
    conns = [house.connect() for _ in range(8)]
    with house.db.connect(autocommit=True) as admin:
        for run in range(20):
            body = ring_body(house.numbers[company][0], f"+491519999{run:04}")
            signature = sign(body)
            results = at_once([lambda c=c: ring(c, body, signature) for c in conns])
            assert len({(outcome, json.dumps(answer)) for outcome, answer in results}) == 1
            assert results[0][0] == "accepted"
            assert admin.execute(LEASES, [company]).fetchone() == (run + 1,)
            remaining = house.db.sql(
                f"BEGIN; SELECT tenantcall.enter({company}); "
                "SELECT remaining FROM tenantcall.peek('inbound_call'); COMMIT",
                role=house.gateway).split()[-1]
            assert int(remaining) == 99 - run
        assert admin.execute("SELECT count(*) FROM telephony.tenant_decisions WHERE kind = 'inbound'"
                             ).fetchone() == (20,)


def call_events(call_id, number, caller, token, kind):
    """The events of an inbound call, as the vendor would send them for that kind of call."""
    common = {"to_number": number, "from_number": caller,
              "metadata": {"tenantcall": token} if token else None}
    ends = {"failed": {"disconnection_reason": "error_asr"},
            "transferred": {"disconnection_reason": "call_transfer"},
            "not_connected": {"disconnection_reason": "dial_busy",
                              "call_status": "not_connected"}}.get(kind, {})
    names = ["call_ended", "call_analyzed"]
    if kind != "not_connected":
        names += ["call_started", "transcript_updated"]
    if kind == "end_lost":
        names.remove("call_ended")
    return [raw(message(name, call_id, **common, **(ends if name == "call_ended" else {})))
            for name in names]


@pytest.mark.limit(180)
def test_no_lease_is_left(house):
    """Shuffled and doubled events, backends dying: every call has its request, none a lease."""
    company = house.companies[0]
    house.db.sql(f"SELECT tenantcall.set_concurrency_policy(1000, company_id => {company})")
    number = house.numbers[company][0]
    kinds = ["completed", "failed", "transferred", "not_connected", "end_lost"]
    bodies, expected = [], {}
    with house.connect() as gateway:
        for i in range(120):
            caller = f"+49151{i % 40:08}"
            outcome, answer = ring(gateway, ring_body(number, caller))
            assert outcome == "accepted"
            call_id = f"left_{i}"
            with_token = i % 4 != 0 or i >= 40  # a caller's only call without token
            bodies += call_events(call_id, number, caller, token_of(answer) if with_token else None,
                                  kinds[i % 5])
            expected[call_id] = "metadata" if with_token else "window"
    bodies += random.sample(bodies, len(bodies) // 3)
    random.shuffle(bodies)
    failures = []

    def deliver(mine):
        conn = None
        for body in mine:
            for _ in range(1000):
                try:
                    conn = conn or house.connect()
                    got = ingest(conn, body)
                    if got["outcome"] not in ("applied", "merged", "duplicate"):
                        failures.append(got)
                    break
                except psycopg.OperationalError as error:
                    if error.sqlstate == "40P01":
                        failures.append(error)
                    conn = None

    senders = [threading.Thread(target=deliver, args=[bodies[i::8]], daemon=True) for i in range(8)]
    with house.db.connect(autocommit=True) as admin:
        for sender in senders:
            sender.start()
        while any(sender.is_alive() for sender in senders):
            admin.execute("SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity "
                          "WHERE usename = %s ORDER BY random() LIMIT 1) AS a", [house.gateway])
            time.sleep(random.uniform(0.01, 0.04))
        assert failures == []
        matched = dict(admin.execute(MATCHED, [company]).fetchall())
        by_token = {call for call, how in expected.items() if how == "metadata"}
        assert {call for call, how in matched.items() if how == "metadata"} == by_token
        assert matched == expected
        assert admin.execute("SELECT l.holder, l.provider_call_id, c.status FROM telephony.call_leases AS l "
                             "LEFT JOIN telephony.calls AS c USING (company_id, provider_call_id)"
                             ).fetchall() == []


def test_parallel_calls_of_one_caller(house):
    """Calls without tokens, of one caller at once: each gets a request, and none two."""
    company = house.companies[0]
    number = house.numbers[company][0]
    conns = [house.connect() for _ in range(8)]
    with house.db.connect(autocommit=True) as admin:
        for run in range(10):
            caller = f"+491517777{run:04}"
            for i in range(8):
                body = ring_body(number, caller)
                assert ring(conns[0], body, sign(body, at=now_ms() - 10 * i))[0] == "accepted"
            bodies = [raw(message("call_started", f"parallel_{run}_{i}", to_number=number,
                                  from_number=caller, metadata=None)) for i in range(8)]
            at_once([lambda c=c, b=b: ingest(c, b) for c, b in zip(conns, bodies)])
            rows = admin.execute(MATCHED + " AND from_number = %s", [company, caller]).fetchall()
            assert len({call for call, _ in rows}) == len(rows) == 8
            assert {how for _, how in rows} == {"window"}
            admin.execute("DELETE FROM telephony.call_leases")


def test_race_for_a_token(house):
    """Two calls that bring one token at the same moment: one match, one recorded conflict."""
    company, other = house.companies
    number = house.numbers[company][0]
    with house.connect() as one, house.connect() as two, house.db.connect(autocommit=True) as admin:
        for run in range(30):
            caller = f"+491516666{run:04}"
            token = token_of(ring(one, ring_body(number, caller))[1])
            calls = [f"race_{run}_{i}" for i in range(2)]
            bodies = [raw(message("call_started", call, to_number=number, from_number=caller,
                                  metadata={"tenantcall": token})) for call in calls]
            results = at_once([lambda c=c, b=b: ingest(c, b) for c, b in zip((one, two), bodies)])
            assert [r["outcome"] for r in results] == ["applied", "applied"]
            reasons = [r["reason"] for r in results]
            assert reasons.count(None) == 1
            assert set(reasons) <= {None, "token_replayed", "token_in_use"}
            winner = calls[reasons.index(None)]
            assert admin.execute(MATCHED + " AND from_number = %s", [company, caller]).fetchall() \
                == [(winner, "metadata")]
            conflicts = admin.execute(
                "SELECT provider_call_id FROM telephony.tenant_decisions WHERE kind = 'match' "
                "AND outcome = 'conflict' AND provider_call_id = ANY (%s)", [calls]).fetchall()
            assert conflicts == [(calls[1 - calls.index(winner)],)]
            # at the other company it is worth nothing
            stolen = message("call_started", f"stolen_{run}", to_number=house.numbers[other][0],
                             from_number=caller, metadata={"tenantcall": token})
            got = ingest(one, stolen)
            assert (got["company_id"], got["reason"]) == (other, "unknown_token")
            admin.execute("DELETE FROM telephony.call_leases")


def test_a_restored_dump(house):
    """A copy honours the tokens of the requests that it holds, as often as they were open then."""
    company = house.companies[0]
    number = house.numbers[company][0]
    with house.connect() as gateway:
        tokens = [token_of(ring(gateway, ring_body(number, f"+491515555000{i}"))[1])
                  for i in range(3)]
        body = [message("call_started", f"copy_{i}", to_number=number, metadata={"tenantcall": token},
                        from_number=f"+491515555000{i}") for i, token in enumerate(tokens)]
        assert ingest(gateway, body[0])["reason"] is None
    dump = house.db.cluster.client_program("pg_dump", house.db.name)
    assert not any(token in dump for token in tokens[1:])
    assert '"tenantcall"' not in "".join(line for line in dump.split("\n") if "call_inbound" in line)
    with house.connect() as gateway:
        assert ingest(gateway, body[1])["reason"] is None
    copy = Database(house.db.cluster, house.db.name + "_copy")
    house.db.cluster.sql(f'CREATE DATABASE "{copy.name}" TEMPLATE template0')
    try:
        copy.sql("SET client_min_messages = error;\n" + dump)
        with copy.connect(role=house.gateway, autocommit=True) as gateway:
            replayed = {**body[0], "call": {**body[0]["call"], "call_id": "copy_again"}}
            assert ingest(gateway, replayed)["reason"] == "token_replayed"
            assert ingest(gateway, body[1])["reason"] is None
            assert ingest(gateway, body[2])["reason"] is None
    finally:
        copy.cluster.drop_database(copy.name)


def test_tokens_need_no_key(make_cluster):
    """Tokens stay good when the key file changes: they are not signed."""
    house, company = own_house(make_cluster)
    number = house.numbers[company][0]
    with house.connect() as gateway:
        token = token_of(ring(gateway, ring_body(number))[1])
        key_file = house.db.cluster.key_file
        lines = key_file.read_text().split("\n")
        key_file.write_text("\n".join(["k3 " + "ab" * 32, lines[0]]))
        house.db.cluster.reload()
        got = ingest(gateway, message("call_started", "rotated", to_number=number,
                                      from_number="+4915111111111", metadata={"tenantcall": token}))
        assert (got["outcome"], got["reason"]) == ("applied", None)
    assert house.db.sql("SELECT matched_by FROM telephony.inbound_requests") == "metadata"
