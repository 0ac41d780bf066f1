"""The tables on a Citus cluster: a coordinator and two workers on loopback.

Skipped where Citus is not to be had; without it distribute() refuses, which is tested everywhere.
"""
import statistics
import threading
import time

import psycopg
import pytest

import citus_stage
import conftest
from retell import Call, inbound
from world import World, in_parallel

citus = pytest.mark.skipif(citus_stage.where()[0] is None, reason=citus_stage.where()[1] or "")
NAME = "distributed"


def test_distribute_refuses_without_citus(db):
    """One error that says what is missing and what to do."""
    with db.connect(autocommit=True) as conn, pytest.raises(psycopg.Error) as refused:
        conn.execute("SELECT tenantcall.distribute()")
    assert refused.value.sqlstate == "55000"
    assert 'extension "citus" does not exist' in refused.value.diag.message_primary
    assert refused.value.diag.message_detail and "citus_add_node" in refused.value.diag.message_hint
    for call, sqlstate in (("distribute(0)", "22023"), ("distribute_roles()", "55000"),
                           ("call_at_home(1, NULL, 'pg_sleep(float8)', '{1}')", "42883")):
        with db.connect(autocommit=True) as conn, pytest.raises(psycopg.Error) as refused:
            conn.execute(f"SELECT tenantcall.{call}")
        assert refused.value.sqlstate == sqlstate, call


def test_company_node_without_citus(db):
    """A server by itself is the home of every company."""
    assert db.sql("SELECT * FROM tenantcall.company_node(1)") == "||t"
    assert db.sql("SELECT * FROM tenantcall.elected_node()") in ("||t|||no worker", "||t|||alone")


@pytest.fixture(scope="module", name="stage")
def _stage(workspace, install):
    """The cluster."""
    stage = citus_stage.Stage(workspace, install)
    yield stage
    stage.stop()


@pytest.fixture(scope="module", name="cloud")
def _cloud(stage):
    """Roles, and two companies on different workers."""
    stage.create_database(NAME)
    coordinator = conftest.Database(stage.coordinator, NAME)
    coordinator.sql("SELECT tenantcall.distribute(8)")

    def role(stem):
        coordinator.sql(f"CREATE ROLE cloud_{stem} LOGIN")
        return f"cloud_{stem}"

    world = World(coordinator, role)
    coordinator.sql("SELECT tenantcall.distribute_roles()")
    return Cloud(stage, world)


class Cloud:
    """The distributed database."""

    def __init__(self, stage, world):
        self.stage = stage
        self.world = world
        self.count = 0
        self.acme = self.company()
        self.other = self.company(away_from=self.acme)

    def company(self, away_from=None):
        """A new company with a number, on another worker than that one."""
        while True:
            self.count += 1
            made = self.world.company(f"Company {self.count}", Mitte=f"+49301234{self.count:03d}")
            if away_from is None or self.port(made) != self.port(away_from):
                return made

    def port(self, company):
        """Port of the company's node."""
        return int(self.world.db.sql(
            f"SELECT node_port FROM tenantcall.company_node({company.id})"))

    def node(self, company):
        """The company's node."""
        return next(node for node in self.stage.nodes if node.port == self.port(company))

    def at_home(self, company, role):
        """A connection to the company's node."""
        return self.node(company).connect(role=self.world.roles[role], dbname=NAME,
                                          autocommit=True)

    def call(self, company, call_id):
        """A call to the company's number."""
        return Call(call_id, to=company.numbers["Mitte"])

    def calls(self, company):
        """How many calls the company sees."""
        return self.world.value(
            company, "SELECT count(*) FROM telephony.calls WHERE company_id = %s", [company.id])


