"""Attacks on a Citus cluster: by what Citus offers everybody beside the tables, and around policies.

Each of them succeeds where only Citus and row security stand against it.
"""
import re

import psycopg
import pytest

from test_citus import NAME, _cloud, _stage, citus  # noqa: F401: fixtures

pytestmark = [citus, pytest.mark.limit(180)]
SPOOFED = "citus_internal gpid=10000000001"

# What Citus lets everybody call, and an application's session must not.
CONFINED = {
    "explain": "worker_save_query_explain_analyze('SELECT 1 FROM telephony.customers', "
               "'{\"format\": \"text\"}') AS t (a int)",
    "last_explain": "worker_last_saved_explain_analyze()",
    "results_of_others": "assign_distributed_transaction_id(0, 1, now())",
    "fetching": "fetch_intermediate_results(ARRAY['1_1'], '192.0.2.1', 80)",
    "activity": "citus_stat_activity",
    "distributed_activity": "citus_dist_stat_activity",
    "transactions": "get_all_active_transactions()",
    "waits": "dump_global_wait_edges()",
    "locks": "citus_locks",
    "cancel": "pg_cancel_backend(10000000001::bigint)",
    "sizes": "citus_shard_sizes()",
    "size": "citus_table_size('telephony.calls')",
    "shards": "citus_shards",
    "lock_table": "lock_relation_if_exists('telephony.customers', 'ACCESS EXCLUSIVE')",
    "lock_shard": "lock_shard_resources(7, ARRAY[{shard}])",
    "lock_metadata": "lock_shard_metadata(7, ARRAY[{shard}])",
    "run": "run_command_on_workers('SELECT 1')",
    "run_on_shards": "run_command_on_shards('telephony.customers', 'SELECT 1')",
    "run_everywhere": "run_command_on_all_nodes('SELECT 1')",
    "copy_to_node": "worker_copy_table_to_node('telephony.customers', 1)",
    "statistics": "citus_query_stats()",
}


@pytest.fixture(scope="module", name="prey")
def _prey(cloud):
    """Rows of a company, and its shard of customers."""
    acme = cloud.acme
    for name in ("Prey", "Second"):
        cloud.world.insert(acme, "customers", "customer_id", company_id=acme.id, name=name)
    cloud.shard = cloud.world.db.sql(
        f"SELECT get_shard_id_for_distribution_column('telephony.customers', {acme.id})")
    return acme


def attempt(node, token, *statements, **options):
    """What the last statement shows an application that entered by the token, on a node."""
    with node.connect(role="cloud_app", dbname=NAME, autocommit=True, **options) as conn, \
            conn.transaction():
        if token:
            conn.execute("SELECT tenantcall.enter_token(%s)", [token])
        for statement in statements:
            shown = conn.execute(statement)
        return shown.fetchall() if shown.description else shown.rowcount


def refused(call, sqlstate):
    """The error that the call must raise."""
    with pytest.raises(psycopg.Error) as error:
        call()
    assert error.value.sqlstate == sqlstate, error.value
    return error.value


def names(cloud, company):
    """The names of a company's customers."""
    with cloud.world.as_admin(company) as conn:
        return sorted(name for name, in conn.execute(
            "SELECT name FROM telephony.customers WHERE company_id = %s", [company.id]))


