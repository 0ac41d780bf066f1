"""The attacks of test_attacks.py: what somebody who works for company A does to get at company B.

An attack is a list of statements.  They run one by one, each as if under a savepoint, and everything
that comes back is read: rows, notices, error texts.  It has succeeded when a mark that stands in B's
rows only is among it, or B's rows have changed.  An oracle runs twice, with a value that B has and
with one that nobody has, and has succeeded when one can tell the two apart.

    {t}        the schema, naive or ours             {enter_a}   enters A, as is right and proper
    {setting}  what a naive context is called,       {switch}    tries to enter B as well (ours: with
               and ours                                          a valid token, or as a gateway)
    {forged}   its value for B                       {a}, {b}    the companies
    ~...       what B does on the same (pooled) connection; its output is B's own
    ~?...      the same, and may be refused          %...        B in another session
    !...       a superuser elsewhere                 @...        connects again, with these options
    {role}     who attacks                           {definer}   owner of the tables

"by" is the naive role that shows that the attack works: app, or owner where the application logs in
as the owner of its tables, as many do.
"""
import dataclasses

READ = "SELECT label FROM {t}.visits"
NOTICE = "RAISE NOTICE '%', (SELECT string_agg(label, ',') FROM {t}.visits)"
LEAK = ("CREATE FUNCTION pg_temp.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS "
        "$$ BEGIN RAISE NOTICE 'leaked %', $1; RETURN true; END $$")


@dataclasses.dataclass(frozen=True)
class Attack:
    """One attack."""
    name: str
    steps: tuple
    by: str = "app"
    probes: tuple = ()        # an oracle's: a value of B's, a value of nobody's
    not_gateway: bool = False  # a gateway may know
    cleanup: str = ""


def attack(name, *steps, **more):
    """An attack."""
    return Attack(name, steps, **more)


def in_a(*steps):
    """Steps in a transaction of A."""
    return ("BEGIN", "{enter_a}", *steps, "COMMIT")


def oracle(name, *steps, hit, miss, **more):
    """An attack by telling answers apart; the probe's values must be of one length."""
    return Attack(name, steps, probes=(str(hit), str(miss)), **more)


