#!/usr/bin/python3
"""A million companies beside a thousand: creation, look-ups, memory and disk.

    test/bench/scale.py [COMPANIES [ROUNDS [STATEMENT...]]]    default 100000, 9, all; docs/scale.md: 1000000

Two databases of one server, one of 1,000 companies and one of COMPANIES, with ten numbers each,
made in bulk; then some by the directory's functions, in both.  pgbench asks with one client, each
statement for another company of all of them; the same with a session's memory for numbers and
companies as small as can be, so that neither database is in it; or again and again for the same 100
numbers and companies, which are.  A session first asks for 200,000 numbers, as one that a pooler keeps
has done: so its page tables know the server's memory (with huge pages they do from the beginning).
Compared are the medians of single statements, with client and session on one processor.  The databases
take turns (paired.py).  Says what a session and the
server keep in memory for it, and the space on disk, and what a call costs: three events, with a
transcript of 900 characters; and a function call.  Exits with 1 if a statement takes more than 1.5
times as long.
"""
import pathlib
import statistics
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "setup"))

import retell
from paired import cpu, in_turns, one_processor, ratios, shown
from pgserver import Cluster, Install, Workspace, environment, main_guard, postmaster_of, say

SMALL, NUMBERS = 1000, 10  # companies to compare with; numbers of each
BUDGET, ROUNDS, KEPT = 1.5, int(sys.argv[2]) if len(sys.argv) > 2 else 9, 100
WAYS = {"kept": "the same 100", "any": "any", "unseen": "any, none in memory"}
TRANSACTIONS, SLOW = 5000, 1000  # of a round, and of one that writes; each is a session of its own
KEY = "key_of_the_bench"
MADE = 500  # companies that are made by functions
CALLS, BATCH = 3000, 100  # calls that are taken in to see what one costs, and events of a statement
CONF = {"shared_buffers": "3GB", "max_wal_size": "8GB", "autovacuum": "off"}
BULK = """
INSERT INTO telephony.companies (name, time_zone) SELECT 'Company ' || g, 'UTC' FROM generate_series(1, {companies}) AS g;
BEGIN;
ALTER TABLE telephony.branches DISABLE TRIGGER ALL;
INSERT INTO telephony.branches (company_id, name) SELECT company_id, 'Main' FROM telephony.companies ORDER BY 1;
ALTER TABLE telephony.phone_numbers DISABLE TRIGGER ALL;
INSERT INTO telephony.phone_numbers (company_id, branch_id, number)
    SELECT 1 + (g - 1) / {numbers}, 1 + (g - 1) / {numbers}, '+49' || (40000000000 + g)
    FROM generate_series(1, {companies}::bigint * {numbers}) AS g;
ALTER TABLE telephony.branches ENABLE TRIGGER ALL;
ALTER TABLE telephony.phone_numbers ENABLE TRIGGER ALL;
COMMIT;
SELECT tenantcall.scope_table('telephony.branches'), tenantcall.scope_table('telephony.phone_numbers');
SELECT tenantcall.set_rate_policy('scale', 1000000, '1 second'), tenantcall.set_webhook_key('retell', 'k1', '{key}');
"""
NUMBER = "'+49' || (40000000000 + :n)"
BODY = f"""'{{"event":"call_started","call":{{"call_id":"' || gen_random_uuid() || '","direction":"inbound","from_number":"+4915112345678",'
    '"to_number":"' || {NUMBER} || '","start_timestamp":' || (extract(epoch FROM clock_timestamp()) * 1000)::bigint || '}}}}'"""
STATEMENTS = {
    "resolve_phone": f"SELECT company_id FROM tenantcall.resolve_phone({NUMBER});",
    "enter": "BEGIN;\nSELECT tenantcall.enter(:c);\nCOMMIT;",
    "allow_for": "SELECT tenantcall.allow_for(:c, 'scale');",
    "ingest_retell": f"SELECT outcome FROM (SELECT {BODY} AS body OFFSET 0) AS m, "
                     f"tenantcall.ingest_retell(m.body, tenantcall.retell_signature(m.body, '{KEY}'));",
}
ASKED = sys.argv[3:] or list(STATEMENTS)
MEMORY = """SELECT sum(total_bytes) FROM pg_backend_memory_contexts WHERE name LIKE 'tenantcall%' OR name LIKE 'Tenantcall%'"""
CONTENT = """SELECT pg_database_size(current_database()), pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0'),
    1000 * pg_snapshot_xmax(pg_current_snapshot())::text::bigint"""
