"""Events of calls: in any order, duplicated, concurrently, with backends dying: the same result."""
import collections
import itertools
import random
import threading
import time

import psycopg
import pytest

from calls import AGENT, House, at_once, fixture, ingest, message, now_ms, raw, sign

STAGES = ["call_started", "transcript_updated", "call_ended", "call_analyzed"]
ROW = """SELECT direction, from_number, to_number, agent, status, started_at, ended_at,
       analyzed_at IS NOT NULL AS analyzed, disconnection_reason, duration, cost_cents, sentiment,
       summary, transcript, recording_url, branch_id, phone_number_id
FROM telephony.calls WHERE provider_call_id = %s"""
RANKS = {"inbound": 1, "outbound": 1, "ongoing": 2, "abandoned": 3, "not_connected": 4, "failed": 4,
         "transferred": 4, "completed": 4, "analyzed": 5}


@pytest.fixture
def house(db, role):
    """Two companies and a gateway."""
    made = House(db, role("gateway"))
    made.company()
    made.company()
    return made


def events(house, ended=None, analyzed=None, **common):
    """The four events of a call of the first company's first number, before they get an id."""
    common = {"to_number": house.numbers[house.companies[0]][0],
              "start_timestamp": now_ms() - 60000, **common}
    made = {name: message(name, "?", **common) for name in STAGES}
    made["transcript_updated"]["call"]["transcript"] = "Agent: Hello."
    for name, changes in (("call_ended", ended), ("call_analyzed", analyzed)):
        for member, value in (changes or {}).items():
            made[name]["call"][member] = value
            if value is None:
                del made[name]["call"][member]
    return made


def variants(house):
    """Kinds of calls: the events, and the state in which the whole call must end."""
    first, second = house.companies
    number, other_branch = house.numbers[first]
    return {
        "completed": (events(house), "analyzed"),
        "transferred": (events(house, {"disconnection_reason": "call_transfer"}), "transferred"),
        "not_connected": (events(house, {"disconnection_reason": "dial_no_answer",
                                         "call_status": "not_connected"},
                                 direction="outbound", from_number=number,
                                 to_number="+4915112345678"), "not_connected"),
        "failed": (events(house, {"disconnection_reason": "error_asr"}), "failed"),
        "unknown_reason": (events(house, {"disconnection_reason": "brand_new"}), "analyzed"),
        "no_reason": (events(house, {"disconnection_reason": None, "call_status": "error"},
                             {"disconnection_reason": None}), "failed"),
        # events that contradict each other, and leave out what others say
        "contradicting": (contradicting(events(house), other_branch), "failed"),
    }


def contradicting(made, other_number):
    """Takes agreement out of the events of a call."""
    calls = {name: body["call"] for name, body in made.items()}
    calls["call_started"].update(agent_id="a1", from_number="+4915111111111", direction="outbound",
                                 disconnection_reason="dial_busy", duration_ms=3,
                                 end_timestamp=now_ms())
    calls["call_started"]["from_number"] = calls["call_started"]["to_number"]
    calls["transcript_updated"].update(to_number=other_number, duration_ms=5, agent_id="a2",
                                       disconnection_reason="user_declined")
    calls["call_ended"].update(to_number=other_number, disconnection_reason="error_asr",
                               transcript=None)
    del calls["call_ended"]["start_timestamp"]
    calls["call_analyzed"].update(disconnection_reason="user_hangup", agent_id="a3")
    del calls["call_analyzed"]["duration_ms"], calls["call_analyzed"]["start_timestamp"]
    calls["call_analyzed"]["end_timestamp"] += 1000
    return made


def sequences(duplicates):
    """All orders of all sets of events; and of all sets with one event doubled."""
    for size in range(1, len(STAGES) + 1):
        for chosen in itertools.combinations(STAGES, size):
            yield from itertools.permutations(chosen)
    for name in STAGES if duplicates else []:
        yield from set(itertools.permutations([*STAGES, name]))


def expected_outcome(name, seen):
    """What an event does after these."""
    if name in seen:
        return "duplicate", None
    if name == "call_analyzed" and "call_ended" not in seen:
        return "merged", "held_until_end"
    later = any(STAGES.index(other) > STAGES.index(name) for other in seen)
    return ("merged" if later else "applied"), None


def check_audit(conn, call_id, legal):
    """The moves form a chain of legal ones, in time order, and never fall; returns them."""
    moves = conn.execute(
        "SELECT t.from_state, t.to_state, t.at, t.event FROM telephony.call_transitions AS t "
        "JOIN telephony.calls AS c ON c.company_id = t.company_id "
        "AND t.key = c.call_id::text "
        "WHERE c.provider_call_id = %s ORDER BY t.transition_id", [call_id]).fetchall()
    before, at = None, None
    for from_state, to_state, moved_at, _event in moves:
        assert from_state == before
        assert at is None or moved_at >= at
        if before is not None:
            assert (from_state, to_state) in legal
            assert RANKS[to_state] >= RANKS[from_state]
        before, at = to_state, moved_at
    return moves


