"""Mutation proof: whatever is broken, an attack succeeds or check_isolation() finds it.

Each mutant breaks the schema in one way, in a transaction that is rolled back.  Then an app role in
the context of company A tries to read, write and detect what is of company B, and the audit runs.
A mutant that neither notices fails the test; so does a control run that anything notices.  The
table printed (pytest -s) says who noticed what: where only the audit does, the other defences held.
"""
import psycopg
import pytest

from audit_database import audited_database, findings

SECRET = "secret of B"  # is in every row of company B, and in no other

DATA = """
SELECT tenantcall.create_company('company A', 'DE', 'Europe/Berlin') AS a,
       tenantcall.create_company('company B', 'DE', 'Europe/Berlin') AS b \\gset
UPDATE telephony.companies SET credential = 'secret of B' WHERE company_id = :b;
INSERT INTO shop.orders VALUES (:a, 1, 'own', 'of A'), (:b, 2, 'secret of B', 'secret of B');
INSERT INTO shop.lines VALUES (:a, 1, 1), (:b, 2, 2);
INSERT INTO shop.notes SELECT external_id, coalesce(credential, 'of A') FROM telephony.companies;
INSERT INTO shop.visits VALUES (:a, '2026-05-05', 'of A'), (:b, '2026-05-05', 'secret of B');
INSERT INTO telephony.customers (company_id, name, email) VALUES (:a, 'of A', 'a'), (:b, 'secret of B', 'b');
INSERT INTO telephony.services (company_id, name) VALUES (:a, 'of A'), (:b, 'secret of B');
INSERT INTO telephony.calls (company_id, provider_call_id, status, summary)
VALUES (:a, 'call A', 'inbound', 'of A'), (:b, 'call B', 'inbound', 'secret of B');
INSERT INTO tenantcall.call_bindings VALUES ('retell', 'call B', :b);
"""
SECRET_TABLES = ("shop.orders", "shop.notes", "shop.visits", "shop.visits_1", "telephony.companies",
                 "telephony.customers", "telephony.services", "telephony.calls")

NEW_FUNCTION = "CREATE FUNCTION shop.peep() RETURNS SETOF shop.orders LANGUAGE sql "
READERS = ("SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
           "WHERE n.nspname IN ('shop', 'telephony', 'public') AND c.relkind IN ('r', 'p', 'v', 'm') "
           "AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') ORDER BY 1")

