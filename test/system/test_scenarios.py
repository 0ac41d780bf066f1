"""The five scenarios that the product is for, each as roles that own nothing."""
import time

import psycopg
import pytest
from retell import Call, inbound, sign
from world import in_parallel, interleave

OWN_CALLS = "SELECT provider_call_id, branch_id, status FROM telephony.calls ORDER BY 1"
FOOTPRINT = """
    SELECT (SELECT count(*) FROM telephony.companies), (SELECT count(*) FROM telephony.calls),
           (SELECT count(*) FROM telephony.call_events),
           (SELECT count(*) FROM telephony.call_transitions),
           (SELECT count(*) FROM telephony.function_calls),
           (SELECT count(DISTINCT company_id) FROM (
                SELECT company_id FROM telephony.companies UNION ALL
                SELECT company_id FROM telephony.branches UNION ALL
                SELECT company_id FROM telephony.phone_numbers UNION ALL
                SELECT company_id FROM telephony.services UNION ALL
                SELECT company_id FROM telephony.calls UNION ALL
                SELECT company_id FROM telephony.call_events UNION ALL
                SELECT company_id FROM telephony.call_transitions UNION ALL
                SELECT company_id FROM telephony.tenant_decisions UNION ALL
                SELECT company_id FROM telephony.function_calls) AS everything)
"""


def play_call(gateway, call, functions=1):
    """A whole call in its usual order; returns what the platform was told."""
    told = [gateway.event(call.started())["outcome"]]
    for number in range(functions):
        accepted = gateway.function(call.function(f"{call.call_id}-t{number}"))
        told.append(accepted["outcome"])
        gateway.finish(accepted, {"call": call.call_id, "n": number})
    told.append(gateway.event(call.ended())["outcome"])
    told.append(gateway.event(call.analyzed())["outcome"])
    return told


def assert_hidden(world, company, other):
    """Nothing of another company is there for an app of this one, whatever it asks for."""
    for table in ("companies", "branches", "phone_numbers", "services", "calls", "call_events",
                  "call_transitions", "tenant_decisions", "function_calls"):
        rows = world.see(company, f"SELECT count(*), count(*) FILTER (WHERE company_id = %s), "
                                  f"bool_and(company_id = %s) FROM telephony.{table}",
                         [other.id, company.id])
        assert rows[0][1] == 0, table
        assert rows[0][2] in (True, None), table


def test_two_companies_on_one_calcom_account(world):
    """One account, the same event type and names: rows, choices and cache keys stay apart."""
    north = world.company("North", Nord="+4940100001")
    south = world.company("South", Sued="+4989200001")
    world.admin.execute("SELECT tenantcall.set_credential('shared', 'cal_live_secret', "
                        "'https://api.example.invalid')")
    choices = {}
    for company, team in ((north, 71), (south, 72)):
        world.admin.execute("SELECT tenantcall.assign_credential(%s, 'shared')", [company.id])
        choices[company.name] = world.service(company, "Consultation", calcom_event_type_id=500,
                                              calcom_team_id=team, is_default=True)
    gateway = world.gateway()
    for company, number in ((north, "+4940100001"), (south, "+4989200001")):
        assert play_call(gateway, Call(f"call_{company.name}", to=number)) == \
            ["applied", "run", "applied", "applied"]

    keys = set()
    for company, other in ((north, south), (south, north)):
        assert world.see(company, OWN_CALLS) == \
            [(f"call_{company.name}", *company.branches.values(), "analyzed")]
        assert world.see(company, FOOTPRINT) == [(1, 1, 3, 4, 1, 1)]
        assert world.see(company, "SELECT company_id, service_id, calcom_event_type_id "
                                  "FROM tenantcall.select_service('consultation')") == \
            [(company.id, choices[company.name], 500)]
        keys.update(world.see(company, """
            SELECT tenantcall.slot_cache_key(s.calcom_team_id, s.calcom_event_type_id, '2026-12-01')
            FROM tenantcall.select_service() AS s
            UNION ALL
            SELECT tenantcall.alternatives_cache_key(b.company_id, b.branch_id, s.calcom_event_type_id,
                                                     '2026-12-01 08:00Z', '2026-12-01 12:00Z')
            FROM telephony.branches AS b, tenantcall.select_service(NULL, b.branch_id) AS s"""))
        assert_hidden(world, company, other)
    assert len(keys) == 4  # two kinds for each, though account and event type are the same
    with world.as_app(north) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("SELECT * FROM tenantcall.secrets")
    # an application writes branches, but cannot reach for another company's account
    for statement in ("UPDATE telephony.branches SET credential = 'shared'",
                      "INSERT INTO telephony.branches (name, credential) VALUES ('New', 'shared')"):
        with world.as_app(north) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(statement)
    with world.as_app(north) as conn:
        conn.execute("UPDATE telephony.branches SET name = name")
    with pytest.raises(psycopg.Error) as error:
        world.admin.execute("SELECT tenantcall.assign_credential(%s, 'no such')", [north.id])
    assert error.value.sqlstate == "PT404"