def legal_moves(admin):
    """The lifecycle's transitions."""
    return set(admin.execute("SELECT from_state, to_state FROM "
                             "tenantcall.lifecycle_transitions_in_force "
                             "WHERE lifecycle = 'call'").fetchall())



@pytest.mark.limit(240)
def test_every_order_of_events(house):
    """The final row depends on the set of events alone, outcomes and audit are true."""
    with house.connect() as gateway, house.db.connect(autocommit=True) as admin:
        legal = legal_moves(admin)
        for kind, (made, final) in variants(house).items():
            rows = {}
            for number, sequence in enumerate(sequences(kind in ("completed", "contradicting"))):
                call_id = f"{kind}_{number}"
                seen = []
                for name in sequence:
                    made[name]["call"]["call_id"] = call_id
                    got = ingest(gateway, made[name])
                    assert (got["outcome"], got["reason"]) == expected_outcome(name, seen), \
                        (kind, sequence, name, got)
                    seen.append(name)
                row = admin.execute(ROW, [call_id]).fetchone()
                assert got["status"] == row[4]
                rows.setdefault(frozenset(sequence), {}).setdefault(row, sequence)
                stored = dict(admin.execute(
                    "SELECT e.event, e.deliveries FROM telephony.call_events AS e "
                    "JOIN telephony.calls AS c USING (company_id, call_id) "
                    "WHERE c.provider_call_id = %s", [call_id]).fetchall())
                assert stored == collections.Counter(sequence), (kind, sequence)
                moves = check_audit(admin, call_id, legal)
                assert moves and moves[-1][1] == row[4], (kind, sequence, moves)
            for chosen, different in rows.items():
                assert len(different) == 1, (kind, sorted(chosen), different)
            whole = next(iter(rows[frozenset(STAGES)]))
            assert whole[4] == final, kind


def test_contents_of_the_row(house):
    """What the events of the vendor's samples add up to."""
    made = events(house)
    with house.connect() as gateway, house.db.connect(autocommit=True) as admin:
        for name in reversed(STAGES):
            made[name]["call"]["call_id"] = "contents"
            ingest(gateway, made[name])
        row = admin.execute(
            "SELECT direction, from_number, status, disconnection_reason, duration::text, "
            "cost_cents::text, sentiment, summary, transcript, analyzed_at IS NOT NULL "
            "FROM telephony.calls").fetchone()
    assert row == ("inbound", "+12137771234", "analyzed", "user_hangup", "00:00:15.791", "70",
                   "Positive", "The user scheduled an appointment next Monday 10am.",
                   "Agent: Hello.\nUser: I need an appointment.", True)


def test_the_longest_transcript_stays(house):
    """Each update carries the whole transcript so far, so their order does not matter."""
    number = house.numbers[house.companies[0]][0]
    texts = ["Agent: Hello.", "Agent: Hello.\nUser: Hi.", "Agent: Hello.\nUser: Hi.\nAgent: Yes?"]
    started = now_ms()
    with house.connect() as gateway, house.db.connect(autocommit=True) as admin:
        for order in itertools.permutations(texts):
            call_id = f"transcripts_{texts.index(order[0])}{texts.index(order[1])}"
            longest = ""
            for text in [*order, order[0]]:
                got = ingest(gateway, message("transcript_updated", call_id, transcript=text,
                                              to_number=number, start_timestamp=started))
                if len(text) > len(longest):
                    assert got["outcome"] == "applied"
                    longest = text
                elif text == longest:
                    assert (got["outcome"], got["reason"]) == ("duplicate", None)
                else:
                    assert (got["outcome"], got["reason"]) == ("duplicate", "content_differs")
            assert admin.execute("SELECT transcript FROM telephony.calls WHERE provider_call_id = %s",
                                 [call_id]).fetchone() == (texts[-1],)
        assert admin.execute("SELECT DISTINCT deliveries FROM telephony.call_events").fetchall() == [(4,)]


def test_a_duplicate_that_differs(house):
    """The first one stays; the second is a duplicate that says that it differs."""
    made = events(house)["call_ended"]
    made["call"]["call_id"] = "differs"
    with house.connect() as gateway, house.db.connect(autocommit=True) as admin:
        assert ingest(gateway, made)["outcome"] == "applied"
        before = admin.execute(ROW, ["differs"]).fetchone()
        made["call"]["disconnection_reason"] = "error_asr"
        got = ingest(gateway, made)
        assert (got["outcome"], got["reason"], got["status"]) == \
            ("duplicate", "content_differs", "completed")
        assert admin.execute(ROW, ["differs"]).fetchone() == before