ASK_ALL = ("SELECT count(r.company_id) FROM generate_series(1, 200000) AS g, tenantcall.resolve_phone"
           "('+49' || (40000000001 + g * 0 + floor(random() * {numbers}))::bigint) AS r")


class Side:
    """A database of so many companies."""

    def __init__(self, cluster, name, companies):
        self.cluster, self.name, self.companies = cluster, name, companies
        cluster.create_database(name)

    def sql(self, statements):
        """Runs statements as superuser."""
        return self.cluster.sql(statements, dbname=self.name)

    def fill(self):
        """Makes companies and numbers in bulk."""
        begun = time.perf_counter()
        self.sql(BULK.format(companies=self.companies, numbers=NUMBERS, key=KEY))
        seconds = time.perf_counter() - begun
        self.sql("VACUUM (ANALYZE)")
        say(f"{self.companies:,} companies and {self.companies * NUMBERS:,} numbers in bulk: {seconds:.1f} s")

    def disk(self):
        """Bytes of a company with its branch, and of a number, indexes included."""
        company, number = map(int, self.sql(
            "SELECT pg_total_relation_size('telephony.companies') + pg_total_relation_size('telephony.branches'),"
            " pg_total_relation_size('telephony.phone_numbers')").split("|"))
        return company / self.companies, number / self.companies / NUMBERS

    def make(self):
        """Makes companies by functions, a statement each; companies and numbers a second."""
        spent = [0.0, 0.0]
        with self.cluster.connect(dbname=self.name, autocommit=True) as connection:
            for turn in range(MADE):
                begun = time.perf_counter()
                company, = connection.execute("SELECT tenantcall.create_company('made', 'DE', 'Europe/Berlin')").fetchone()
                branch, = connection.execute("INSERT INTO telephony.branches (company_id, name) VALUES (%s, 'Main') "
                                             "RETURNING branch_id", [company]).fetchone()
                between = time.perf_counter()
                for line in range(NUMBERS):
                    connection.execute("SELECT tenantcall.assign_number(%s, %s, %s)",
                                       [f"+4930{10000000 + NUMBERS * turn + line}", company, branch])
                spent[0] += between - begun
                spent[1] += time.perf_counter() - between
        return MADE / spent[0], MADE * NUMBERS / spent[1]

    def script(self, directory, name, way):
        """A pgbench script that asks for random companies, or for KEPT of them, spread over all."""
        kept = way == "kept"
        step = self.companies // KEPT if kept else 1
        path = directory / f"{self.name}_{name}_{way}.sql"
        path.write_text(f"\\if :begun = 0\n{ASK_ALL.format(numbers=self.companies * NUMBERS)};\n\\set begun 1\n\\endif\n"
                        f"\\set c 1 + {step} * random(0, {(KEPT if kept else self.companies) - 1})\n"
                        f"\\set n {NUMBERS} * (:c - 1) + {'1' if kept else f'random(1, {NUMBERS})'}\n{STATEMENTS[name]}\n")
        path.chmod(0o644)
        return path

    def latency(self, path, transactions, way):
        """Microseconds of a transaction, as the median of all but the first; pgbench tells whole ones, so it is the grouped median."""
        options = "-c tenantcall.directory_cache_size=16" if way == "unseen" else ""
        log = self.cluster.dir / "pgbench_log"
        for old in self.cluster.dir.glob("pgbench_log.*"):
            old.unlink()
        out = self.cluster.client_program("pgbench", "-n", "-M", "prepared", "-c", "1", "-t", str(transactions), "-D", "begun=0",
                                          "-l", "--log-prefix", log, "-f", path, self.name, env=environment(PGOPTIONS=options))
        assert "failed transactions: 0 " in out, out
        lines = next(self.cluster.dir.glob("pgbench_log.*")).read_text().splitlines()
        return statistics.median_grouped([int(line.split()[2]) for line in lines[1:]])

    def memory(self):
        """Bytes that a session keeps after it has asked for 200,000 numbers of all."""
        with self.cluster.connect(dbname=self.name, autocommit=True) as connection:
            connection.execute(ASK_ALL.format(numbers=self.companies * NUMBERS))
            return int(connection.execute(MEMORY).fetchone()[0] or 0)