FORGING = [
    attack("SET", *in_a("SET {setting} = '{forged}'", READ)),
    attack("SET LOCAL", *in_a("SET LOCAL {setting} = '{forged}'", READ)),
    attack("SET outside of a transaction", "SET {setting} = '{forged}'", READ),
    attack("set_config, local", *in_a("SELECT set_config('{setting}', '{forged}', true)", READ)),
    attack("set_config, session", "SELECT set_config('{setting}', '{forged}', false)", READ),
    attack("set_config within the query",
           *in_a("SELECT label FROM {t}.visits, set_config('{setting}', '{forged}', true) AS x")),
    attack("second enter", *in_a("{switch}", READ)),
    attack("second enter after a read", *in_a(READ, "{switch}", READ)),
    attack("RESET", "ALTER ROLE CURRENT_USER SET {setting} = '{forged}'", "@",
           *in_a("RESET {setting}", READ), cleanup='ALTER ROLE "{role}" RESET ALL'),
    attack("RESET ALL", "ALTER ROLE CURRENT_USER SET {setting} = '{forged}'", "@",
           *in_a("RESET ALL", READ), cleanup='ALTER ROLE "{role}" RESET ALL'),
    attack("DISCARD ALL", "ALTER ROLE CURRENT_USER SET {setting} = '{forged}'", "@", "DISCARD ALL",
           READ, cleanup='ALTER ROLE "{role}" RESET ALL'),
    attack("SET TO DEFAULT", "ALTER ROLE CURRENT_USER SET {setting} = '{forged}'", "@",
           *in_a("SET {setting} TO DEFAULT", READ), cleanup='ALTER ROLE "{role}" RESET ALL'),
    attack("ALTER ROLE SET", "ALTER ROLE CURRENT_USER SET {setting} = '{forged}'", "@", READ,
           cleanup='ALTER ROLE "{role}" RESET ALL'),
    attack("ALTER ROLE SET by a superuser", "!ALTER ROLE \"{role}\" SET {setting} = '{forged}'",
           "@", READ, cleanup='ALTER ROLE "{role}" RESET ALL'),
    attack("ALTER DATABASE SET", "!ALTER DATABASE {database} SET {setting} = '{forged}'", "@", READ,
           cleanup="ALTER DATABASE {database} RESET ALL"),
    attack("ALTER SYSTEM SET", "!SET {setting} = '{forged}'",
           "!ALTER SYSTEM SET {setting} = '{forged}'", "!SELECT pg_reload_conf()",
           "!SELECT pg_sleep(0.1)", "@", READ,
           cleanup="ALTER SYSTEM RESET ALL; SELECT pg_reload_conf()"),
    attack("GRANT SET ON PARAMETER", '!GRANT SET ON PARAMETER {setting} TO "{role}"',
           *in_a("SET {setting} = '{forged}'", READ),
           cleanup='REVOKE SET ON PARAMETER {setting} FROM "{role}"'),
    attack("SET ROLE by set_config", *in_a("SELECT set_config('role', '{role}', true)",
                                           "SET {setting} = '{forged}'", READ)),
    attack("function with a SET clause", "CREATE FUNCTION pg_temp.f() RETURNS SETOF text "
           "LANGUAGE sql SET {setting} = '{forged}' AS $$" + READ + "$$",
           *in_a("SELECT pg_temp.f()")),
    attack("function with SET FROM CURRENT",
           *in_a("{switch}", "SET {setting} = '{forged}'",
                 "CREATE FUNCTION pg_temp.f() RETURNS SETOF text LANGUAGE sql "
                 "SET {setting} FROM CURRENT AS $$" + READ + "$$"), *in_a("SELECT pg_temp.f()")),
    attack("ALTER FUNCTION SET", "CREATE FUNCTION pg_temp.f() RETURNS SETOF text LANGUAGE sql AS "
           "$$" + READ + "$$", "ALTER FUNCTION pg_temp.f() SET {setting} = '{forged}'",
           *in_a("SELECT pg_temp.f()")),
    attack("PGOPTIONS", "@-c {setting}={forged}", READ),
    attack("savepoint", *in_a("SAVEPOINT s", READ, "ROLLBACK TO s", "{switch}", READ)),
    attack("enter within a savepoint", "BEGIN", "SAVEPOINT s", "{enter_a}", "ROLLBACK TO s",
           "{switch}", READ, "COMMIT"),
    attack("exception block", *in_a(
        "DO $$ BEGIN BEGIN PERFORM set_config('{setting}', '{forged}', true); "
        "EXCEPTION WHEN OTHERS THEN NULL; END; " + NOTICE + "; END $$")),
    attack("enter in an exception block", *in_a(
        "DO $$ BEGIN BEGIN RAISE division_by_zero; EXCEPTION WHEN OTHERS THEN "
        "EXECUTE $x${switch}$x$; END; " + NOTICE + "; END $$")),
    attack("cursor", *in_a("DECLARE c CURSOR FOR " + READ, "FETCH 1 FROM c", "{switch}",
                           "SET {setting} = '{forged}'", "FETCH ALL FROM c")),
    attack("scrollable cursor", *in_a("DECLARE c SCROLL CURSOR FOR " + READ, "{switch}",
                                      "SET {setting} = '{forged}'", "FETCH ALL FROM c")),
    attack("prepared statement", *in_a("PREPARE p AS " + READ, "EXECUTE p", "{switch}",
                                       "EXECUTE p")),
    attack("prepared in another context", "~BEGIN", "~{enter_b}", "~PREPARE p AS " + READ,
           "~EXECUTE p", "~COMMIT", "EXECUTE p"),
    attack("generic plan", *in_a("SET plan_cache_mode = force_generic_plan",
                                 "PREPARE p AS " + READ, "EXECUTE p", "{switch}", "EXECUTE p")),
    attack("custom plans", *in_a("SET plan_cache_mode = force_custom_plan",
                                 "PREPARE p (int) AS " + READ + " WHERE id > $1", "EXECUTE p (0)",
                                 "{switch}", "EXECUTE p (0)")),
    attack("parallel worker", *in_a("{force_parallel}", "SET {setting} = '{forged}'",
                                    "SELECT string_agg(label, ',') FROM {t}.visits")),
    attack("parallel worker and set_config", *in_a(
        "{force_parallel}", "SELECT string_agg(label, ',') FROM {t}.visits "
        "WHERE set_config('{setting}', '{forged}', true) IS NOT NULL")),
    attack("deferred trigger", "CREATE TEMP TABLE d (x int)",
           "CREATE FUNCTION pg_temp.late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN " + NOTICE
           + "; RETURN NULL; END $$",
           "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON d DEFERRABLE INITIALLY DEFERRED "
           "FOR EACH ROW EXECUTE FUNCTION pg_temp.late()",
           *in_a("INSERT INTO d VALUES (1)", "{switch}", "SET {setting} = '{forged}'")),
    attack("procedure that sets and commits",
           "CREATE PROCEDURE pg_temp.p() LANGUAGE plpgsql AS $$ BEGIN "
           "PERFORM set_config('{setting}', '{forged}', false); COMMIT; " + NOTICE + "; END $$",
           "CALL pg_temp.p()"),
    attack("query_to_xml", *in_a("SELECT query_to_xml('SELECT set_config(''{setting}'', "
                                 "''{forged}'', true)', true, false, '')",
                                 "SELECT query_to_xml('" + READ + "', true, false, '')")),
    attack("COPY of a query that sets", *in_a(
        "COPY (SELECT label FROM {t}.visits, set_config('{setting}', '{forged}', true) AS x) "
        "TO STDOUT")),
]