def test_changed_meaning_of_a_reason(house):
    """What a reason means is decided when the call ends; later changes leave ended calls alone."""
    made = events(house)
    with house.connect() as gateway, house.db.connect(autocommit=True) as admin:
        for body in made.values():
            body["call"]["call_id"] = "meaning"
        assert ingest(gateway, made["call_ended"])["status"] == "completed"
        admin.execute("INSERT INTO tenantcall.disconnection_reasons VALUES ('user_hangup', 'failed')")
        got = ingest(gateway, made["call_started"])
        assert (got["outcome"], got["reason"], got["status"]) == ("merged", None, "completed")
        assert ingest(gateway, made["call_analyzed"])["status"] == "analyzed"
        made["call_ended"]["call"]["call_id"] = "meaning 2"
        assert ingest(gateway, made["call_ended"])["status"] == "failed"


class Sender(threading.Thread):
    """Delivers bodies like the vendor: up to three times again, if there was no answer."""

    def __init__(self, house, bodies):
        super().__init__(daemon=True)
        self.house, self.bodies = house, bodies
        self.acknowledged = collections.Counter()
        self.attempts = collections.Counter()
        self.sent = self.attempt = 0
        self.pid = None
        self.outcomes = collections.Counter()
        self.failure = None

    def run(self):
        conn = None
        try:
            for key, body in self.bodies:
                for self.attempt in range(4):
                    try:
                        conn = conn or self.house.connect()
                        self.pid = conn.info.backend_pid
                        self.attempts[key] += 1
                        self.sent += 1
                        got = ingest(conn, body)
                        break
                    except psycopg.OperationalError as error:
                        # only what a killed backend looks like: a deadlock is none of that
                        if error.sqlstate not in (None, "57P01") or self.attempt == 3:
                            raise
                        conn = None
                self.acknowledged[key] += 1
                self.outcomes[got["outcome"]] += 1
        except BaseException as error:  # pylint: disable=broad-except
            self.failure = error


def terminate_at_random(senders, admin):
    """Kills a backend of a sender each time that some 50 bodies were sent; how many.

    Not that of a sender which tries for the third time: the vendor gives up after the fourth, and
    on a busy machine all four could be killed.
    """
    killed, sent = 0, 0
    while any(sender.is_alive() for sender in senders):
        victim = random.choice(senders)
        if sum(sender.sent for sender in senders) < sent or victim.attempt > 1 or victim.pid is None:
            time.sleep(0.001)
            continue
        sent += random.randrange(20, 80)
        killed += admin.execute("SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM "
                                "pg_stat_activity WHERE pid = %s", [victim.pid]).fetchone()[0]
    return killed


@pytest.mark.limit(300)
def test_concurrent_senders_and_dying_backends(house):
    """1,000 calls, shuffled and doubled, over 8 connections: nothing lost, nothing twice."""
    bodies, finals = [], {}
    kinds = list(variants(house).values())
    for number in range(1000):
        made, final = kinds[number % 6]
        call_id = f"storm_{number}"
        finals[call_id] = final
        for name in STAGES:
            made[name]["call"]["call_id"] = call_id
            bodies += [((call_id, name), raw(made[name]))] * random.choice((1, 1, 2, 3))
    random.shuffle(bodies)
    senders = [Sender(house, bodies[i::8]) for i in range(8)]
    with house.db.connect(autocommit=True) as admin:
        for sender in senders:
            sender.start()
        killed = terminate_at_random(senders, admin)
        for sender in senders:
            sender.join()
            if sender.failure is not None:
                raise sender.failure
        assert killed > 10
        assert dict(admin.execute("SELECT provider_call_id, status FROM telephony.calls")) == finals
        sent, acknowledged, attempts = collections.Counter(k for k, _ in bodies), \
            collections.Counter(), collections.Counter()
        for sender in senders:
            acknowledged += sender.acknowledged
            attempts += sender.attempts
        assert acknowledged == sent
        stored = admin.execute("SELECT c.provider_call_id, e.event, e.deliveries FROM "
                               "telephony.call_events AS e JOIN telephony.calls AS c "
                               "USING (company_id, call_id)").fetchall()
        assert len(stored) == 4000
        for call_id, event, deliveries in stored:
            assert acknowledged[call_id, event] <= deliveries <= attempts[call_id, event]
        legal = legal_moves(admin)
        for call_id, final in finals.items():
            assert check_audit(admin, call_id, legal)[-1][1] == final
        assert admin.execute("SELECT count(*) FROM tenantcall.quarantine").fetchone() == (0,)
        assert set().union(*(s.outcomes for s in senders)) == {"applied", "duplicate", "merged"}
    for bad in ("PANIC", "TRAP", "deadlock detected", "was terminated by signal"):
        assert bad not in house.db.cluster.log()


