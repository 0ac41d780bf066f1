#!/usr/bin/python3
"""Scaling of rate limits: over clients, over tenants, and beside a reader of the statistics.

    test/bench/curves.py                quick: prints tables
    test/bench/curves.py --publish      longer; writes docs/rate_clients.svg, docs/rate_tenants.svg
                                        (gnuplot) and the section "Measured" of README.md
    test/bench/curves.py --publish --quick

clients: 1 to 64 of them ask one bucket over a Unix socket, pgbench -M prepared, against SELECT 1,
a bucket kept in a row, and Redis.  tenants: calls inside one query over 1 to 1,000,000 tenants, as
nanoseconds over a C function that does nothing.  statistics: one client asks at random while
another reads stat_rate_limits, against the same while the other one computes something.

What is compared runs there and back within each round; each figure is a ratio or a difference
within a round.  Printed are the median over the rounds and, in brackets, the least and the
greatest.
"""
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "setup"))

import pgserver
from pgserver import Failure, Workspace, main_guard, say
from paired import noted
from rate_sides import (ALLOW, REDIS, SCRIPTS, SELECT_1, TENANTS, InQuery, Redis, pgbench, spread, start,
                        tenant, there_and_back)

CLIENTS, FEW_CLIENTS = (1, 2, 4, 8, 16, 32, 64), (1, 8, 64)
COUNTS = tuple(10 ** k for k in range(7))
BEGIN, END = "<!-- measured: begin (test/bench/curves.py --publish) -->", "<!-- measured: end -->"
PLOT = """
set terminal svg size 640,400 font 'sans-serif,12' background 'white'
set output '{svg}'
set title '{title}'
set xlabel '{x}'
set ylabel '{y}'
set logscale x {base}
set yrange [0:*]
set key {key}
set grid ytics
set rmargin 8
set format x '%.0f'
plot {lines}
"""


def over_clients(server, redis, rounds, seconds, counts):
    """Statements a second: side -> clients -> one figure for each round."""
    sides = [*SCRIPTS, *([REDIS] if redis.process is not None else [])]
    found = {side: {n: [] for n in counts} for side in sides}
    for number in range(rounds):
        say(f"clients: round {number + 1} of {rounds}")
        for n in counts:
            runs = {side: [] for side in sides}
            for side in there_and_back(sides):
                runs[side].append(redis.measure(n, seconds) if side == REDIS
                                  else pgbench(server, SCRIPTS[side], n, seconds)[0])
            for side in sides:
                found[side][n].append(statistics.mean(runs[side]))
    return found


def over_tenants(server, rounds, calls):
    """Nanoseconds over a no-op: tenants -> one figure for each round."""
    session = InQuery(server, calls)
    found = {n: [] for n in COUNTS}
    session.touch_all()
    session.measure(f"tenantcall.allow_for({tenant(TENANTS)}, 'bench')")
    for number in range(rounds):
        say(f"tenants: round {number + 1} of {rounds}")
        for n in COUNTS:
            found[n].append(session.over(f"tenantcall.allow_for({tenant(n)}, 'bench')", f"int8up({tenant(n)})"))
    session.connection.close()
    return found


def latencies(server, seconds):
    """Microseconds that each statement of a client took who asks random tenants; sorted."""
    path = server.work.dir / "random.sql"
    path.write_text(f"\\set id random(1, {TENANTS})\nSELECT tenantcall.allow_for(:id, 'bench');\n")
    path.chmod(0o644)
    logs = server.work.dir / "latency"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir()
    logs.chmod(0o777)
    server.client_program("pgbench", "-n", "-M", "prepared", "-c", "1", "-T", str(seconds), "-f", path,
                          "-l", f"--log-prefix={logs}/log", "bench")
    return sorted(int(line.split()[2]) for log in logs.iterdir() for line in log.read_text().splitlines())


def beside(server, statement, seconds):
    """What latencies() finds while another session runs a statement over and over; and its times."""
    stop, times = threading.Event(), []

    def work():
        with server.connect(dbname="bench", autocommit=True) as connection:
            while not stop.is_set():
                begin = time.monotonic()
                connection.execute(statement)
                times.append(time.monotonic() - begin)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        found = latencies(server, seconds)
    finally:
        stop.set()
        thread.join()
    return found, times


def beside_statistics(server, rounds, seconds):
    """Latencies beside a reader of statistics and beside a computation, and how long reading takes."""
    found = {"reader": [], "computation": [], "seconds": []}
    for number in range(rounds):
        say(f"statistics: round {number + 1} of {rounds}")
        values, _ = beside(server, "SELECT sum(sqrt(g)) FROM generate_series(1, 2000000) g", seconds)
        found["computation"].append(values)
        values, times = beside(server, "SELECT sum(allowed), sum(denied) FROM tenantcall.stat_rate_limits", seconds)
        found["reader"].append(values)
        found["seconds"] += times
    return found