def take_in(side):
    """What a call costs: bytes on disk and in the log of changes, and processor time of the session."""
    words = "the quick brown fox jumps over the lazy dog " * 21
    calls = [retell.Call(f"call_{number}", to=f"+49{40000000001 + number % (side.companies * NUMBERS)}") for number in range(CALLS)]
    bodies = [body for call in calls for body in (
        call.started(), call.ended(transcript=words[:900]), call.analyzed(transcript=words[:900]))]
    spent = 0.0
    with side.cluster.connect(dbname=side.name, autocommit=True) as connection:
        for warm in range(0, len(bodies), BATCH):
            if warm == BATCH * 3:
                before = connection.execute(CONTENT).fetchone()
                spent = cpu(connection.info.backend_pid)
            part = bodies[warm:warm + BATCH]
            connection.execute("SELECT count(*) FROM unnest(%s::bytea[], %s::text[]) AS m (body, signature), "
                               "tenantcall.ingest_retell(m.body, m.signature)", [part, [retell.sign(body, KEY) for body in part]])
        spent = cpu(connection.info.backend_pid) - spent
        after = connection.execute(CONTENT).fetchone()
    disk, log, xids = ((late - early) / (CALLS - BATCH) / 1000 for early, late in zip(before, after))
    say(f"a call of three events, in statements of {BATCH}: {disk:.1f} kB on disk, {log:.1f} kB of WAL, "
        f"{xids:.1f} transaction ids, {spent / (CALLS - BATCH):,.0f} µs of the session's processor time")


def run_functions(side):
    """What a function call costs, accepted and finished, a statement each."""
    calls = [retell.Call(f"call_{number}", to=f"+49{40000000001 + number % (side.companies * NUMBERS)}") for number in range(CALLS)]
    with side.cluster.connect(dbname=side.name, autocommit=True) as connection:
        gateway = retell.Gateway(connection, KEY)
        for number, call in enumerate(calls):
            if number == BATCH:
                before, spent = connection.execute(CONTENT).fetchone(), cpu(connection.info.backend_pid)
            gateway.finish(gateway.function(call.function(f"tool_{number}")), {"free": True})
        spent = cpu(connection.info.backend_pid) - spent
        after = connection.execute(CONTENT).fetchone()
    disk, log, xids = ((late - early) / (CALLS - BATCH) / 1000 for early, late in zip(before, after))
    say(f"a function call, accepted and finished: {disk:.1f} kB on disk, {log:.1f} kB of WAL, "
        f"{xids:.1f} transaction ids, {spent / (CALLS - BATCH):,.0f} µs of the session's processor time")


def compare(sides, directory, name, way):
    """One statement in both databases, in turns; false if it takes too long in the larger one."""
    paths = [side.script(directory, name, way) for side in sides]
    times = ([], [])
    with one_processor(postmaster_of(sides[0].cluster.data)):
        for turn, which in in_turns([0, 1], ROUNDS):
            taken = sides[which].latency(paths[which], SLOW if name == "ingest_retell" else TRANSACTIONS, way)
            if turn > 0:
                times[which].append(taken)
    small, large = times
    each = ratios(large, small)
    kept = statistics.median(each) <= BUDGET
    say(f"| `{name}` | {WAYS[way]} | {statistics.median(small):,.1f} | {statistics.median(large):,.1f} | {shown(each)} "
        f"| {'ok' if kept else 'MISSED'} |")
    return kept


def main():
    """Runs all."""
    companies = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    kept = True
    with Workspace() as work:
        cluster = Cluster(work, Install.build(work), conf={**CONF, "tenantcall.rate_max_buckets": companies + 65536}).start()
        cluster.create_template()
        sides = [Side(cluster, "small", SMALL), Side(cluster, "large", companies)]
        for side in sides:
            side.fill()
        say("bytes on disk of a company with its branch, and of a number: "
            + "; ".join(f"{a:,.0f}, {b:,.0f} ({side.name})" for side in sides for a, b in [side.disk()]))
        say(f"| statement | companies | µs with {SMALL:,} | µs with {companies:,} | ratio (least-greatest) | at most {BUDGET} |")
        say("|---|---|---:|---:|---:|---|")
        for name in STATEMENTS:
            for way in WAYS if name in ASKED else ():
                kept &= compare(sides, work.dir, name, way)
        say("by functions, a statement each, fsync off: " + "; ".join(
            f"{a:,.0f} companies/s, {b:,.0f} numbers/s ({side.name})" for side in sides for a, b in [side.make()]))
        say("kB of a session after 200,000 random numbers: " + "; ".join(f"{side.memory() / 1024:,.0f} ({side.name})" for side in sides))
        take_in(sides[0])
        run_functions(sides[0])
        say("shared memory: " + "; ".join(cluster.sql(
            "SELECT name || ' ' || (allocated_size >> 10) || ' kB' FROM pg_shmem_allocations WHERE name ILIKE 'tenantcall%' "
            "AND allocated_size > 100000 ORDER BY allocated_size DESC").split("\n")))
    return 0 if kept else 1


if __name__ == "__main__":
    main_guard(main)