def test_two_branches_of_one_company(world):
    """Each number leads to its branch, and each branch to its own service and event type."""
    clinic = world.company("Clinic", Mitte="+4930300001", West="+4930300002")
    other = world.company("Other", Ost="+4930300009")
    checkup = world.service(clinic, "Checkup", calcom_event_type_id=601, is_default=True)
    xray = world.service(clinic, "X-ray", calcom_event_type_id=602)
    world.insert(clinic, "branch_services", "branch_id", branch_id=clinic.branches["West"],
                 service_id=xray, calcom_event_type_id=699, is_default=True)
    gateway = world.gateway()

    for branch, number in clinic.numbers.items():
        call = Call(f"call_{branch}", to=number)
        ring = gateway.ring(inbound(number))
        assert ring["outcome"] == "accepted"
        assert ring["answer"]["call_inbound"]["dynamic_variables"]["branch_name"] == branch
        assert gateway.event(call.started())["branch_id"] == clinic.branches[branch]
        accepted = gateway.function(call.function("t"))
        assert accepted["company_id"] == clinic.id
        assert accepted["branch_id"] == clinic.branches[branch]
        assert gateway.event(call.ended())["branch_id"] == clinic.branches[branch]

    assert world.see(clinic, OWN_CALLS) == [
        ("call_Mitte", clinic.branches["Mitte"], "completed"),
        ("call_West", clinic.branches["West"], "completed")]
    choose = ("SELECT service_id, branch_id, calcom_event_type_id, reason "
              "FROM tenantcall.select_service()")
    assert world.see(clinic, choose, branch="Mitte") == \
        [(checkup, clinic.branches["Mitte"], 601, "company_default")]
    assert world.see(clinic, choose, branch="West") == \
        [(xray, clinic.branches["West"], 699, "branch_default")]
    assert_hidden(world, other, clinic)
    # a branch of another company is none
    with world.as_app(clinic) as conn, pytest.raises(psycopg.Error) as refused:
        conn.execute("SELECT tenantcall.select_service(NULL, %s)", [other.branches["Ost"]])
    assert refused.value.sqlstate == "PT404"
    with pytest.raises(psycopg.Error) as refused:
        world.signer.execute("SELECT tenantcall.enter(%s, %s)", [clinic.id, other.branches["Ost"]])
    assert refused.value.sqlstate == "PT404"