MUTANTS = [
    ("row security off", "ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY"),
    ("row security off on a part", "ALTER TABLE shop.visits_1 DISABLE ROW LEVEL SECURITY; GRANT SELECT ON shop.visits_1 TO tc_audit_app"),
    ("row security not forced", "ALTER TABLE telephony.calls NO FORCE ROW LEVEL SECURITY"),
    ("not registered, no row security", "DELETE FROM tenantcall.scope_registry WHERE rel = 'shop.orders'::regclass; "
                                        "ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY"),
    ("not registered, policies intact", "DELETE FROM tenantcall.scope_registry WHERE rel = 'shop.orders'::regclass"),
    ("registered by another column", "UPDATE tenantcall.scope_registry SET company_column = 'id' WHERE rel = 'shop.orders'::regclass"),
    ("unscoped", "SELECT tenantcall.unscope_table('shop.orders')"),
    ("registry emptied", "TRUNCATE tenantcall.scope_registry"),
    ("permissive policy dropped", "DROP POLICY tenantcall_tenant ON shop.orders"),
    ("restrictive policy dropped", "DROP POLICY tenantcall_tenant_restrictive ON shop.orders"),
    ("both policies replaced by true", "DROP POLICY tenantcall_tenant_restrictive ON shop.orders; "
                                       "ALTER POLICY tenantcall_tenant ON shop.orders USING (true) WITH CHECK (true)"),
    ("policies true, not registered", "DROP POLICY tenantcall_tenant_restrictive ON shop.orders; "
                                      "ALTER POLICY tenantcall_tenant ON shop.orders USING (true) WITH CHECK (true); "
                                      "DELETE FROM tenantcall.scope_registry WHERE rel = 'shop.orders'::regclass"),
    ("policy of others added", "CREATE POLICY all_of_it ON shop.orders USING (true)"),
    ("policy for one role only", "ALTER POLICY tenantcall_tenant ON shop.notes TO tc_audit_other"),
    ("policy on a setting", "ALTER POLICY tenantcall_tenant ON shop.orders "
                            "USING (company_id = current_setting('app.company', true)::bigint)"),
    ("function of the policy replaced", "CREATE OR REPLACE FUNCTION tenantcall.current_company_id() RETURNS bigint "
                                        "LANGUAGE sql STABLE AS 'SELECT max(company_id) FROM telephony.companies'"),
    ("function of the policy of another symbol", "CREATE OR REPLACE FUNCTION tenantcall.current_company_id() RETURNS bigint "
                                                 "LANGUAGE C STABLE LEAKPROOF PARALLEL SAFE COST 1 AS '$libdir/tenantcall', 'tc_current_branch_id'"),
    ("function of the policy immutable", "ALTER FUNCTION tenantcall.current_company_id() IMMUTABLE"),
    ("function of the policy not leakproof", "ALTER FUNCTION tenantcall.current_company_id() NOT LEAKPROOF"),
    ("function of the policy owned by another", "ALTER FUNCTION tenantcall.current_company_id() OWNER TO tc_audit_other"),
    ("company nullable", "ALTER TABLE shop.notes ALTER tenant DROP NOT NULL"),
    ("freeze dropped", "DROP TRIGGER tenantcall_freeze ON shop.orders"),
    ("freeze not ALWAYS", "ALTER TABLE shop.orders ENABLE TRIGGER tenantcall_freeze"),
    ("freeze does nothing", "CREATE OR REPLACE FUNCTION tenantcall.scope_freeze_trigger() RETURNS trigger LANGUAGE plpgsql "
                            "AS 'BEGIN RETURN NEW; END'"),
    ("guard dropped", "DROP TRIGGER tenantcall_guard ON shop.orders"),
    ("all triggers disabled", "ALTER TABLE shop.orders DISABLE TRIGGER USER"),
    ("TRUNCATE granted", "GRANT TRUNCATE ON shop.orders TO tc_audit_app"),
    ("TRUNCATE granted, its trigger dropped", "GRANT TRUNCATE ON shop.notes TO tc_audit_app; DROP TRIGGER tenantcall_truncate ON shop.notes"),
    ("REFERENCES granted", "GRANT REFERENCES ON shop.orders TO tc_audit_app"),
    ("TRIGGER granted to PUBLIC", "GRANT TRIGGER ON shop.orders TO PUBLIC"),
    ("leaf granted", "GRANT SELECT ON shop.visits_1 TO tc_audit_app"),
    ("unscoped partition", "ALTER EVENT TRIGGER tenantcall_scope_ddl_end DISABLE; CREATE TABLE shop.visits_2 PARTITION OF shop.visits "
                           "FOR VALUES FROM ('2027-01-01') TO ('2028-01-01'); ALTER EVENT TRIGGER tenantcall_scope_ddl_end ENABLE ALWAYS; "
                           "INSERT INTO shop.visits VALUES (2, '2027-02-02', 'secret of B'); GRANT SELECT ON shop.visits_2 TO tc_audit_app"),
    ("unscoped child", "ALTER EVENT TRIGGER tenantcall_scope_ddl_end DISABLE; CREATE TABLE shop.more () INHERITS (shop.notes); "
                       "ALTER EVENT TRIGGER tenantcall_scope_ddl_end ENABLE ALWAYS; "
                       "INSERT INTO shop.more SELECT * FROM ONLY shop.notes; GRANT SELECT ON shop.more TO tc_audit_app"),
    ("copy", "CREATE TABLE shop.copy (LIKE shop.orders INCLUDING ALL); INSERT INTO shop.copy SELECT * FROM shop.orders; "
             "GRANT SELECT ON shop.copy TO tc_audit_app"),
    ("new table, not scoped", "CREATE TABLE shop.new AS SELECT company_id, note FROM shop.orders; GRANT SELECT ON shop.new TO tc_audit_app"),
    ("owner's view of a superuser", "CREATE VIEW shop.leak AS SELECT * FROM shop.orders; GRANT SELECT ON shop.leak TO tc_audit_app"),
    ("owner's view of a bound role", "ALTER VIEW shop.order_codes RESET (security_invoker)"),
    ("owner's view of a bypassing role", "ALTER ROLE tc_audit_owner BYPASSRLS; ALTER VIEW shop.order_codes RESET (security_invoker)"),
    ("materialized view", "CREATE MATERIALIZED VIEW shop.kept AS SELECT * FROM shop.order_codes; GRANT SELECT ON shop.kept TO tc_audit_app"),
    ("rule", "CREATE RULE leak AS ON UPDATE TO shop.prices DO INSTEAD SELECT * FROM shop.orders; "
             "GRANT SELECT, UPDATE ON shop.prices TO tc_audit_app"),
    ("definer function", NEW_FUNCTION + "SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT * FROM shop.orders'"),
    ("definer function, search path open", NEW_FUNCTION + "SECURITY DEFINER AS 'SELECT * FROM shop.orders'"),
    ("leakproof spy", "CREATE FUNCTION public.spy(text) RETURNS boolean LANGUAGE plpgsql LEAKPROOF COST 0.0001 "
                      "AS $$BEGIN RAISE NOTICE '%', $1; RETURN true; END$$"),
    ("unique without company", "CREATE UNIQUE INDEX ON shop.orders (code)"),
    ("exclusion without company", "ALTER TABLE shop.orders ADD EXCLUDE USING gist (id WITH =, company_id WITH <>)"),
    ("foreign key without company", "ALTER TABLE shop.lines DROP CONSTRAINT lines_company_id_order_id_fkey; "
                                    "ALTER TABLE shop.orders ADD UNIQUE (id); "
                                    "ALTER TABLE shop.lines ADD FOREIGN KEY (order_id) REFERENCES shop.orders (id)"),
    ("foreign key of an unscoped table", "ALTER TABLE shop.orders ADD UNIQUE (id); ALTER TABLE shop.prices ADD FOREIGN KEY (id) REFERENCES "
                                         "shop.orders (id); GRANT INSERT ON shop.prices TO tc_audit_app"),
    ("foreign key sets the company to null", "ALTER TABLE shop.lines ADD FOREIGN KEY (company_id, order_id) REFERENCES shop.orders "
                                             "ON DELETE SET NULL"),
    ("orphans", "SET LOCAL session_replication_role = replica; INSERT INTO shop.lines VALUES (1, 77, 77); "
                "SET LOCAL session_replication_role = origin"),
    ("index led by the company dropped", "ALTER TABLE shop.orders DROP CONSTRAINT orders_company_id_code_key; "
                                         "ALTER TABLE shop.orders DROP CONSTRAINT orders_pkey CASCADE"),
    ("app is superuser", "ALTER ROLE tc_audit_app SUPERUSER"),
    ("app bypasses", "ALTER ROLE tc_audit_app BYPASSRLS"),
    ("app owns", "ALTER TABLE shop.orders OWNER TO tc_audit_app"),
    ("app can become the owner", "GRANT tenantcall_owner TO tc_audit_app"),
    ("app can become a superuser by steps", "GRANT tc_audit_other TO tc_audit_app; GRANT postgres TO tc_audit_other"),
    ("app reads all data", "GRANT pg_read_all_data TO tc_audit_app"),
    ("app signals", "GRANT pg_signal_backend TO tc_audit_app"),
    ("app may enter", "GRANT EXECUTE ON FUNCTION tenantcall.enter(bigint, bigint) TO tc_audit_app"),
    ("app is a gateway too, by membership", "GRANT tc_audit_gateway TO tc_audit_app"),
    ("everybody may enter", "GRANT EXECUTE ON FUNCTION tenantcall.enter(bigint, bigint) TO PUBLIC"),
    ("app is not confined", "DELETE FROM tenantcall.role_kinds WHERE role = 'tc_audit_app'"),
    ("another role reads", "GRANT SELECT ON shop.orders TO tc_audit_other"),
    ("app reads bindings", "GRANT SELECT ON tenantcall.call_bindings TO tc_audit_app"),
    ("app reads statistics", "GRANT SELECT ON pg_statistic TO tc_audit_app"),
    ("app reads files", "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO tc_audit_app"),
    ("app creates in a schema", "GRANT CREATE ON SCHEMA shop TO tc_audit_app"),
    ("temporary tables", "GRANT TEMPORARY ON DATABASE {db} TO PUBLIC"),
    ("owner can log in", "ALTER ROLE tenantcall_owner LOGIN"),
    ("C is trusted", "UPDATE pg_language SET lanpltrusted = true WHERE lanname = 'c'"),
    ("app may set replication role", "GRANT SET ON PARAMETER session_replication_role TO tc_audit_app"),
    ("test mode", "SET LOCAL tenantcall.test_mode = on"),
    ("test mode pinned", "ALTER ROLE tc_audit_app SET tenantcall.test_mode = on"),
    ("replication role pinned", "ALTER DATABASE {db} SET session_replication_role = replica"),
    ("event trigger disabled", "ALTER EVENT TRIGGER tenantcall_scope_ddl_end DISABLE"),
    ("event trigger dropped", "ALTER EXTENSION tenantcall DROP EVENT TRIGGER tenantcall_scope_sql_drop; "
                              "DROP EVENT TRIGGER tenantcall_scope_sql_drop"),
    ("cache not told", "ALTER TABLE telephony.phone_numbers DISABLE TRIGGER tenantcall_invalidate"),
    ("stand-in in our schema", "CREATE FUNCTION tenantcall.quote_ident(text) RETURNS text LANGUAGE sql AS 'SELECT $1'"),
    ("our function SECURITY DEFINER", "ALTER FUNCTION tenantcall.enter_token(text) SECURITY DEFINER"),
    ("publication", "CREATE PUBLICATION leak FOR TABLE shop.orders"),
    ("default privileges", "ALTER DEFAULT PRIVILEGES FOR ROLE tc_audit_owner GRANT SELECT ON TABLES TO tc_audit_app"),
    ("other version", "UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'tenantcall'"),
]