def test_rows_that_are_copied_into_shards(cloud, prey):
    """COPY and INSERT ... SELECT into a shard of the node they run on pass no policy."""
    node, token = cloud.node(prey), cloud.world.token(cloud.other)

    def copy(company):
        with node.connect(role="cloud_app", dbname=NAME, autocommit=True) as conn, \
                conn.transaction():
            conn.execute("SELECT tenantcall.enter_token(%s)", [cloud.world.token(cloud.acme)
                         if company is cloud.acme else token])
            with conn.cursor().copy("COPY telephony.customers (customer_id, company_id, name) "
                                    "FROM STDIN") as rows:
                rows.write(f"{7000 + prey.id}\t{prey.id}\tPlanted\n")

    refused(lambda: copy(cloud.other), "42501")
    refused(lambda: attempt(
        node, token, f"INSERT INTO telephony.customers (company_id, name) SELECT {prey.id} + 0 * g, "
                     "'Planted' FROM generate_series(1, 2) AS g"), "42501")
    refused(lambda: attempt(
        node, token, f"INSERT INTO telephony.customers_{cloud.shard} (customer_id, company_id, name) "
                     f"VALUES (7777, {prey.id}, 'Planted')"), "42501")
    assert names(cloud, prey) == ["Prey", "Second"]
    copy(cloud.acme)
    assert names(cloud, prey) == ["Planted", "Prey", "Second"]
    cloud.world.see(prey, "DELETE FROM telephony.customers WHERE company_id = %s "
                          "AND name = 'Planted' RETURNING 1", [prey.id])


@pytest.mark.parametrize("what", CONFINED)
def test_functions_of_citus(cloud, prey, what):
    """An application's session calls those alone that Citus puts into plans of statements."""
    token = cloud.world.token(cloud.other)
    for node in (cloud.stage.coordinator, cloud.node(prey)):
        error = refused(lambda node=node: attempt(
            node, token, "SELECT * FROM " + CONFINED[what].replace("{shard}", cloud.shard)), "42501")
        assert "application roles may not use" in str(error)


def test_queries_of_all_kinds(cloud, prey):
    """Whatever way Citus chooses for a query, it shows rows of the company entered alone."""
    own = cloud.other
    cloud.world.insert(own, "customers", "customer_id", company_id=own.id, name="Own")
    for setting in ("citus.enable_router_execution = off", "citus.enable_local_execution = off",
                    "citus.enable_repartition_joins = on", "citus.task_executor_type = adaptive",
                    "citus.override_table_visibility = off", "citus.multi_shard_modify_mode = sequential",
                    "citus.propagate_set_commands = none", "plan_cache_mode = force_generic_plan"):
        for node in cloud.stage.nodes:
            for query in (
                    "SELECT DISTINCT company_id FROM telephony.customers",
                    f"SELECT company_id FROM telephony.customers WHERE company_id = {prey.id}",
                    "WITH c AS MATERIALIZED (SELECT company_id FROM telephony.customers OFFSET 0) "
                    "SELECT DISTINCT c.company_id FROM c JOIN telephony.customers USING (company_id)",
                    "SELECT DISTINCT c.company_id FROM telephony.customers AS c "
                    "JOIN telephony.branches AS b ON b.company_id >= c.company_id",
                    "SELECT company_id FROM (SELECT company_id, count(*) FROM telephony.customers "
                    "GROUP BY 1) AS c",
                    "UPDATE telephony.customers SET name = name RETURNING company_id"):
                shown = {row for row, in attempt(node, cloud.world.token(own), "SET LOCAL " + setting,
                                                 query)}
                assert shown <= {own.id}, (setting, query)
    assert names(cloud, prey) == ["Prey", "Second"]


def test_joins_by_other_columns(cloud, prey):
    """Rows that Citus carries between nodes for a join are the company's."""
    cloud.world.insert(cloud.other, "customers", "customer_id", company_id=cloud.other.id, name="Own2")
    join = ("SELECT DISTINCT a.company_id, b.company_id FROM telephony.customers AS a "
            "JOIN telephony.customers AS b ON a.customer_id = b.customer_id")
    setting = "SET LOCAL citus.enable_repartition_joins = on"
    with cloud.world.connect("gateway") as conn, conn.transaction():
        conn.execute("SELECT tenantcall.enter(%s)", [cloud.other.id])
        conn.execute(setting)
        assert conn.execute(join).fetchall() == [(cloud.other.id, cloud.other.id)]
    refused(lambda: attempt(cloud.stage.coordinator, cloud.world.token(cloud.other), setting, join),
            "42501")