def test_parallel_calls_of_one_company(world):
    """Eight calls over eight connections, each event by two of them, none lost or applied twice."""
    busy = world.company("Busy", Mitte="+4930400001", West="+4930400002")
    bystander = world.company("Bystander", Ost="+4930400009")
    gateways = [world.gateway() for _ in range(8)]
    calls = [Call(f"call_{n}", to=list(busy.numbers.values())[n % 2]) for n in range(8)]
    # every call's messages go out over two connections, which begin at different ends: each event
    # is delivered twice, in both orders, while the other calls are going on
    messages = {call.call_id: [call.started(), call.ended(), call.analyzed()] for call in calls}

    def job(index):
        """One connection: its share of the events and function calls of all calls."""
        gateway = gateways[index]
        mine, its = calls[index], calls[(index + 1) % 8]
        events = interleave(messages[mine.call_id], reversed(messages[its.call_id]))
        told = []
        for body in events:
            told.append(gateway.event(body)["outcome"])
            for call in (mine, its):  # two connections ask for the same tool call
                accepted = gateway.function(call.function(f"t{len(told) // 2}"))
                if accepted["outcome"] == "run":
                    gateway.finish(accepted, {"by": index})
                told.append(accepted["outcome"])
        return told

    told = sum(in_parallel(*[lambda i=i: job(i) for i in range(8)]), [])
    assert set(told) <= {"applied", "merged", "duplicate", "run", "replay", "busy"}

    assert world.see(busy, OWN_CALLS) == [
        (f"call_{n}", list(busy.branches.values())[n % 2], "analyzed") for n in range(8)]
    assert world.see(busy, "SELECT event, count(*), sum(deliveries) FROM telephony.call_events "
                           "GROUP BY event ORDER BY event") == \
        [(name, 8, 16) for name in ("call_analyzed", "call_ended", "call_started")]
    assert world.see(busy, "SELECT count(*), count(DISTINCT idempotency_key), "
                           "count(*) FILTER (WHERE state = 'done') FROM telephony.function_calls") == \
        [(told.count("run"),) * 3]
    # each call completed once, was analyzed once, and nothing moved back
    assert world.see(busy, """
        SELECT count(*) FILTER (WHERE to_state = 'analyzed'),
               count(*) FILTER (WHERE to_state = 'completed'),
               count(*) FILTER (WHERE from_state IN ('completed', 'analyzed') AND to_state = 'ongoing')
        FROM telephony.call_transitions""") == [(8, 8, 0)]
    assert world.see(busy, "SELECT DISTINCT duration FROM telephony.calls")[0][0].seconds == 60
    assert world.see(bystander, FOOTPRINT) == [(1, 0, 0, 0, 0, 1)]


def test_parallel_calls_of_different_companies(world):
    """Four companies ring at once over six connections shared by all; nothing crosses."""
    companies = [world.company(f"Company {n}", Main=f"+493050000{n}") for n in range(4)]
    calls = [[Call(f"call_{c.id}_{n}", to=c.numbers["Main"]) for n in range(6)] for c in companies]
    rounds = interleave(*calls)  # a connection serves one company after the other

    def job(share):
        """One connection: whole calls, of another company each time."""
        gateway = world.gateway()
        return [play_call(gateway, call, functions=2) for call in share]

    shares = [rounds[n::6] for n in range(6)]
    told = in_parallel(*[lambda s=s: job(s) for s in shares])
    assert all(outcomes == ["applied", "run", "run", "applied", "applied"]
               for part in told for outcomes in part)

    for company in companies:
        expected = [(f"call_{company.id}_{n}", company.branches["Main"], "analyzed") for n in range(6)]
        assert world.see(company, OWN_CALLS) == expected
        assert world.see(company, FOOTPRINT) == [(1, 6, 18, 24, 12, 1)]
        assert world.see(company, """
            SELECT count(*) FROM telephony.function_calls AS f JOIN telephony.calls AS c USING (call_id)
            WHERE f.answer ->> 'call' = c.provider_call_id""") == [(12,)]
        for other in companies:
            if other is not company:
                assert_hidden(world, company, other)

    # one batch with the events of all companies, in one statement, leaves no tenant behind
    bodies = [Call(f"late_{c.id}", to=c.numbers["Main"]).started() for c in companies]
    gateway = world.gateway()
    with gateway.connection.transaction():
        rows = gateway.connection.execute(
            "SELECT i.outcome, i.company_id FROM unnest(%s::bytea[], %s::text[]) AS m (body, sig), "
            "tenantcall.ingest_retell(m.body, m.sig) AS i",
            [bodies, [sign(body, gateway.key) for body in bodies]]).fetchall()
        assert rows == [("applied", company.id) for company in companies]
        assert gateway.connection.execute(
            "SELECT tenantcall.current_company_id()").fetchone() == (None,)
        assert gateway.connection.execute(
            "SELECT count(*) FROM telephony.calls").fetchone() == (0,)


