#!/usr/bin/python3
"""What a rate limit would cost if it did nothing, and how near it is to that.

    test/bench/floor.py [ROUNDS]           default 9

Statements: one session over a Unix socket, protocol of libpq, prepared: from a bare Sync over an
empty statement, SELECT 1 and a C function that does nothing, of the same arguments, to allow_for().
Shown are the processor time of the server's process for a statement, which other work on the
machine has little share in, and the time that passes, client included.

Calls inside one query: allow_for() over a C function that does nothing, for one tenant and for
1,000,000 in random order; beside what memory costs here, measured by memory.c in as much of it as
the buckets take that such a call reads.

What is compared runs there and back in each round; printed are the median over the rounds and, in
brackets, the least and the greatest.  There are no budgets: rate.py has them.
"""
import os
import pathlib
import shlex
import statistics
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "setup"))

from pgserver import Workspace, main_guard, run, say
from rate_sides import TENANTS, InQuery, one_core, spread, start, tenant, there_and_back

STATEMENTS = 20000
CALLS = 2000000
LINE = 64  # bytes of a bucket that a call reads
SLOTS = 1.5  # of them for each bucket there may be
# it returns a constant text; LANGUAGE internal would search all of the server's functions by name
NO_OP = ("CREATE FUNCTION no_op(bigint, text, bigint) RETURNS text"
         " LANGUAGE C VOLATILE AS '$libdir/tenantcall', 'tc_version'")
ALLOW = "allow_for(), prepared"
PREPARED = {
    "empty statement, prepared": "",
    "SELECT 1, prepared": "SELECT 1",
    "C function that does nothing, prepared": "SELECT no_op(1, 'bench', 1)",
    ALLOW: "SELECT tenantcall.allow_for(1, 'bench', 1)",
}
SYNC = "Sync, no statement"
IN_QUERY = {
    "1 tenant": f"{tenant(TENANTS)} - {tenant(TENANTS)} + 1",
    f"{TENANTS:,} tenants": tenant(TENANTS),
}


class Session:
    """A connection of libpq, without what a driver adds."""

    def __init__(self, server):
        self.connection = server.connect(dbname="bench", autocommit=True)
        self.libpq = self.connection.pgconn
        self.pid = self.connection.info.backend_pid
        self.schedstat = pathlib.Path(f"/proc/{self.pid}/schedstat")
        for name, text in PREPARED.items():
            self.libpq.prepare(name.encode(), text.encode())

    def clocks(self):
        """Nanoseconds that the backend has had the processor, and that have passed."""
        passed = time.monotonic_ns()
        return (int(self.schedstat.read_text().split()[0]) if self.schedstat.exists() else passed), passed

    def synchronize(self):
        """Many round trips of Sync and ReadyForQuery."""
        self.libpq.enter_pipeline_mode()
        for _ in range(STATEMENTS):
            self.libpq.pipeline_sync()
            self.libpq.get_result()
        self.libpq.exit_pipeline_mode()

    def execute(self, name):
        """Many executions of a prepared statement."""
        encoded = name.encode()
        for _ in range(STATEMENTS):
            self.libpq.exec_prepared(encoded, [])

    def measure(self, name):
        """Microseconds of the server, and that passed, for each."""
        with one_core(1, self.pid):
            begin = self.clocks()
            if name == SYNC:
                self.synchronize()
            else:
                self.execute(name)
            end = self.clocks()
        return [(b - a) / 1000 / STATEMENTS for a, b in zip(begin, end)]


def statements(server, rounds):
    """name -> for each round [server's time, time passed]."""
    session = Session(server)
    names = [SYNC, *PREPARED]
    found = {name: [] for name in names}
    for number in range(rounds + 1):
        say(f"statements: round {number} of {rounds}" if number > 0 else "statements: warming up")
        runs = {name: [] for name in names}
        for name in there_and_back(names):
            runs[name].append(session.measure(name))
        if number > 0:
            for name in names:
                found[name].append([statistics.mean(both) for both in zip(*runs[name])])
    session.connection.close()
    return found


def in_query(server, rounds):
    """tenants -> nanoseconds over doing nothing, for each round."""
    session = InQuery(server, CALLS)
    session.touch_all()
    found = {who: [] for who in IN_QUERY}
    for number in range(rounds + 1):
        say(f"in one query: round {number} of {rounds}" if number > 0 else "in one query: warming up")
        for who, expression in IN_QUERY.items():
            ns = session.over(f"tenantcall.allow_for({expression}, 'bench')", f"int8up({expression})")
            if number > 0:
                found[who].append(ns)
    session.connection.close()
    return found


def memory(work, rounds):
    """name -> for each round what memory.c prints."""
    program = work.dir / "memory"
    source = pathlib.Path(__file__).resolve().parent / "memory.c"
    run([*shlex.split(os.environ.get("CC", "cc")), "-O2", "-o", program, source], "the compiler")
    found = {}
    for number in range(rounds):
        say(f"memory: round {number + 1} of {rounds}")
        megabytes = int(TENANTS * 6 / 5 * SLOTS * LINE) >> 20
        for line in run([program, megabytes], "memory").splitlines():
            name, value = line.rsplit(" ", 1)
            found.setdefault(name, []).append(float(value))
    return found


def report(found, calls, machine):
    """Prints Markdown tables."""
    say("\n| a statement | µs of the server | over the line before, ns | µs, client included |\n|---|---:|---:|---:|")
    before = None
    for name, rounds in found.items():
        server, passed = zip(*rounds)
        over = "" if before is None else spread([(a - b) * 1000 for a, b in zip(server, before)], "{:.0f}")
        say(f"| {name} | {spread(server)} | {over} | {spread(passed)} |")
        before = server
    say("\n| memory | ns |\n|---|---:|")
    for name, values in machine.items():
        say(f"| {name}{', GB/s' if name == 'copying' else ''} | {spread(values, '{:.1f}')} |")
    say("\n| a call inside a query | ns over a C function that does nothing |\n|---|---:|")
    for who, values in calls.items():
        say(f"| {who} | {spread(values, '{:.0f}')} |")
    one, many = (statistics.median(values) for values in calls.values())
    line = statistics.median(machine["pages of 4 kB, atomic addition"])
    say(f"\nOf {many:.0f} ns over {TENANTS:,} tenants, {many - one:.0f} are waiting for memory; an atomic addition to"
        f" a random line of as much memory takes {line:.0f}.")


def main():
    """Runs it on a server of its own."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    with Workspace() as work:
        server = start(work)
        try:
            server.sql(NO_OP, dbname="bench")
            found = statements(server, rounds)
            calls = in_query(server, rounds)
        finally:
            server.stop("immediate")
        report(found, calls, memory(work, rounds))


if __name__ == "__main__":
    main_guard(main)