@citus
@pytest.mark.limit(180)
def test_everything_is_placed(cloud):
    """All tables are distributed alike, or copied; triggers and policies are on the shards."""
    db = cloud.world.db
    assert db.sql("SELECT count(DISTINCT colocationid) FROM pg_dist_partition "
                  "WHERE partmethod = 'h'") == "1"
    assert db.sql("SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class AS c "
                  "JOIN pg_dist_partition AS p ON p.logicalrelid = c.oid WHERE partmethod = 'n' "
                  "AND relnamespace = 'telephony'::regnamespace") \
        == "agents branches companies phone_numbers"
    assert db.sql("SELECT count(*) FROM pg_class AS c WHERE relnamespace = 'telephony'::regnamespace "
                  "AND relkind IN ('r', 'p') AND NOT EXISTS (SELECT 1 FROM pg_dist_partition AS p "
                  "WHERE p.logicalrelid = c.oid)") == "0"
    for worker in cloud.stage.workers:
        shards = worker.sql(
            "SET citus.override_table_visibility = off; SELECT count(*) > 0 "
            "AND bool_and(relrowsecurity AND relforcerowsecurity) "
            "AND bool_and((SELECT count(*) = 2 FROM pg_policy WHERE polrelid = c.oid)) "
            "AND bool_and((SELECT count(*) >= 5 AND bool_and(tgenabled = 'A' OR tgname ~ "
            "'^tenantcall_(id|row)_') FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal)) "
            r"FROM pg_class AS c WHERE relname ~ '^calls_\d+$'", dbname=NAME)
        assert shards == "t"


@citus
@pytest.mark.limit(180)
def test_a_call_from_beginning_to_end(cloud):
    """What the coordinator is told happens on the node of the company, on its shards alone."""
    gateway, company = cloud.world.gateway(), cloud.acme
    call = cloud.call(company, "whole")
    assert gateway.ring(inbound(company.numbers["Mitte"]))["outcome"] == "accepted"
    assert gateway.event(call.started())["outcome"] == "applied"
    accepted = gateway.function(call.function("t1"))
    assert (accepted["outcome"], accepted["company_id"]) == ("run", company.id)
    gateway.finish(accepted, {"free": []})
    again = gateway.function(call.function("t1"))
    assert (again["outcome"], again["answer"]) == ("replay", {"free": []})
    assert gateway.event(call.started())["outcome"] == "duplicate"
    assert gateway.event(call.ended())["status"] == "completed"
    assert gateway.event(call.analyzed())["status"] == "analyzed"
    assert cloud.world.value(company, "SELECT status FROM tenantcall.call_context('whole')") \
        == "analyzed"
    timeline = cloud.world.see(company, "SELECT what FROM tenantcall.call_timeline('whole')")
    assert len(timeline) >= 8
    with cloud.at_home(company, "app") as conn, conn.transaction():
        conn.execute("SELECT tenantcall.enter_token(%s)", [cloud.world.token(company)])
        assert conn.execute("SELECT what FROM tenantcall.call_timeline('whole')").fetchall() \
            == timeline
    with cloud.at_home(company, "gateway") as conn, \
            pytest.raises(psycopg.errors.FeatureNotSupported, match="on the coordinator"):
        conn.execute("SELECT tenantcall.ingest_retell('x'::text, 'y')")


@citus
@pytest.mark.limit(180)
def test_one_call_one_company(cloud):
    """A call stays with its company, also when its number has moved to another node."""
    gateway = cloud.world.gateway()
    first = cloud.company()
    second = cloud.company(away_from=first)
    call = cloud.call(first, "bound")
    assert gateway.event(call.started())["company_id"] == first.id
    cloud.world.admin.execute("SELECT tenantcall.release_number(%s)", [second.numbers["Mitte"]])
    cloud.world.assign(second, "Mitte", first.numbers["Mitte"], "move_number")
    assert gateway.event(call.ended())["company_id"] == first.id
    elsewhere = Call("bound", to=cloud.acme.numbers["Mitte"])
    assert gateway.event(elsewhere.analyzed())["outcome"] == "conflict"
    assert cloud.calls(second) == 0


