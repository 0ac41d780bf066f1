#!/usr/bin/python3
"""A flooded company beside another one whose home is another node of a Citus cluster.

    test/bench/citus.py [ROUNDS]     default 8 rounds of 3 s a side; not among the default of test/bench/run

A coordinator and two workers on loopback.  Company A is at home on the first worker, company B on the
second.  B does CALLS calls a second: inbound webhook, call_started, function call and its answer, and
call_ended through the coordinator ("deliveries"), and QUERIES transactions of its application on its own
node ("at home": enter_token, allow, INSERT and SELECT).  Meanwhile A is idle, or is flooded by
CLIENTS clients without a pause.  The sides run in turns (paired.py); latencies are those of single
deliveries and transactions, from sending to the answer.

Two processors stand in for machines: the first worker, with all its processes, and A's clients run on
one, the second worker and B's client on the other, and beside B the coordinator, unless an arrangement says
otherwise.  The pinning is done to the postmaster, so that backends inherit it.  fsync is off: the disk would be
shared, as it is not between machines.  What remains shared (caches, memory, the host of a virtual
machine) is shown by the first arrangement, in which A's processor is kept busy by a loop of no server.

Figures are reported, and not judged.  SKIP where Citus is not to be had (TC_CITUS names a directory
that has it), or there are not two processors.
"""
import contextlib
import ctypes
import multiprocessing
import os
import pathlib
import signal
import statistics
import sys
import time

sys.dont_write_bytecode = True
TESTS = pathlib.Path(__file__).resolve().parents[1]
for directory in ("setup", "system"):
    sys.path.insert(0, str(TESTS / directory))

import citus_stage
from paired import in_turns, ratios, shown
from pgserver import Install, Workspace, main_guard, processes_in, say
from retell import Call, inbound
from world import World

NAME = "distributed"
SECONDS = 3.0
SETTLE = 0.3
CALLS = 6
QUERIES = 4
CLIENTS = 4
KINDS = ("deliveries", "at home")
PR_SET_PDEATHSIG = 1


class Database:
    """The distributed database as one node has it."""

    def __init__(self, node):
        self.node = node

    def connect(self, role="postgres", **options):
        """A connection."""
        return self.node.connect(role=role, dbname=NAME, **options)

    def sql(self, statements):
        """Runs statements as superuser."""
        return self.node.sql(statements, dbname=NAME)


def pin(node, processor):
    """Has a server, with all that it has started or will start, run on one processor."""
    for pid in processes_in(node.data):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(pid, {processor})


class Cloud:
    """The cluster, and the two companies."""

    def __init__(self, work, first, second):
        self.processors = first, second
        self.stage = citus_stage.Stage(work, Install.given() or Install.build(work))
        self.coordinator, self.near_a, self.near_b = self.stage.nodes
        for node, processor in zip(self.stage.nodes, (second, first, second), strict=True):
            pin(node, processor)
        os.sched_setaffinity(0, {second})
        self.stage.create_database(NAME)
        db = Database(self.coordinator)
        db.sql("SELECT tenantcall.distribute(8)")

        def role(stem):
            db.sql(f"CREATE ROLE cloud_{stem} LOGIN")
            return f"cloud_{stem}"

        self.world = World(db, role)
        db.sql("SELECT tenantcall.distribute_roles()")
        self.made = 0
        self.a, self.b = self.company(self.near_a), self.company(self.near_b)
        self.world.admin.execute("SELECT tenantcall.set_rate_policy('function_call', 100000, "
                                 "'1 minute', company_id => %s)", [self.b.id])
        self.world.admin.execute("SELECT tenantcall.set_concurrency_policy(100000, "
                                 "company_id => %s)", [self.b.id])

    def company(self, node):
        """A company that is at home on a node."""
        while True:
            self.made += 1
            company = self.world.company(f"Company {self.made}",
                                         Mitte=f"+49301234{self.made:03d}")
            port = self.world.db.sql(
                f"SELECT node_port FROM tenantcall.company_node({company.id})")
            if int(port) == node.port:
                return company

    def app(self, node):
        """A connection of an application to a node."""
        return Database(node).connect(role=self.world.roles["app"], autocommit=True)