def test_results_on_their_way(cloud, prey):
    """What a transaction of another company has left on a node for its own use is not to be had."""
    node = cloud.node(prey)
    with cloud.world.connect("app") as busy:
        busy.execute("BEGIN")
        busy.execute("SELECT tenantcall.enter_token(%s)", [cloud.world.token(prey)])
        busy.execute("DECLARE c CURSOR FOR WITH x AS MATERIALIZED (SELECT company_id, name FROM "
                     "telephony.customers OFFSET 0) SELECT x.name FROM x JOIN telephony.customers AS y "
                     "ON x.company_id = y.company_id")
        busy.execute("FETCH 1 FROM c")
        number = cloud.world.db.sql("SELECT max(transaction_number) FROM get_all_active_transactions()")
        steps = (f"SELECT assign_distributed_transaction_id(0, {number}, now())",
                 "SELECT * FROM read_intermediate_result('1_1', 'binary') AS t (c bigint, n text)")
        for options in ({}, {"application_name": SPOOFED}):
            error = refused(lambda options=options: attempt(node, None, *steps, **options), "42501")
            assert ("node_addresses" in str(error)) == bool(options)
        busy.execute("ROLLBACK")


def tickets(cloud, company):
    """The tickets that a client can see of its own work."""
    seen = []
    with cloud.world.connect("app") as conn:
        conn.add_notice_handler(lambda notice: seen.append(notice.message_primary))
        conn.execute("SET citus.log_remote_commands = on; SET client_min_messages = debug")
        with conn.transaction():
            conn.execute("SELECT tenantcall.enter_token(%s)", [cloud.world.token(company)])
            conn.execute("SELECT count(*) FROM telephony.customers")
    return set(re.findall(r"tenantcall.token = '([^']+)'", " ".join(seen)))


def test_tickets_are_no_tokens(cloud, prey):
    """What carries the context to other nodes enters nobody, nowhere, and renews no token."""
    ticket, = tickets(cloud, cloud.other)
    assert ticket.startswith("node:")
    for node in cloud.stage.nodes:
        for options in ({}, {"application_name": SPOOFED}):
            for entering in (f"SELECT tenantcall.enter_token('{ticket}')",
                             f"SET LOCAL tenantcall.token = '{ticket}'"):
                refused(lambda node=node, entering=entering, options=options: attempt(
                    node, None, entering, **options), "PT401")
    # a session of a node's address and name, but not of the process that the ticket was made by
    node = cloud.node(prey)
    with psycopg.connect(host="127.0.0.1", port=node.port, dbname=NAME, user="cloud_app",
                         application_name=SPOOFED, autocommit=True) as conn:
        conn.execute("BEGIN")
        error = refused(lambda: conn.execute(f"SET LOCAL tenantcall.token = '{ticket}'"), "PT401")
        assert "invalid token" in str(error)