def test_race_of_two_companies_for_a_call(house):
    """Two events of one call that name numbers of two companies: one binding, one conflict."""
    with house.connect() as one, house.connect() as two, house.db.connect(autocommit=True) as admin:
        for number in range(40):
            call_id = f"race_{number}"
            bodies = [message(event, call_id, to_number=house.numbers[company][0])
                      for event, company in zip(("call_started", "call_ended"), house.companies)]
            results = at_once([lambda c=c, b=b: ingest(c, b) for c, b in zip((one, two), bodies)])
            outcomes = sorted(r["outcome"] for r in results)
            assert outcomes == ["applied", "conflict"], results
            bound = admin.execute("SELECT company_id FROM tenantcall.call_bindings "
                                  "WHERE provider_call_id = %s", [call_id]).fetchall()
            calls = admin.execute("SELECT company_id FROM telephony.calls "
                                  "WHERE provider_call_id = %s", [call_id]).fetchall()
            assert bound == calls and len(bound) == 1
            conflict = admin.execute("SELECT company_id, reason FROM telephony.tenant_decisions "
                                     "WHERE provider_call_id = %s AND outcome = 'conflict'",
                                     [call_id]).fetchall()
            assert conflict == [(bound[0][0], "names_another_tenant")]
        assert admin.execute("SELECT count(*) FROM tenantcall.quarantine "
                             "WHERE reason = 'names_another_tenant'").fetchone() == (40,)


def accept(conn, body, signature=None):
    """Delivers a function call; returns the row as a dict."""
    data = raw(body)
    cursor = conn.execute("SELECT * FROM tenantcall.accept_function_call(%s::bytea, %s)",
                          [data, signature or sign(data)])
    return dict(zip([c.name for c in cursor.description], cursor.fetchone()))


def test_race_for_a_function_call(house):
    """Eight deliveries of one function call: it runs once, and takes one token."""
    company = house.companies[0]
    house.db.sql("SELECT tenantcall.set_rate_policy('function_call', 100, '1 day')")
    conns = [house.connect() for _ in range(8)]
    peek = ("BEGIN; SELECT tenantcall.enter({0}); "
            "SELECT remaining FROM tenantcall.peek('function_call'); COMMIT").format(company)
    for number in range(20):
        body = fixture("function_check_availability")
        body["call"].update(call_id=f"f_{number}", to_number=house.numbers[company][0],
                            start_timestamp=now_ms())
        results = at_once([lambda c=c: accept(c, body) for c in conns])
        outcomes = collections.Counter(r["outcome"] for r in results)
        assert outcomes == {"run": 1, "busy": 7}
        assert {r["idempotency_key"] for r in results} == {f"f_{number}/tool_call_abc123"}
        key = results[0]["idempotency_key"]
        conns[0].execute("SELECT tenantcall.finish_function_call(%s, %s, '{\"n\": 1}')", [company, key])
        replays = at_once([lambda c=c: accept(c, body) for c in conns])
        assert all(r["outcome"] == "replay" and r["answer"] == {"n": 1} for r in replays)
        remaining = int(house.db.sql(peek, role=house.gateway).split()[-1])
        assert remaining == 100 - (number + 1)


def test_web_calls_by_agent(house):
    """A call without numbers belongs to its agent's company, from the assignment on."""
    company = house.companies[1]
    house.db.sql(f"SELECT tenantcall.assign_agent('{AGENT}', {company})")
    web = dict(call_type="web_call", from_number=None, to_number=None, direction=None,
               agent_id=AGENT)
    with house.connect() as gateway:
        got = ingest(gateway, message("call_started", "web", **web))
        assert (got["outcome"], got["company_id"], got["status"]) == ("applied", company, "ongoing")
        old = message("call_started", "web_old", **{**web, "start_timestamp": now_ms() - 3600000})
        got = ingest(gateway, old)
        assert (got["outcome"], got["reason"]) == ("quarantined", "agent_not_assigned")
        assert gateway.execute("SELECT outcome FROM tenantcall.replay_quarantined()").fetchall() \
            == [("quarantined",)]
        assert gateway.execute("SELECT outcome, company_id FROM tenantcall.replay_quarantined("
                               "NULL, now() - interval '2 hours')").fetchall() == [("applied", company)]