class Steady:
    """What B does: its calls, at a rate of their own."""

    count = 0  # of all, so that no two calls have the same name

    def __init__(self, cloud):
        self.company = cloud.b
        self.gateway = cloud.world.gateway()
        self.app = cloud.app(cloud.near_b)
        self.token = cloud.world.token(cloud.b)
        self.taken = {}

    def timed(self, kind, expected, work, *arguments):
        """Notes how long it takes, in milliseconds."""
        begin = time.perf_counter()
        got = work(*arguments)
        self.taken[kind].append((time.perf_counter() - begin) * 1e3)
        assert expected is None or got["outcome"] == expected, got
        return got

    def query(self, call):
        """A transaction of the application."""
        with self.app.transaction():
            self.app.execute("SELECT tenantcall.enter_token(%s)", [self.token])
            assert self.app.execute("SELECT tenantcall.allow('function_call')").fetchone()[0]
            self.app.execute("INSERT INTO telephony.customers (company_id, name) VALUES (%s, %s)",
                             [self.company.id, call.call_id])
            assert self.app.execute("SELECT status FROM telephony.calls WHERE company_id = %s "
                                    "AND provider_call_id = %s",
                                    [self.company.id, call.call_id]).fetchone()

    def call(self):
        """One call."""
        Steady.count += 1
        number = self.company.numbers["Mitte"]
        call, gateway = Call(f"steady_{Steady.count}", to=number), self.gateway
        self.timed("deliveries", "accepted", gateway.ring, inbound(number))
        self.timed("deliveries", "applied", gateway.event, call.started())
        for _ in range(QUERIES):
            self.timed("at home", None, self.query, call)
        accepted = self.timed("deliveries", "run", gateway.function, call.function("t1"))
        self.timed("deliveries", None, gateway.finish, accepted, {"free": []})
        self.timed("deliveries", "applied", gateway.event, call.ended())

    def run(self):
        """A few seconds of it: latencies by kind."""
        self.taken = {kind: [] for kind in KINDS}
        begin = time.monotonic()
        for number in range(int(SECONDS * CALLS)):
            time.sleep(max(0, begin + number / CALLS - time.monotonic()))
            self.call()
        return self.taken


# --- what A's clients do: (statements, refused) for each turn ------------------------------------

def loop(_cloud, _number):
    """Nothing with a server: keeps the processor busy."""
    while True:
        sum(range(10000))
        yield 0, 0


def hammer(cloud, node, token):
    """An application: enters, and asks its limit."""
    with cloud.app(node) as conn:
        while True:
            with conn.transaction():
                conn.execute("SELECT tenantcall.enter_token(%s)", [token])
                allowed, = conn.execute("SELECT tenantcall.allow('function_call')").fetchone()
                if allowed:
                    conn.execute("INSERT INTO telephony.customers (company_id, name) "
                                 "VALUES (%s, 'flood')", [cloud.a.id])
            yield 2 + allowed, not allowed


def direct(cloud, _number):
    """On A's own node."""
    yield from hammer(cloud, cloud.near_a, cloud.flood_token)


def through(cloud, number):
    """Through the coordinator: one half as applications, the other with function calls."""
    if number % 2:
        yield from hammer(cloud, cloud.coordinator, cloud.flood_token)
    gateway, count = cloud.world.gateway(), 0
    call = Call(f"flood_{os.getpid()}", to=cloud.a.numbers["Mitte"])
    while True:
        count += 1
        outcome = gateway.function(call.function(f"t{count}"))["outcome"]
        yield 1, outcome == "limited"