def test_calls_to_another_node(cloud, prey):
    """call_at_home() does what its caller may do, there and here, and binds no calls."""
    own, coordinator = cloud.other, cloud.stage.coordinator

    def call(function, arguments="", company=own, ticket="NULL", bound="NULL", node=coordinator):
        return attempt(node, cloud.world.token(own),
                       f"SELECT * FROM tenantcall.call_at_home({company.id}, {ticket}, "
                       f"$x${function}$x$, ARRAY[{arguments}]::text[], {bound})")

    refused(lambda: call("tenantcall.allow(text,bigint)", "'x''); SELECT 1; --', '1'"), "PT404")
    refused(lambda: call("tenantcall.sign_token(bigint,bigint,interval,name)",
                         "'1', NULL, '1 hour', NULL"), "42501")
    refused(lambda: call("tenantcall.enter(bigint,bigint)", f"'{prey.id}', NULL"), "42501")
    refused(lambda: call("pg_catalog.pg_sleep(float8)", "'1'"), "42883")
    refused(lambda: call("tenantcall.current_company_id()", bound="'stolen'"), "PT401")
    refused(lambda: call("tenantcall.arrive(bigint,text,text,text)", f"'{own.id}', NULL, 'x', 'stolen'"), "PT401")
    ticket, = tickets(cloud, own)
    refused(lambda: call("tenantcall.current_company_id()", ticket=f"'{ticket}'"), "PT401")
    assert call("tenantcall.current_company_id()", company=prey) == [(str(own.id),)]
    # where Citus does not send it on, it says so instead of going round in circles
    refused(lambda: attempt(
        cloud.node(prey), cloud.world.token(own),
        f"DO $$BEGIN PERFORM tenantcall.call_at_home({own.id}, NULL, 'tenantcall.allow(text,bigint)', "
        "ARRAY['function_call', '1']) OFFSET 0; END$$",
        "SET LOCAL plan_cache_mode = force_generic_plan",
        "PREPARE p (bigint) AS SELECT tenantcall.call_at_home($1, NULL, 'tenantcall.allow(text,bigint)', "
        "ARRAY['function_call', '1'])", f"EXECUTE p({own.id})"), "PT503")
    with cloud.at_home(prey, "gateway") as conn:
        conn.execute(f"SET application_name = '{SPOOFED}'")
        refused(lambda: conn.execute("SELECT tenantcall.ingest_retell('x'::text, 'y')"), "0A000")


def test_a_ticket_is_for_one_function(cloud, prey):
    """What a worker has sent along with one call does not admit another, which the coordinator alone sends."""
    worker = next(node for node in cloud.stage.workers if node != cloud.node(prey))
    seen = []
    with worker.connect(role=cloud.world.roles["gateway"], dbname=NAME, autocommit=True) as conn:
        conn.add_notice_handler(lambda notice: seen.append(notice.message_primary))
        conn.execute("SET citus.log_remote_commands = on; SET client_min_messages = debug")
        conn.execute("BEGIN")
        assert conn.execute(f"SELECT tenantcall.allow_for({prey.id}, 'function_call')").fetchone() == (True,)
        (ticket, allow), = re.findall(r"'(node:[^']+)'::text, '(tenantcall.allow_for[^']+)'", " ".join(seen))
        conn.execute("SAVEPOINT s")
        at_home = f"SELECT tenantcall.call_at_home({prey.id}, '{ticket}', %s, %s::text[])"
        for function, arguments in (("tenantcall.ingest_retell(bytea,text,timestamptz)", ["x", "y", "now"]),
                                    ("tenantcall.forget_caller(text,bigint)", ["+4915112345678", str(prey.id)])):
            refused(lambda f=function, a=arguments: conn.execute(at_home, [f, a]), "PT401")
            conn.execute("ROLLBACK TO s")
        assert conn.execute(at_home, [allow, [str(prey.id), "function_call", "1"]]).fetchone() == ("true",)
        conn.execute("ROLLBACK")


def test_transactions_and_savepoints(cloud, prey):
    """A context ends with its transaction and its savepoint, on kept connections to nodes as well."""
    own = cloud.other
    count = "SELECT count(*) FROM telephony.customers"
    with cloud.world.connect("app") as conn:
        def shown():
            return conn.execute(count).fetchone()[0]

        with conn.transaction():
            conn.execute("SELECT tenantcall.enter_token(%s)", [cloud.world.token(prey)])
            assert shown() == 2
        assert shown() == 0
        with conn.transaction():
            assert shown() == 0
        conn.execute("BEGIN")
        conn.execute("SAVEPOINT a")
        conn.execute("SELECT tenantcall.enter_token(%s)", [cloud.world.token(prey)])
        assert shown() == 2
        conn.execute("ROLLBACK TO a")
        assert shown() == 0
        refused(lambda: conn.execute("SELECT tenantcall.enter_token(%s)", [cloud.world.token(own)]),
                "PT403")
        conn.execute("ROLLBACK TO a")
        conn.execute("SELECT tenantcall.enter_token(%s)", [cloud.world.token(prey)])
        assert shown() == 2
        conn.execute("COMMIT AND CHAIN")
        assert shown() == 0
        conn.execute("ROLLBACK")