@citus
@pytest.mark.limit(180)
def test_isolation(cloud):
    """Nobody reaches another company's rows: by the coordinator, a worker, or a shard."""
    gateway, acme, other = cloud.world.gateway(), cloud.acme, cloud.other
    gateway.event(cloud.call(acme, "secret").started())
    assert cloud.calls(acme) > 0
    everything = "SELECT count(*) FROM telephony.calls"
    assert cloud.world.value(other, everything + " WHERE company_id = %s", [acme.id]) == 0
    assert cloud.world.value(other, everything) == 0
    with cloud.world.connect("app") as conn:
        assert conn.execute(everything).fetchone()[0] == 0
        with pytest.raises(psycopg.Error, match="no tenant"):
            conn.execute("INSERT INTO telephony.customers (company_id, name) VALUES (%s, 'x')",
                         [acme.id])
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        cloud.world.see(other, "INSERT INTO telephony.customers (company_id, name) "
                               "VALUES (%s, 'x') RETURNING 1", [acme.id])
    with pytest.raises(psycopg.Error, match="unknown call"):
        cloud.world.see(other, "SELECT tenantcall.call_context('secret')")
    shard = cloud.world.db.sql(
        f"SELECT get_shard_id_for_distribution_column('telephony.calls', {acme.id})")
    with cloud.at_home(acme, "app") as conn:
        for token in (None, cloud.world.token(other)):
            with conn.transaction():
                if token:
                    conn.execute("SELECT tenantcall.enter_token(%s)", [token])
                try:
                    with conn.transaction():
                        seen = conn.execute(f"SELECT count(*) FROM telephony.calls_{shard}")
                        assert seen.fetchone()[0] == 0
                except psycopg.errors.InsufficientPrivilege:
                    pass
                assert conn.execute(everything).fetchone()[0] == 0
    with cloud.world.as_app(other) as conn, pytest.raises(psycopg.Error) as refused:
        conn.execute("SELECT tenantcall.call_at_home(%s, NULL, 'tenantcall.call_context(text)', "
                     "ARRAY['secret'])", [acme.id])
    assert refused.value.sqlstate == "PT404"
    with cloud.world.as_app(other) as conn, pytest.raises(psycopg.Error) as refused:
        conn.execute("SET LOCAL tenantcall.token = '%s'" % cloud.world.token(acme))
    assert refused.value.sqlstate == "PT403"


@citus
@pytest.mark.limit(180)
def test_limits_are_counted_where_the_shard_is(cloud):
    """Whichever node is asked, one bucket counts: that of the company's node."""
    company = cloud.company()
    cloud.world.admin.execute(
        "SELECT tenantcall.set_rate_policy('function_call', 5, '1 day', 5, company_id => %s)",
        [company.id])
    allow = "SELECT tenantcall.allow('function_call')"
    assert [cloud.world.value(company, allow) for _ in range(3)] == [True] * 3
    with cloud.at_home(company, "app") as conn:
        for expected in (True, True, False):
            with conn.transaction():
                conn.execute("SELECT tenantcall.enter_token(%s)", [cloud.world.token(company)])
                assert conn.execute(allow).fetchone()[0] is expected
    assert cloud.world.value(company, allow) is False
    assert cloud.world.signer.execute("SELECT tenantcall.allow_for(%s, 'function_call')",
                                      [company.id]).fetchone()[0] is False
    assert cloud.world.value(cloud.other, allow) is True


@citus
@pytest.mark.limit(180)
def test_plans_have_one_shard(cloud):
    """What an application sends goes to one shard; the library's statements name shards."""
    company = cloud.acme
    for statement in (
            f"SELECT * FROM telephony.calls WHERE company_id = {company.id}",
            f"SELECT * FROM telephony.calls AS c JOIN telephony.call_events AS e USING "
            f"(company_id, call_id) WHERE company_id = {company.id}",
            f"INSERT INTO telephony.customers (company_id, name) VALUES ({company.id}, 'x')",
            f"UPDATE telephony.customers SET name = 'y' WHERE company_id = {company.id}",
            f"DELETE FROM telephony.customers WHERE company_id = {company.id}"):
        with cloud.world.as_admin(company) as conn:
            plan = "\n".join(line for line, in conn.execute("EXPLAIN " + statement))
        assert "Task Count: 1" in plan, plan
    for number, statement in enumerate((
            "SELECT status FROM telephony.calls WHERE company_id = $1 AND provider_call_id = 'x'",
            "SELECT * FROM telephony.function_calls WHERE company_id = $1 AND call_id = 1",
            "SELECT * FROM telephony.appointments WHERE company_id = $1",
            "INSERT INTO telephony.customers (company_id, name) VALUES ($1, 'x')")):
        for mode in ("force_custom_plan", "force_generic_plan"):
            with cloud.world.as_admin(company) as conn:
                conn.execute(f"SET LOCAL plan_cache_mode = {mode}")
                conn.execute(f"PREPARE sent_{number}_{mode} (bigint) AS {statement}")
                plan = "\n".join(line for line, in conn.execute(
                    f"EXPLAIN EXECUTE sent_{number}_{mode} ({company.id})"))
            assert "Task Count: 1" in plan, plan
    plan = cloud.world.db.sql(
        f"EXPLAIN SELECT r FROM tenantcall.call_at_home({company.id}, NULL, "
        "'tenantcall.ingest_retell(text,text,timestamptz)', ARRAY['', '', now()::text]) AS r")
    assert "Citus Adaptive" not in plan or "Task Count: 1" in plan
    node, gateway = cloud.node(company), cloud.world.gateway()
    node.sql(f"ALTER DATABASE {NAME} SET auto_explain.log_min_duration = 0; "
             f"ALTER DATABASE {NAME} SET auto_explain.log_nested_statements = on; "
             f"ALTER DATABASE {NAME} SET session_preload_libraries = 'auto_explain'")
    gateway.connection.execute("SELECT 1")
    before = len(node.log())
    with cloud.world.connect("gateway") as fresh:
        gateway = type(gateway)(fresh, gateway.key)
        call = cloud.call(company, "planned")
        gateway.ring(inbound(company.numbers["Mitte"]))
        gateway.event(call.started())
        gateway.function(call.function("p1"))
        gateway.event(call.ended())
    log = node.log()[before:]
    node.sql(f"ALTER DATABASE {NAME} RESET ALL")
    node.sql(f"ALTER DATABASE {NAME} SET citus.propagate_set_commands = 'local'")
    assert "calls_1" in log and "function_calls_1" in log
    assert "Citus Adaptive" not in log.replace("call_at_home", "")