# What B leaves behind on a connection that A gets next.
LEFTOVERS = [
    attack("pooled connection", "~BEGIN", "~{enter_b}", "~" + READ, "~COMMIT", READ),
    attack("pooled connection, rolled back", "~BEGIN", "~{enter_b}", "~COMMIT", "~BEGIN",
           "~ROLLBACK", "BEGIN", READ, "COMMIT"),
    attack("COMMIT AND CHAIN", "~BEGIN", "~{enter_b}", "~COMMIT AND CHAIN", "~COMMIT", READ),
    attack("COMMIT AND CHAIN, read in the chain", "~BEGIN", "~{enter_b}", "COMMIT AND CHAIN", READ,
           "COMMIT"),
    attack("two-phase commit", "~BEGIN", "~{enter_b}", "~" + READ, "~PREPARE TRANSACTION 'gone'",
           READ, "COMMIT PREPARED 'gone'", READ, cleanup="ROLLBACK PREPARED 'gone'"),
    attack("procedure commit", "~BEGIN", "~{enter_b}", "~COMMIT",
           "CREATE PROCEDURE pg_temp.q() LANGUAGE plpgsql AS $$ BEGIN COMMIT; " + NOTICE
           + "; END $$", "CALL pg_temp.q()"),
    attack("cursor WITH HOLD", "~BEGIN", "~{enter_b}",
           "~?DECLARE kept CURSOR WITH HOLD FOR " + READ, "~COMMIT", "FETCH ALL FROM kept",
           not_gateway=True),
    attack("prepared statement's text", "~BEGIN", "~{enter_b}",
           "~PREPARE mine AS SELECT 'BETA literal'", "~COMMIT",
           "SELECT statement FROM pg_prepared_statements",
           not_gateway=True),
    attack("write with what is left", "~BEGIN", "~{enter_b}", "~COMMIT",
           "UPDATE {t}.visits SET label = 'broken'", "DELETE FROM {t}.visits",
           "INSERT INTO {t}.visits (company_id, id, phone, label) VALUES ({b}, 999, 'p', 'x')"),
    attack("large object", "~BEGIN", "~{enter_b}",
           "~?SELECT lo_from_bytea(4242, convert_to('BETA object', 'UTF8'))", "~COMMIT",
           "SELECT convert_from(lo_get(4242), 'UTF8')", cleanup="SELECT lo_unlink(4242)",
           not_gateway=True),
    attack("another session's query", "!SELECT 1", "~BEGIN", "~{enter_b}", "~COMMIT",
           "%SELECT 'BETA query'", "SELECT query FROM pg_stat_activity",
           "SELECT pg_stat_get_backend_activity(s) FROM pg_stat_get_backend_idset() AS s",
           not_gateway=True),
    attack("notification", "LISTEN gossip", "%NOTIFY gossip, 'BETA news'",
           "%SELECT pg_notify('gossip', 'BETA news')", "SELECT 1",
           not_gateway=True),
]