def test_a_shard_without_its_policies(cloud, prey):
    """A dropped policy, or one added, opens no shard; the audit of the node finds it."""
    node, table = cloud.node(prey), f"telephony.customers_{cloud.shard}"
    quiet = "SET citus.enable_ddl_propagation = off; "
    audit = "SELECT check_name, object FROM tenantcall.check_isolation() WHERE object LIKE 'telephony%'"
    with node.connect(role="cloud_admin", dbname=NAME, autocommit=True) as admin:
        assert admin.execute(audit).fetchall() == []
        node.sql(quiet + f"DROP POLICY tenantcall_tenant_restrictive ON {table}; "
                         f"CREATE POLICY open ON {table} USING (true)", dbname=NAME)
        for asked, query in ((node, f"SELECT * FROM {table}"),
                             (cloud.stage.coordinator, "SELECT * FROM telephony.customers WHERE "
                                                       f"company_id = {prey.id}")):
            assert attempt(asked, cloud.world.token(cloud.other), query) == []
        assert sorted(admin.execute(audit).fetchall()) == [("policy_foreign", table),
                                                           ("policy_missing", table)]
        node.sql(quiet + f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY", dbname=NAME)
        refused(lambda: attempt(node, cloud.world.token(cloud.other), f"SELECT * FROM {table}"), "55000")
        node.sql(quiet + f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; DROP POLICY open ON {table}; "
                         f"CREATE POLICY tenantcall_tenant_restrictive ON {table} AS RESTRICTIVE "
                         "USING (company_id = tenantcall.current_company_id()) "
                         "WITH CHECK (company_id = tenantcall.current_company_id())", dbname=NAME)
        assert admin.execute(audit).fetchall() == []
    with cloud.stage.coordinator.connect(role="cloud_admin", dbname=NAME, autocommit=True) as admin:
        assert admin.execute(audit).fetchall() == []


def test_entering_is_recorded_at_home(cloud, prey):
    """An administrator who enters on the coordinator leaves a trace where the company is."""
    query = ("SELECT count(*) FROM telephony.tenant_decisions WHERE company_id = %s "
             "AND kind = 'enter' AND by_role = 'cloud_admin'")
    with cloud.world.as_admin(prey) as conn:
        before = conn.execute(query, [prey.id]).fetchone()[0]
    with cloud.world.as_admin(prey) as conn:
        assert conn.execute(query, [prey.id]).fetchone()[0] == before + 1


def test_addresses_of_nodes(cloud, prey):
    """tenantcall.node_addresses decides who is a node, where it is set; what is no list is refused."""
    node, coordinator = cloud.node(prey), cloud.stage.coordinator
    count = f"SELECT count(*) FROM telephony.customers WHERE company_id = {prey.id}"

    def seen():
        return attempt(coordinator, cloud.world.token(prey), count)

    for wrong, detail in (("10.0.0.0/33", "10.0.0.0/33"), ("10.0.0.0/", "10.0.0.0/"), ("node1", "node1"),
                          ("10.0.0.1, ::1/129", "::1/129"), ("10.0.0.1,,10.0.0.2", "not a list")):
        with node.connect(dbname=NAME, autocommit=True) as conn:
            error = refused(lambda c=conn, w=wrong: c.execute(
                f"ALTER SYSTEM SET tenantcall.node_addresses = '{w}'"), "22023")
        assert detail in error.diag.message_detail
    before = seen()
    try:
        for addresses, admitted in (("192.0.2.0/24", False), ("127.0.0.2, ::1", False),
                                    ("127.0.0.1", True), ("::1, 127.0.0.0/8", True)):
            node.reload(**{"tenantcall.node_addresses": addresses})
            if admitted:
                assert seen() == before
            else:
                assert "invalid token" in str(refused(seen, "PT401"))
    finally:
        node.reload(**{"tenantcall.node_addresses": ""})
    assert seen() == before