class Attacker:
    """An app role within company A, in a superuser's transaction; each attempt is undone."""

    def __init__(self, conn, a, b):
        self.conn, self.a, self.b = conn, a, b
        self.notices = []
        conn.add_notice_handler(lambda diag: self.notices.append(diag.message_primary))

    def attempt(self, sql, *args):
        """The rows, the number of rows written, or the SQLSTATE of one statement."""
        try:
            with self.conn.transaction(force_rollback=True):
                done = self.conn.execute(sql, args or None)
                return done.fetchall() if done.description else done.rowcount
        except psycopg.Error as error:
            return error.sqlstate

    def reads(self):
        """Relations and functions through which a row of B is read."""
        names = [row[0] for row in self.attempt(READERS)] + ["shop.peep()"]
        return [f"reads {n}" for n in names
                if self.attempt(f"SELECT 1 FROM {n} AS r WHERE r::text LIKE %s LIMIT 1", f"%{SECRET}%") == [(1,)]
                ] + [f"reads by {sql}" for sql in ("UPDATE shop.prices SET cents = 1", "TABLE pg_statistic")
                     if SECRET in str(self.attempt(sql))]

    def writes(self):
        """Ways in which a row of B is made, taken over or destroyed."""
        tries = {
            "inserts as B": (f"INSERT INTO shop.orders VALUES ({self.b}, 50, 'x')", 1),
            "gives a row to B": (f"UPDATE shop.orders SET company_id = {self.b} WHERE id = 1", 1),
            "changes B's row": ("UPDATE shop.orders SET note = 'mine' WHERE id = 2", 1),
            "deletes B's row": ("DELETE FROM shop.notes WHERE body LIKE 'secret%'", 1),
            "truncates orders": ("TRUNCATE shop.orders CASCADE", -1),
            "truncates notes": ("TRUNCATE shop.notes", -1),
        }
        return [what for what, (sql, success) in tries.items() if self.attempt(sql) == success]

    def detects(self):
        """Ways to tell a value that B has from one that nobody has."""
        tries = {
            "a code": (f"INSERT INTO shop.orders VALUES ({self.a}, 60, %s)", SECRET, "nobody's"),
            "an id": (f"INSERT INTO shop.orders VALUES ({self.a}, %s, 'x')", 2, 999),
            "a reference": (f"INSERT INTO shop.lines VALUES ({self.a}, 60, %s)", 2, 999),
            "a price": ("INSERT INTO shop.prices VALUES (%s, 1)", 2, 999),
        }
        found = [f"detects {what}" for what, (sql, there, missing) in tries.items()
                 if self.attempt(sql, there) != self.attempt(sql, missing)]
        self.notices.clear()
        self.attempt("SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off; "
                     "SELECT FROM shop.orders WHERE public.spy(note)")
        return found + (["is told by a function"] if SECRET in self.notices else [])

    def reaches(self):
        """Ways out of the context of A, and around row security."""
        tries = {
            "enters B": f"SELECT tenantcall.enter({self.b})",
            "sets B": f"SELECT set_config('tenantcall.company_id', '{self.b}', true)",
            "may enter any company": "SELECT 1 WHERE has_function_privilege('tenantcall.enter(bigint, bigint)', 'EXECUTE')",
            "can become the owner": "SELECT 1 WHERE pg_has_role('tenantcall_owner', 'MEMBER')",
            "switches row security off": "ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY",
            "reads bindings": f"SELECT 1 FROM tenantcall.call_bindings WHERE company_id = {self.b}",
            "reads statistics": "SELECT 1 FROM pg_statistic LIMIT 1",
            "reads files": "SELECT pg_read_file('PG_VERSION')",
            "shadows a table": "CREATE TEMPORARY TABLE orders ()",
            "creates a function": "CREATE FUNCTION shop.lower(text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
            "loads code": "CREATE FUNCTION public.evil() RETURNS int LANGUAGE c AS 'tenantcall', 'tc_version'",
        }
        return [what for what, sql in tries.items()
                if not isinstance(done := self.attempt(sql), str) and done != []]

    def writes_without_context(self):
        """Writes that are not refused although no company was entered."""
        refused = self.attempt("DELETE FROM shop.orders")
        what = "is stopped" if refused == "55000" else "writes without context"
        return [] if refused == "PT403" else [f"{what} ({refused})"]

    def attack(self):
        """All that succeeds, first without, then with the context of A."""
        role = "SET LOCAL ROLE tc_audit_app"
        self.conn.execute(role)
        done = self.writes_without_context()
        self.conn.execute("RESET ROLE")
        try:
            with self.conn.transaction():
                self.conn.execute("SELECT tenantcall.enter(%s)", [self.a])
        except psycopg.Error as error:
            return done + [f"cannot enter ({error.sqlstate})"]
        self.conn.execute(role)
        done += self.reads() + self.writes() + self.detects() + self.reaches()
        self.conn.execute("RESET ROLE")
        return done