# What row security, or keys, or views do not cover in a naive schema.
AROUND = [
    attack("INSERT for another company", *in_a(
        "INSERT INTO {t}.visits (company_id, id, phone, label) VALUES ({b}, 999, 'p999', 'x')")),
    attack("COPY FROM for another company", *in_a(
        "INSERT INTO {t}.visits (company_id, id, phone, label) SELECT {b}, 998, 'p998', 'x' "
        "FROM generate_series(1, 1)")),
    attack("UPDATE of the company", *in_a("UPDATE {t}.visits SET company_id = {b} WHERE id = 1",
                                          "UPDATE {t}.visits SET company_id = {b}")),
    attack("MERGE into another company", *in_a(
        "MERGE INTO {t}.visits v USING (VALUES (997)) s(id) ON v.id = s.id WHEN NOT MATCHED THEN "
        "INSERT (company_id, id, phone, label) VALUES ({b}, 997, 'p997', 'x')")),
    attack("ON CONFLICT DO UPDATE", *in_a(
        "INSERT INTO {t}.visits (company_id, id, phone, label) VALUES ({a}, 60, 'x', 'x') "
        "ON CONFLICT DO NOTHING", "INSERT INTO {t}.visits (company_id, id, phone, label) "
        "VALUES ({b}, 61, 'x', 'x') ON CONFLICT (company_id, id) DO UPDATE SET label = 'broken'",
        "INSERT INTO {t}.visits (company_id, id, phone, label) VALUES ({b}, 61, 'x', 'x') "
        "ON CONFLICT (id) DO UPDATE SET label = 'broken' RETURNING *"), by="owner"),
    attack("RETURNING", *in_a("UPDATE {t}.visits SET amount = 1 RETURNING label",
                              "DELETE FROM {t}.visits RETURNING *"), by="owner"),
    attack("UPDATE FROM", *in_a("UPDATE {t}.visits v SET label = 'got ' || o.label "
                                "FROM {t}.visits o WHERE o.id = 60 RETURNING v.label"), by="owner"),
    attack("MERGE that reads", *in_a(
        "MERGE INTO {t}.notes n USING {t}.visits v ON n.visit_id = v.id - 50 "
        "WHEN MATCHED THEN UPDATE SET note = v.label", "SELECT note FROM {t}.notes WHERE id <= 50"),
        by="owner"),
    attack("COPY TO", *in_a("COPY {t}.visits TO STDOUT", "COPY (TABLE {t}.visits) TO STDOUT"),
           by="owner"),
    attack("row_security off", *in_a("SET LOCAL row_security = off", READ), by="owner"),
    attack("table_to_xml", *in_a("SELECT table_to_xml('{t}.visits', true, false, '')",
                                 "SELECT schema_to_xml('{t}', true, false, '')"), by="owner"),
    attack("TABLESAMPLE", *in_a(READ + " TABLESAMPLE SYSTEM (100)",
                                READ + " TABLESAMPLE BERNOULLI (100)"), by="owner"),
    attack("ctid", *in_a(READ + " WHERE ctid = ANY (ARRAY(SELECT format('(%s,%s)', p, i)::tid "
                         "FROM generate_series(0, 3) p, generate_series(1, 120) i))"), by="owner"),
    attack("FOR UPDATE", *in_a(READ + " FOR UPDATE", READ + " FOR KEY SHARE SKIP LOCKED"),
           by="owner"),
    attack("whole rows and system columns", *in_a(
        "SELECT v, v.xmin, v.tableoid FROM {t}.visits v", "SELECT to_jsonb(v) FROM {t}.visits v",
        "SELECT (SELECT v.label FROM {t}.visits v WHERE v.id = 60)"), by="owner"),
    attack("recursive and lateral reads", *in_a(
        "WITH RECURSIVE r AS (SELECT id, label FROM {t}.visits UNION SELECT v.id, v.label "
        "FROM {t}.visits v JOIN r ON v.id = r.id + 1) TABLE r"), by="owner"),
    attack("TRUNCATE", *in_a("TRUNCATE {t}.notes"), by="owner"),
    attack("leaf partition", *in_a("SELECT label FROM {t}.parted_1")),
    attack("write to a leaf partition", *in_a("UPDATE {t}.parted_1 SET label = 'broken'")),
    attack("view without security_invoker", *in_a("SELECT label FROM {t}.all_of_it")),
    attack("write through the view", *in_a("UPDATE {t}.all_of_it SET label = 'broken'")),
    attack("leaky function in a view", *in_a(
        LEAK, "SELECT 1 FROM {t}.tenant_view WHERE pg_temp.leak(label)",
        "SELECT 1 FROM {t}.visits WHERE pg_temp.leak(label)")),
    attack("leaky operator", *in_a(
        LEAK, "CREATE FUNCTION pg_temp.leak2(text, text) RETURNS boolean LANGUAGE sql "
        "COST 0.0000001 AS 'SELECT pg_temp.leak($1)'",
        "CREATE OPERATOR pg_temp.=== (PROCEDURE = pg_temp.leak2, LEFTARG = text, RIGHTARG = text)",
        "SELECT 1 FROM {t}.tenant_view WHERE label OPERATOR(pg_temp.===) 'x'",
        "SELECT 1 FROM {t}.visits WHERE label OPERATOR(pg_temp.===) 'x'")),
    attack("cast that fails", *in_a("SELECT 1 FROM {t}.tenant_view WHERE label::int = 1",
                                    "SELECT 1 FROM {t}.visits WHERE label::int = 1",
                                    "SELECT 1 FROM {t}.tenant_view WHERE id > 50 AND label::int = 1",
                                    "SELECT 1 FROM {t}.visits WHERE id > 50 AND label::int = 1")),
    attack("SECURITY DEFINER with an open search_path",
           "CREATE SCHEMA IF NOT EXISTS \"evil {role}\"",
           "CREATE FUNCTION \"evil {role}\".visible(text) RETURNS boolean LANGUAGE plpgsql "
           "COST 0.0000001 AS $$ BEGIN RAISE NOTICE 'leaked %', $1; RETURN true; END $$",
           "GRANT ALL ON SCHEMA \"evil {role}\" TO PUBLIC",
           *in_a("SET LOCAL search_path = \"evil {role}\", public", "SELECT {t}.report()"),
           cleanup="DROP SCHEMA \"evil {role}\" CASCADE"),
    attack("temporary table that shadows", *in_a(
        "CREATE TEMP TABLE admins (name name)", "INSERT INTO admins VALUES (session_user)",
        "GRANT SELECT ON admins TO PUBLIC",
        "SELECT {t}.everything()")),
    attack("statistics", "!ANALYZE {t}.visits",
           *in_a("SELECT most_common_vals, histogram_bounds FROM pg_stats WHERE schemaname = '{t}'",
                 "SELECT stavalues1 FROM pg_statistic"), by="owner"),
    attack("cascade into another company", "~BEGIN", "~{enter_b}",
           "~?UPDATE {t}.notes SET visit_id = 2 WHERE id = 60", "~COMMIT",
           *in_a("DELETE FROM {t}.visits WHERE id = 2")),
    attack("EXPLAIN of estimates", *in_a("EXPLAIN SELECT * FROM {t}.visits WHERE label = 'BETA 1'"),
           not_gateway=True),
    oracle("EXPLAIN ANALYZE", *in_a(
        "SET LOCAL enable_seqscan = off", "SET LOCAL enable_bitmapscan = off",
        "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT label FROM {t}.visits "
        "WHERE phone = '{probe}'"),
        hit="p060", miss="q060", not_gateway=True),
    oracle("debug_print_plan", *in_a(
        "SET LOCAL client_min_messages = log", "SET LOCAL debug_print_plan = on",
        "SELECT 1 FROM {t}.visits WHERE kind = '{probe}'"), hit="kb", miss="kx",
        not_gateway=True),
    oracle("foreign key", *in_a("INSERT INTO {t}.notes (company_id, id, visit_id, note) "
                                "VALUES ({a}, 901, {probe}, 'x')"), hit="00060", miss="90060"),
    oracle("unique constraint", *in_a("INSERT INTO {t}.visits (company_id, id, phone, label) "
                                      "VALUES ({a}, 950, '{probe}', 'x')"), hit="p060", miss="q060"),
    oracle("primary key", *in_a("INSERT INTO {t}.visits (company_id, id, phone, label) "
                                "VALUES ({a}, {probe}, 'p950', 'x')"), hit="00060", miss="90060"),
    oracle("ON CONFLICT DO NOTHING", *in_a(
        "INSERT INTO {t}.visits (company_id, id, phone, label) VALUES ({a}, {probe}, 'p951', 'x') "
        "ON CONFLICT DO NOTHING RETURNING amount"), hit="00060", miss="90060"),
    oracle("UPDATE of a unique column", *in_a(
        "UPDATE {t}.visits SET phone = '{probe}' WHERE id = 1"), hit="p060", miss="q060"),
    oracle("division by zero", *in_a(
        "SELECT 1 FROM {t}.tenant_view WHERE 1 / (CASE WHEN phone = '{probe}' THEN 0 ELSE 1 END) "
        "= 1", "SELECT 1 FROM {t}.visits WHERE 1 / (CASE WHEN phone = '{probe}' THEN 0 ELSE 1 END) "
        "= 1"), hit="p060", miss="q060"),
    oracle("advisory lock", "%BEGIN", "%SELECT pg_advisory_xact_lock(60)",
           "SELECT pg_try_advisory_lock({probe})", "SELECT objid FROM pg_locks "
           "WHERE locktype = 'advisory' AND objid = {probe}", "%ROLLBACK", hit="00060",
           miss="90060", not_gateway=True),
    attack("size of a table", "SELECT 'BETA and others have ' || pg_relation_size('{t}.visits')",
           not_gateway=True),
    attack("currtid2", "SELECT 'BETA: ' || currtid2('{t}.visits', '(0,60)')", not_gateway=True),
    attack("LOCK TABLE", *in_a("LOCK TABLE {t}.visits IN SHARE MODE",
                               "SELECT 'BETA is held up' FROM pg_locks WHERE pid = pg_backend_pid() "
                               "AND relation = '{t}.visits'::regclass AND mode = 'ShareLock'"),
           not_gateway=True),
    attack("SET ROLE and SECURITY DEFINER", '!GRANT friend TO "{role}"', "SET ROLE friend",
           "CREATE FUNCTION playground.peek() RETURNS SETOF text LANGUAGE plpgsql "
           "SECURITY DEFINER AS $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN SELECT 1'; END $$", "RESET ROLE",
           "SELECT playground.peek() || ' (estimated from BETA)'", not_gateway=True,
           cleanup='DROP FUNCTION IF EXISTS playground.peek(); REVOKE friend FROM "{role}"'),
]