def clients_table(found):
    """Markdown."""
    sides = [side for side in found if side not in (SELECT_1, ALLOW)]
    lines = [f"| clients | `allow()`, calls/s | ÷ `{SELECT_1}` | " + " | ".join(f"÷ {side}" for side in sides) + " |",
             "|---:|---:|---:|" + "---:|" * len(sides)]
    for n in found[ALLOW]:
        allow = found[ALLOW][n]
        ratios = [[a / b for a, b in zip(allow, found[side][n])] for side in (SELECT_1, *sides)]
        for side, values in zip((SELECT_1, *sides), ratios):
            noted(f"{n} clients: {ALLOW} / {side}", values)
        lines.append(f"| {n} | {statistics.median(allow):,.0f} | " + " | ".join(map(spread, ratios)) + " |")
    return lines


def tenants_table(found):
    """Markdown."""
    for n in COUNTS:
        noted(f"{n:,} tenants, ns over a C no-op", found[n])
    return ["| tenants | ns a call over a C no-op |", "|---:|---:|"] + [
        f"| {n:,} | {spread(found[n], '{:.0f}')} |" for n in COUNTS]


def statistics_lines(found):
    """Markdown."""
    def at(values, share):
        return values[min(len(values) - 1, int(len(values) * share))]

    lines = [f"Reading `stat_rate_limits` with {TENANTS:,} buckets takes {spread(found['seconds'])} s. Statements of a"
             " client who asks for random tenants meanwhile, compared with the same while the other session"
             " computes something else:", "",
             "| | beside the reader, µs | beside a computation, µs | ratio |", "|---|---:|---:|---:|"]
    for name, share in (("median", 0.5), ("99 %", 0.99), ("99.9 %", 0.999)):
        reader = [at(values, share) for values in found["reader"]]
        other = [at(values, share) for values in found["computation"]]
        lines.append(f"| {name} | {statistics.median(reader):.0f} | {statistics.median(other):.0f} |"
                     f" {spread([a / b for a, b in zip(reader, other)])} |")
    return lines


def gnuplot(work, name, series, **texts):
    """Draws series of (x, values of the rounds) into docs/NAME.svg: median and spread."""
    lines = []
    for i, (title, points) in enumerate(series.items()):
        path = work.dir / f"{name}{i}.dat"
        path.write_text("".join(f"{x} {statistics.median(v)} {min(v)} {max(v)}\n" for x, v in points.items()))
        lines.append(f"'{path}' using 1:2:3:4 with yerrorlines linewidth 2 title '{title}'")
    script = PLOT.format(svg=pgserver.REPO / "docs" / f"{name}.svg", lines=", ".join(lines), **texts)
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def publish(work, clients, tenants, lines):
    """Writes plots and README."""
    readme = pgserver.REPO / "README.md"
    text = readme.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise Failure("README.md has no place for what was measured")
    gnuplot(work, "rate_clients", {side: {n: [v / 1000 for v in values] for n, values in points.items()}
                                   for side, points in clients.items()},
            title="One bucket, over a Unix socket", x="clients", y="thousand calls a second", base=2,
            key="outside bottom center horizontal")
    gnuplot(work, "rate_tenants", {"allow\\\\_for()": tenants}, title="Inside one query", x="tenants",
            y="ns a call over a C no-op", base=10, key="off")
    before, rest = text.split(BEGIN)
    readme.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + rest.split(END)[1], encoding="utf-8")
    say("written: README.md, docs/rate_clients.svg, docs/rate_tenants.svg")


def machine():
    """What was measured on."""
    model = [line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]
    virtual = any("hypervisor" in line for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines())
    return f"{os.cpu_count()} {'shared cores of a virtual machine' if virtual else 'cores'} ({model[0] if model else '?'})"


def main():
    """Measures, prints, and publishes if asked to."""
    publishes = "--publish" in sys.argv[1:]
    longer = publishes and "--quick" not in sys.argv[1:]
    if publishes and not shutil.which("gnuplot"):
        raise Failure("gnuplot is not installed (on Debian: gnuplot-nox)")
    rounds, seconds = (11 if longer else 9), 1
    with Workspace() as work:
        server = start(work)
        redis = Redis(work)
        try:
            tenants = over_tenants(server, rounds, 2000000)
            clients = over_clients(server, redis, rounds, seconds, CLIENTS if publishes else FEW_CLIENTS)
            reading = beside_statistics(server, rounds, 4)
        finally:
            redis.stop()
            server.stop("immediate")
        lines = ["", f"On {machine()}, PostgreSQL {pgserver.Install.pg_config('version').split()[1]}, with clients and"
                 f" server on the same cores (a single client and his session on one); medians of {rounds} rounds, each there"
                 " and back, and in brackets the least and the greatest.",
                 "", "![calls a second over clients](docs/rate_clients.svg)", "", *clients_table(clients), "",
                 "![nanoseconds a call over tenants](docs/rate_tenants.svg)", "", *tenants_table(tenants), "",
                 *statistics_lines(reading), ""]
        say("\n".join(lines))
        if publishes:
            publish(work, clients, tenants, lines)


if __name__ == "__main__":
    main_guard(main)