def deliver(gateway, body):
    """An event, sent again as the platform does: Citus cancels one that meets its dropping the
    copies of shards that have moved, which locks the directory in an order of its own."""
    while True:
        try:
            return gateway.event(body)
        except psycopg.errors.DeadlockDetected:
            time.sleep(0.1)


@citus
@pytest.mark.limit(240)
@pytest.mark.parametrize("mode", ("block_writes", "force_logical"))
def test_moving_a_shard_loses_nothing(cloud, mode):
    """A company moves to the other worker while its calls come in and end."""
    company = cloud.company()
    source, stop = cloud.port(company), threading.Event()
    target = next(node.port for node in cloud.stage.workers if node.port != source)
    taken = {name: [] for name in "ab"}

    def traffic(name):
        gateway = cloud.world.gateway()
        while not stop.is_set():
            call = cloud.call(company, f"moving_{mode}_{name}{len(taken[name])}")
            taken[name].append((deliver(gateway, call.started())["outcome"],
                                deliver(gateway, call.ended())["status"]))

    def count():
        return sum(map(len, taken.values()))

    def move():
        try:
            cloud.stage.coordinator.wait_until(lambda: count() > 20, "calls")
            cloud.world.db.sql(
                "SET citus.enable_unsafe_triggers = on; SELECT citus_move_shard_placement("
                f"get_shard_id_for_distribution_column('telephony.calls', {company.id}), "
                f"'127.0.0.1', {source}, '127.0.0.1', {target}, '{mode}')")
            so_far = count()
            cloud.stage.coordinator.wait_until(lambda: count() > so_far + 20, "more calls")
        finally:
            stop.set()

    in_parallel(lambda: traffic("a"), lambda: traffic("b"), move)
    assert cloud.port(company) == target
    assert {pair for pairs in taken.values() for pair in pairs} == {("applied", "completed")}
    for table, rows in (("calls", 1), ("call_events", 2), ("call_transitions", 3)):
        found, distinct = cloud.world.see(
            company, f"SELECT count(*), count(DISTINCT c) FROM telephony.{table} AS c "
                     "WHERE company_id = %s", [company.id])[0]
        assert (found, distinct) == (rows * count(), rows * count()), table
    gateway, first = cloud.world.gateway(), cloud.call(company, f"moving_{mode}_a0")
    assert gateway.event(first.analyzed())["status"] == "analyzed"
    assert gateway.event(first.started())["outcome"] == "duplicate"
    role = cloud.node(company).sql("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'citus_shard_%'")
    assert role == "0"
    cloud.world.admin.execute(
        "SELECT tenantcall.set_rate_policy('function_call', 2, '1 day', 2, company_id => %s)",
        [company.id])
    allow = "SELECT tenantcall.allow('function_call')"
    assert cloud.world.value(company, allow) is True
    with cloud.at_home(company, "app") as conn, conn.transaction():
        conn.execute("SELECT tenantcall.enter_token(%s)", [cloud.world.token(company)])
        assert conn.execute("SELECT status FROM tenantcall.call_context(%s)",
                            [f"moving_{mode}_a1"]).fetchone() == ("completed",)
        assert conn.execute(allow).fetchone()[0] is True
    assert cloud.world.value(company, allow) is False