# Made by an accomplice: where to copy rows to, and what does so
COPIED = ("!CREATE TABLE playground.copied (label text)",
          "!GRANT ALL ON playground.copied TO PUBLIC",
          "!CREATE OR REPLACE FUNCTION playground.copy() RETURNS trigger LANGUAGE plpgsql AS $$ "
          "BEGIN INSERT INTO playground.copied VALUES (to_jsonb(NEW)::text); RETURN NEW; END $$")

# What the owner of the tables can do; ours are run by a member of tenantcall_owner.
AS_OWNER = [
    attack("disable row security", "ALTER TABLE {t}.visits DISABLE ROW LEVEL SECURITY", READ),
    attack("no force", "ALTER TABLE {t}.visits NO FORCE ROW LEVEL SECURITY", READ),
    attack("policy USING (true)", "CREATE POLICY mine ON {t}.visits USING (true)", READ),
    attack("drop policies", "DROP POLICY IF EXISTS tenantcall_tenant_restrictive ON {t}.visits",
           "ALTER POLICY tenant ON {t}.visits USING (true)", READ),
    attack("trigger that copies", *COPIED,
           "CREATE TRIGGER copies BEFORE UPDATE ON {t}.visits FOR EACH ROW "
           "EXECUTE FUNCTION playground.copy()", "~BEGIN", "~{enter_b}",
           "~UPDATE {t}.visits SET label = label WHERE id = 60", "~COMMIT",
           "SELECT label FROM playground.copied"),
    attack("rule that copies", *COPIED,
           "CREATE RULE copies AS ON UPDATE TO {t}.visits DO ALSO INSERT INTO playground.copied "
           "VALUES (NEW.label)", "~BEGIN", "~{enter_b}",
           "~UPDATE {t}.visits SET label = label WHERE id = 60", "~COMMIT",
           "SELECT label FROM playground.copied"),
    attack("disable triggers and move rows", "ALTER TABLE {t}.visits DISABLE TRIGGER ALL",
           *in_a("UPDATE {t}.visits SET company_id = {b} WHERE id = 3")),
    attack("ALTER COLUMN TYPE USING", "DROP VIEW {t}.all_of_it, {t}.tenant_view", "ALTER TABLE {t}.visits ALTER COLUMN amount TYPE int "
           "USING playground.spill(label)"),
    attack("index on an expression", "CREATE INDEX ON {t}.visits (playground.spill(label))"),
    attack("partial index", "CREATE INDEX ON {t}.visits (id) WHERE playground.spill(label) > 0"),
    attack("CHECK constraint",
           "ALTER TABLE {t}.visits ADD CHECK (playground.spill(label) IS NOT NULL)"),
    attack("generated column", "ALTER TABLE {t}.visits ADD COLUMN g int "
           "GENERATED ALWAYS AS (playground.spill(label)) STORED"),
    attack("extended statistics", "CREATE STATISTICS {t}.s ON (playground.spill(label)), id "
           "FROM {t}.visits", "ANALYZE {t}.visits"),
    attack("child table", "CREATE TABLE playground.child () INHERITS ({t}.visits)",
           "ALTER TABLE {t}.visits DISABLE ROW LEVEL SECURITY", READ),
    attack("DDL within a function", "DO $$ BEGIN EXECUTE 'ALTER TABLE {t}.visits DISABLE ROW "
           "LEVEL SECURITY'; END $$", READ),
    attack("DDL as the owner", 'SET ROLE "{definer}"',
           "ALTER TABLE {t}.visits DISABLE ROW LEVEL SECURITY", READ),
    attack("drop the table", "DROP TABLE {t}.notes CASCADE"),
    attack("REASSIGN OWNED", 'REASSIGN OWNED BY "{definer}" TO "{role}"',
           "ALTER TABLE {t}.visits DISABLE ROW LEVEL SECURITY", READ),
    attack("session_replication_role", "SET session_replication_role = replica",
           "ALTER TABLE {t}.visits DISABLE TRIGGER USER",
           *in_a("UPDATE {t}.visits SET company_id = {b} WHERE id = 4")),
]