@pytest.fixture(scope="module")
def world(cluster):
    """The database, and companies A and B with their rows."""
    with audited_database(cluster, "mutation") as name:
        cluster.sql(DATA, dbname=name)
        a, b = cluster.sql("SELECT company_id FROM telephony.companies ORDER BY name", dbname=name).split()
        for table in SECRET_TABLES:
            assert cluster.sql(f"SELECT count(*) FROM {table} r WHERE r::text LIKE '%{SECRET}%'", dbname=name) == "1"
        yield name, int(a), int(b)


def run_mutant(cluster, world, sql):
    """Who notices: the attacks that succeed, and the checks that find something."""
    name, a, b = world
    with cluster.connect(dbname=name) as conn:
        conn.execute("SET LOCAL client_min_messages = error; " + sql.replace("{db}", name) + "; "
                     "SET LOCAL client_min_messages = notice")
        checks = sorted({f["check_name"] for f in findings(conn, unclean_only=True)})
        attacks = Attacker(conn, a, b).attack()
        conn.rollback()
    return attacks, checks


def test_control(cluster, world):
    """Nothing is noticed where nothing is broken."""
    assert run_mutant(cluster, world, "SELECT 1") == ([], [])


@pytest.mark.limit(300)
def test_mutants(cluster, world):
    """Every mutant is noticed."""
    unnoticed, by_attack = [], 0
    print()
    for what, sql in MUTANTS:
        attacks, checks = run_mutant(cluster, world, sql)
        by_attack += bool(attacks)
        print(f"{what:45} | {', '.join(attacks) or '-':75} | {', '.join(checks) or '-'}")
        if not attacks and not checks:
            unnoticed.append(what)
    print(f"{len(MUTANTS)} mutants, {by_attack} noticed by an attack, {len(unnoticed)} by nobody")
    assert len(MUTANTS) >= 30 and unnoticed == []