class Flood:
    """A's clients, as processes on A's processor; they pause when they are told to."""

    def __init__(self, cloud, what):
        self.on = multiprocessing.Event()
        self.done = [multiprocessing.Array("q", 2, lock=False) for _ in range(CLIENTS)]
        cloud.flood_token = cloud.world.token(cloud.a)
        self.clients = [multiprocessing.Process(target=self.client, args=(cloud, what, number),
                                                daemon=True) for number in range(CLIENTS)]
        for client in self.clients:
            client.start()

    def client(self, cloud, what, number):
        """One of them."""
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.sched_setaffinity(0, {cloud.processors[0]})
        for statements, refused in what(cloud, number):
            self.done[number][0] += statements
            self.done[number][1] += refused
            self.on.wait()

    def counts(self):
        """Statements, and refusals, so far."""
        return [sum(part[i] for part in self.done) for i in (0, 1)]

    def stop(self):
        """Ends them."""
        for client in self.clients:
            client.terminate()
            client.join()


def compare(cloud, what, rounds):
    """B's latencies of each round, by side and kind; what A did, and in how long."""
    flood, steady = Flood(cloud, what), Steady(cloud)
    taken = {side: [] for side in ("alone", "flooded")}
    did, spent = [0, 0], 0.0
    try:
        for number, side in in_turns(list(taken), rounds):
            if side == "flooded":
                flood.on.set()
            time.sleep(SETTLE)
            before, begin = flood.counts(), time.monotonic()
            part = steady.run()
            if number > 0:
                taken[side].append(part)
                if side == "flooded":
                    did = [sum(x) - y for x, y in zip(zip(did, flood.counts()), before)]
                    spent += time.monotonic() - begin
            flood.on.clear()
            time.sleep(SETTLE)
        failed = [client.exitcode for client in flood.clients if not client.is_alive()]
        assert not failed, f"clients of the flood have ended: {failed}"
    finally:
        flood.stop()
    return taken, did, spent


def p99(values):
    """The 99th percentile."""
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def report(name, taken, did, spent):
    """Prints an arrangement."""
    say(f"{name}: A did {did[0]:,} statements in {spent:.0f} s, {did[1]:,} times its limit refused")
    for kind in KINDS:
        line = f"  {kind:<12}"
        for title, of in (("median", statistics.median), ("p99", p99)):
            alone, flooded = ([of(part[kind]) for part in taken[side]]
                              for side in ("alone", "flooded"))
            whole = [of([x for part in taken[side] for x in part[kind]])
                     for side in ("alone", "flooded")]
            line += (f"{title:>7} {whole[0]:6.2f} ms, {whole[1]:6.2f} ms, "
                     f"ratio {shown(ratios(flooded, alone)):<18}")
        say(f"{line} n = {sum(len(part[kind]) for part in taken['flooded'])}")


def main():
    """Runs the arrangements."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    processors = sorted(os.sched_getaffinity(0))
    reason = citus_stage.where()[1] or (None if len(processors) > 1 else "there is one processor only")
    if reason is not None:
        say(f"SKIP: {reason}")
        return 0
    first, second = processors[0], processors[-1]
    with Workspace() as work:
        cloud = Cloud(work, first, second)
        say(f"processor {first}: A's worker and clients; processor {second}: B's worker and client, and the coordinator, "
            "unless said otherwise")
        say(f"{rounds} rounds of {SECONDS:g} s a side; B: {CALLS} calls a second; A: {CLIENTS} clients without a pause; "
            "fsync is off")
        say("B while A is idle, while A is flooded, and the median of the rounds' ratios (least-greatest):")
        Steady(cloud).run()
        for name, what, beside in (
                ("a loop of no server on A's processor", loop, second),
                ("A flooded on its own node", direct, second),
                ("A flooded through the coordinator, which is beside B", through, second),
                ("A flooded through the coordinator, which is beside A", through, first)):
            pin(cloud.coordinator, beside)
            report(name, *compare(cloud, what, rounds))
        cloud.stage.stop()
    return 0


if __name__ == "__main__":
    main_guard(main)