def test_one_call_has_one_company_under_a_race(world):
    """Two numbers of two companies in events of one call, at the same moment: one of them has it."""
    pair = [world.company(f"Racer {n}", Main=f"+493051000{n}") for n in range(2)]
    gateways = [world.gateway() for _ in pair]
    for number in range(20):
        told = in_parallel(*[
            lambda g=gateway, c=company: g.event(Call(f"race_{number}", to=c.numbers["Main"]).started())
            for gateway, company in zip(gateways, pair)])
        assert sorted(answer["outcome"] for answer in told) == ["applied", "conflict"]
    owned = [{row[0] for row in world.see(company, OWN_CALLS)} for company in pair]
    assert not owned[0] & owned[1]
    assert owned[0] | owned[1] == {f"race_{number}" for number in range(20)}


@pytest.mark.parametrize("connections", [1, 4])
def test_rate_limit_per_tenant(world, connections):
    """A burst of one company is cut at its bucket; the other's and the unknown callers' are full."""
    loud = world.company("Loud", Main="+4930600001")
    quiet = world.company("Quiet", Main="+4930600002")

    def burst(first, count):
        """Function calls that nobody asked before, over one connection."""
        gateway = world.gateway()
        # each of a call of its own: the limits within one call are narrower
        return [gateway.function(Call(f"call_loud_{first + n}", to="+4930600001").function("t"))
                for n in range(count)]

    begun = time.monotonic()
    answers = sum(in_parallel(*[lambda n=n: burst(1000 * n, 160 // connections)
                                for n in range(connections)]), [])
    elapsed = time.monotonic() - begun
    run = [a for a in answers if a["outcome"] == "run"]
    limited = [a for a in answers if a["outcome"] == "limited"]
    assert len(run) + len(limited) == 160
    assert 100 <= len(run) <= 100 + elapsed * 100 / 60 + 1
    assert limited, "the machine is too slow for a burst"
    for answer in limited:
        assert answer["company_id"] == loud.id
        assert 0 < answer["retry_after"].total_seconds() <= 0.6001
        assert int(answer["headers"]["Retry-After"]) >= 1
        assert answer["args"] is None

    # the other company, at the same time and by the same connection, has all of its own
    gateway = world.gateway()
    assert [gateway.function(Call(f"call_quiet_{n}", to="+4930600002").function("q"))["outcome"]
            for n in range(50)] == ["run"] * 50
    # a retry of what was let through before takes no token
    known = Call(run[0]["idempotency_key"].split("/")[0], to="+4930600001")
    assert gateway.function(known.function("t"))["outcome"] == "busy"
    # numbers that nobody owns neither take from a company's bucket nor share one
    stranger = Call("call_nobody", to="+4930699999")
    assert gateway.function(stranger.function("s"))["outcome"] == "unknown"

    spent = ("SELECT company_id, allowed, denied FROM tenantcall.stat_rate_limits "
             "WHERE policy = 'function_call'")
    assert world.see(loud, spent) == [(loud.id, len(run), len(limited))]
    assert world.see(quiet, spent) == [(quiet.id, 50, 0)]
    assert world.see(loud, "SELECT count(*) FROM telephony.function_calls") == [(len(run),)]
    assert world.see(quiet, "SELECT count(*) FROM telephony.function_calls") == [(50,)]
    refusals = "SELECT count(*) FROM telephony.tenant_decisions WHERE outcome = 'limited'"
    assert world.see(loud, refusals) == [(len(limited),)]
    assert world.see(quiet, refusals) == [(0,)]