EACH_PART = """
SELECT format('DROP POLICY %I ON %s', polname, polrelid::regclass) FROM pg_policy
WHERE polrelid IN (SELECT rel FROM tenantcall.scope_registry)
UNION ALL
SELECT format('ALTER TABLE %s %s TRIGGER %I', tgrelid::regclass, how, tgname)
FROM pg_trigger, unnest(ARRAY['DISABLE', 'ENABLE']) AS how
WHERE tgrelid IN (SELECT rel FROM tenantcall.scope_registry)
  AND tgname IN ('tenantcall_freeze', 'tenantcall_guard', 'tenantcall_truncate', 'tenantcall_invalidate')
UNION ALL
SELECT format('ALTER TABLE %s %s', rel, how)
FROM tenantcall.scope_registry, unnest(ARRAY['DISABLE ROW LEVEL SECURITY', 'NO FORCE ROW LEVEL SECURITY']) AS how
UNION ALL
SELECT format('DELETE FROM tenantcall.scope_registry WHERE rel = %L::regclass', rel) FROM tenantcall.scope_registry
UNION ALL
SELECT format('ALTER FUNCTION %s SECURITY DEFINER', p.oid::regprocedure) FROM pg_proc p JOIN tenantcall.role_functions f
ON f.function = p.proname AND f.kind = 'app' WHERE p.pronamespace = 'tenantcall'::regnamespace
UNION ALL
SELECT DISTINCT format('GRANT EXECUTE ON ROUTINE %s TO tc_audit_app', p.oid::regprocedure)
FROM pg_proc p JOIN tenantcall.role_functions f ON f.function = p.proname
WHERE p.pronamespace = 'tenantcall'::regnamespace AND f.kind <> 'app'
UNION ALL
SELECT format('GRANT SELECT ON %s TO tc_audit_app', c.oid::regclass) FROM pg_class c
WHERE c.relnamespace = 'tenantcall'::regnamespace AND c.relkind IN ('r', 'v')
  AND c.relname NOT IN (SELECT relation FROM tenantcall.role_relations
                        WHERE kind IN ('public', 'app') AND column_name IS NULL)
"""


@pytest.mark.limit(300)
def test_each_part(cluster, world):
    """The audit notices every single policy, trigger, flag, registration and privilege."""
    unnoticed = []
    with cluster.connect(dbname=world[0]) as conn:
        parts = [row[0] for row in conn.execute(EACH_PART)]
        for sql in parts:
            with conn.transaction(force_rollback=True):
                conn.execute(sql)
                if not findings(conn, unclean_only=True):
                    unnoticed.append(sql)
    print(f"\n{len(parts)} single parts")
    assert len(parts) > 200 and unnoticed == []