# What has no counterpart in a naive schema.
OURS_ONLY = [
    attack("UPDATE pg_settings",
           *in_a("UPDATE pg_settings SET setting = '{forged}' WHERE name = '{setting}'", READ)),
    attack("token left by a plain SET", "~BEGIN", "~SET tenantcall.token = '{token_b}'", "~" + READ,
           "~COMMIT", READ, "BEGIN", "{force_parallel}", "SELECT string_agg(label, ',') "
           "FROM {t}.visits", "SHOW tenantcall.token", "SELECT current_setting('tenantcall.token')",
           "COMMIT"),
    attack("second token", *in_a("SET LOCAL tenantcall.token = '{token_b}'", READ, "RESET ALL",
                                 READ, "SET LOCAL tenantcall.token = '{token_b}'", READ)),
    attack("token of another company in a savepoint", "BEGIN", "SAVEPOINT s",
           "SET LOCAL tenantcall.token = '{token_a}'", "ROLLBACK TO s",
           "SET LOCAL tenantcall.token = '{token_b}'", READ, "COMMIT"),
    attack("claims instead of a token", "BEGIN",
           "SET LOCAL tenantcall.token = '{forged}'", "SET LOCAL tenantcall.token = '1:{forged}'",
           READ, "COMMIT"),
    attack("token in a client's start options", "@-c tenantcall.token={token_b}", READ),
]

OURS_AS_OWNER = [
    attack("trigger that runs while the library works for others", *COPIED,
           "CREATE TRIGGER copies BEFORE INSERT ON telephony.tenant_decisions FOR EACH ROW "
           "EXECUTE FUNCTION playground.copy()", "CREATE TRIGGER copies BEFORE INSERT ON "
           "telephony.services FOR EACH ROW EXECUTE FUNCTION playground.copy()",
           "~BEGIN", "~{enter_b}", "~INSERT INTO telephony.services (name) VALUES ('BETA service')",
           "~COMMIT", "SELECT label FROM playground.copied",
           cleanup="DROP TRIGGER IF EXISTS copies ON telephony.services; "
           "DROP TRIGGER IF EXISTS copies ON telephony.tenant_decisions"),
    attack("partition of the library's own tables", "CREATE TABLE playground.part PARTITION OF "
           "telephony.call_events FOR VALUES FROM ('2099-01-01') TO ('2100-01-01')",
           "SELECT 'BETA events would be in ' || 'playground.part'::regclass",
           cleanup="DROP TABLE IF EXISTS playground.part"),
]

SHARED = FORGING + LEFTOVERS + AROUND