@citus
@pytest.mark.limit(240)
def test_partitions(cloud):
    """New months are made on all nodes."""
    made = cloud.world.admin.execute(
        "SELECT relation FROM tenantcall.maintain_partitions(4, 10) WHERE action = 'created'"
    ).fetchall()
    assert len(made) == 4
    for worker in cloud.stage.workers:
        assert worker.sql(
            "SET citus.override_table_visibility = off; SELECT count(*) > 0 AND bool_and(EXISTS "
            "(SELECT FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND tgname LIKE "
            "'tenantcall\\_trail\\_1%' AND tgenabled = 'A')) FROM pg_class AS c "
            r"WHERE relname ~ '^call_events_\d+_\d+_\d+$' AND relkind = 'r'", dbname=NAME) == "t"


def latencies(cloud, company, prefix, count):
    """How long events of a company take, in seconds, sorted."""
    gateway, taken = cloud.world.gateway(), []
    for number in range(count):
        body = cloud.call(company, f"{prefix}_{number}").started()
        begin = time.monotonic()
        assert gateway.event(body)["outcome"] == "applied"
        taken.append(time.monotonic() - begin)
    return sorted(taken)


@citus
@pytest.mark.limit(240)
def test_a_flooded_company_does_not_touch_another(cloud):
    """A company that is over its limit keeps neither tokens nor calls from one on another node.

    The times are shown, and not judged: all nodes share this machine.
    """
    flooded, quiet = cloud.company(), cloud.company()
    if cloud.port(flooded) == cloud.port(quiet):
        quiet = cloud.company(away_from=flooded)
    stop, refused = threading.Event(), []

    def flood():
        gateway, number = cloud.world.gateway(), 0
        call = cloud.call(flooded, f"flood_{threading.get_ident()}")
        while not stop.is_set():
            number += 1
            refused.append(gateway.function(call.function(f"t{number}"))["outcome"])

    alone = latencies(cloud, quiet, "alone", 150)
    flooders = [threading.Thread(target=flood) for _ in range(2)]
    for thread in flooders:
        thread.start()
    try:
        cloud.stage.coordinator.wait_until(lambda: "limited" in refused, "the limit")
        beside = latencies(cloud, quiet, "beside", 150)
    finally:
        stop.set()
        for thread in flooders:
            thread.join()
    for what, taken in (("alone", alone), ("beside a flood", beside)):
        print(f"{what}: median {statistics.median(taken) * 1e3:.2f} ms, "
              f"p99 {taken[-2] * 1e3:.2f} ms")
    print(f"p99 ratio {beside[-2] / alone[-2]:.2f}, {len(refused)} function calls of the flood")
    assert cloud.world.value(quiet, "SELECT tenantcall.allow('function_call')") is True
    assert refused.count("run") <= 202


@citus
def test_exporting_and_deleting(cloud):
    """A company's rows are exported from its node, whichever node is asked; deleting is refused."""
    company = cloud.company()
    for number in range(2):
        cloud.world.gateway().event(cloud.call(company, f"export_{number}").started())
    shown = []
    for node in cloud.stage.nodes:
        with node.connect(role="cloud_admin", dbname=NAME, autocommit=True) as conn:
            rows = conn.execute("SELECT relation, data ->> 'company_id' FROM "
                                "tenantcall.export_company(%s)", [company.id]).fetchall()
            assert {number for _, number in rows} == {str(company.id)}
            shown.append(sorted(relation for relation, _ in rows))
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                conn.execute("SELECT tenantcall.delete_company(%s)", [company.id])
    assert shown[0] == shown[1] == shown[2]
    assert [shown[0].count(f"telephony.{table}") for table in ("companies", "branches", "calls")] \
        == [1, 1, 2]


@citus
def test_distributing_what_is_in_use(cloud):
    """A database that has companies is refused, and stays as it is."""
    name = cloud.stage.create_database("in_use")
    coordinator = cloud.stage.coordinator
    coordinator.sql("SELECT tenantcall.create_company('First', 'DE', 'Europe/Berlin')", dbname=name)
    with coordinator.connect(dbname=name, autocommit=True) as conn:
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="before there are"):
            conn.execute("SELECT tenantcall.distribute(4)")
        assert conn.execute("SELECT count(*) FROM pg_dist_partition").fetchone()[0] == 0
