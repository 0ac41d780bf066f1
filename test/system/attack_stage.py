"""The stage of test_attacks.py: two schemas of one shape, roles, a pooler; and how an attack runs."""
import psycopg
from psycopg.pq import TransactionStatus

import pgserver
from pooler import Pooler

DATABASE = "attacks"
MARK = "BETA"
UNGUARDED = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "PREPARE TRANSACTION")

# {t}: schema; {current}: how the schema knows the company; {keys}: what leads its keys
SCHEMA = """
CREATE SCHEMA {t};
GRANT USAGE ON SCHEMA {t} TO PUBLIC;
CREATE TABLE {t}.visits (company_id bigint, id int, phone text NOT NULL, label text, kind text,
    amount int DEFAULT 0, PRIMARY KEY ({keys} id), UNIQUE ({keys} phone));
CREATE TABLE {t}.notes (company_id bigint, id int PRIMARY KEY, visit_id int, note text,
    FOREIGN KEY ({keys} visit_id) REFERENCES {t}.visits ({keys} id) ON DELETE CASCADE);
CREATE TABLE {t}.parted (company_id bigint, id int, label text) PARTITION BY RANGE (id);
CREATE TABLE {t}.parted_1 PARTITION OF {t}.parted FOR VALUES FROM (0) TO (1000);
CREATE TABLE {t}.admins (name name);
CREATE VIEW {t}.all_of_it AS SELECT * FROM {t}.visits;
CREATE VIEW {t}.tenant_view AS SELECT * FROM {t}.visits WHERE company_id = {current};
CREATE FUNCTION {t}.report() RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    RETURN QUERY SELECT label FROM {t}.visits WHERE company_id = {current} AND visible(label); END $$;
CREATE FUNCTION {t}.everything() RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    IF EXISTS (SELECT FROM admins WHERE name = session_user) THEN
        RETURN QUERY SELECT label FROM {t}.visits;
    END IF; END $$;
GRANT ALL ON {t}.visits, {t}.notes, {t}.parted, {t}.parted_1, {t}.all_of_it, {t}.tenant_view TO PUBLIC;
ALTER SCHEMA {t} OWNER TO "{definer}";
DO $$ DECLARE one regclass; BEGIN
    FOR one IN SELECT oid FROM pg_class WHERE relnamespace = '{t}'::regnamespace AND relkind IN ('r', 'p', 'v') LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO "{definer}"', one);
    END LOOP; END $$;
ALTER FUNCTION {t}.report() OWNER TO "{definer}";
ALTER FUNCTION {t}.everything() OWNER TO "{definer}";
"""
NAIVE = """
DO $$ DECLARE one regclass; BEGIN
    FOR one IN SELECT c FROM unnest('{naive.visits,naive.notes,naive.parted}'::regclass[]) AS c LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', one);
        EXECUTE format('CREATE POLICY tenant ON %s USING (company_id = '
            'nullif(current_setting(''app.company_id'', true), '''')::bigint) WITH CHECK (true)', one);
    END LOOP; END $$;
"""
OURS = "SELECT tenantcall.scope_table(t) FROM unnest('{ours.visits,ours.notes,ours.parted}'::regclass[]) AS t;"
ROWS = """
TRUNCATE {t}.visits, {t}.notes, {t}.parted;
INSERT INTO {t}.visits SELECT CASE WHEN g <= 50 THEN {a} ELSE {b} END, g, format('p%s', lpad(g::text, 3, '0')),
    CASE WHEN g <= 50 THEN 'ALPHA ' ELSE 'BETA ' END || g, CASE WHEN g <= 50 THEN 'ka' ELSE 'kb' END FROM generate_series(1, 100) AS g;
INSERT INTO {t}.notes SELECT company_id, id, id, label FROM {t}.visits;
INSERT INTO {t}.parted SELECT company_id, id, label FROM {t}.visits;
ANALYZE {t}.visits;
"""
# what B has, and how the tables are made
PRINT_B = """
SELECT md5(concat((SELECT string_agg(v::text, '|' ORDER BY id) FROM {t}.visits v WHERE company_id = {b}),
                  (SELECT string_agg(n::text, '|' ORDER BY id) FROM {t}.notes n WHERE company_id = {b}),
                  (SELECT string_agg(p::text, '|' ORDER BY id) FROM {t}.parted p WHERE company_id = {b})))
"""
PRINT_A = PRINT_B.replace("{b}", "{a}")
PRINT_DDL = """
SELECT md5(string_agg(x::text, '|' ORDER BY x::text)) FROM (
    SELECT c.relname, c.relowner, c.relrowsecurity, c.relforcerowsecurity, c.relhasrules, c.relnatts,
           (SELECT count(*) FROM pg_trigger g WHERE g.tgrelid = c.oid),
           (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid),
           (SELECT string_agg(pg_get_expr(p.polqual, c.oid), '|') FROM pg_policy p WHERE p.polrelid = c.oid)
    FROM pg_class c WHERE c.relnamespace = '{t}'::regnamespace) AS x
"""
ROLES = """
CREATE ROLE atk_app LOGIN; CREATE ROLE atk_gateway LOGIN; CREATE ROLE atk_member LOGIN;
CREATE ROLE naive_app LOGIN; CREATE ROLE naive_owner LOGIN; CREATE ROLE friend;
"""
COMMON = """
SELECT tenantcall.grant_app('atk_app'), tenantcall.grant_app('atk_member'), tenantcall.grant_gateway('atk_gateway');
GRANT tenantcall_owner TO atk_member;
GRANT CREATE ON DATABASE attacks TO PUBLIC;
GRANT SET ON PARAMETER app.company_id, tenantcall.company_id TO PUBLIC;
CREATE SCHEMA playground; GRANT ALL ON SCHEMA playground TO PUBLIC;
CREATE FUNCTION playground.spill(text) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
    $$ BEGIN RAISE NOTICE 'spilt %', $1; RETURN 1; END $$;
CREATE FUNCTION public.visible(text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
"""
# something in as many tables as possible
FURNISH = """
SELECT tenantcall.enter({company});
INSERT INTO telephony.branches (name) VALUES ('{label} branch');
INSERT INTO telephony.services (name) VALUES ('{label} service');
INSERT INTO telephony.customers (name, email) VALUES ('{label} customer', '{label}@example.org');
INSERT INTO telephony.branch_services (branch_id, service_id) SELECT branch_id, service_id FROM telephony.branches, telephony.services;
INSERT INTO telephony.opening_hours (branch_id, weekday, opens, closes) SELECT branch_id, 1, '08:00', '17:00' FROM telephony.branches;
SELECT tenantcall.allow('function_call');
"""
PARALLEL = {"parallel_setup_cost": 0, "parallel_tuple_cost": 0, "min_parallel_table_scan_size": 0,
            "min_parallel_index_scan_size": 0, "max_parallel_workers_per_gather": 2}


class Side:
    """One of the schemas, with the words of the attacks filled in for a role."""

    def __init__(self, stage, schema, role, kind):
        naive = schema == "naive"
        tokens = stage.tokens
        forged = str(stage.b) if naive else f"{stage.b}:0:{'0' * 32}:{'0' * 32}"
        enter = {"naive": "SET app.company_id = '{id}'", "gateway": "SELECT tenantcall.enter({id})",
                 "app": "SELECT tenantcall.enter_token('{token}')"}
        enter = enter["naive" if naive else kind]
        self.role = role
        self.schema = schema
        self.words = {
            "t": schema, "role": role, "a": stage.a, "b": stage.b, "database": DATABASE,
            "setting": "app.company_id" if naive else "tenantcall.company_id", "forged": forged,
            "definer": "naive_owner" if naive else "tenantcall_owner",
            "enter_a": enter.format(id=stage.a, token=tokens[stage.a]),
            "enter_b": enter.format(id=stage.b, token=tokens[stage.b]),
            "switch": enter.format(id=stage.b, token=tokens[stage.b]),
            "token_a": tokens[stage.a], "token_b": tokens[stage.b],
            "force_parallel": f"SET LOCAL {stage.force_setting} = on"}


class Session:
    """A connection that goes on after errors and keeps what came back."""

    def __init__(self, connect):
        self.heard = []
        self.conn = connect()
        self.conn.autocommit = True
        self.conn.prepare_threshold = None
        self.conn.add_notice_handler(lambda d: self.heard.append(f"{d.message_primary} {d.message_detail}"))
        self.conn.add_notify_handler(lambda n: self.heard.append(n.payload))

    def _say(self, sql):
        """Runs one statement and notes what comes back."""
        cur = self.conn.cursor()
        if sql.lstrip().startswith("COPY") and "STDOUT" in sql:
            with cur.copy(sql) as copy:
                self.heard += [bytes(block).decode() for block in copy]
            return
        cur.execute(sql)
        if cur.description is not None:
            self.heard += [str(row) for row in cur.fetchall()]

    def run(self, sql):
        """Runs a statement, within a transaction under a savepoint; returns the error or None."""
        guard = self.conn.info.transaction_status == TransactionStatus.INTRANS and \
            not sql.startswith(UNGUARDED)
        try:
            if guard:
                self.conn.execute("SAVEPOINT step")
            self._say(sql)
            if guard and self.conn.info.transaction_status == TransactionStatus.INTRANS:
                self.conn.execute("RELEASE step")
        except psycopg.Error as error:
            diag = error.diag
            self.heard.append(" / ".join(str(x) for x in (diag.message_primary, diag.message_detail,
                                                          diag.message_hint, diag.context) if x)
                              or str(error))
            if self.conn.info.transaction_status == TransactionStatus.INERROR:
                self.conn.execute("ROLLBACK TO step" if guard else "ROLLBACK")
            return error
        return None

    def close(self):
        """Ends it; behind a pooler the server's session goes on and is made clean."""
        try:
            self.conn.execute("ROLLBACK")
            self.conn.execute("DISCARD ALL")
        except psycopg.Error:
            pass
        self.conn.close()


class Stage:
    """The server with both schemas."""

    def __init__(self, workspace, install):
        self.cluster = pgserver.Cluster(workspace, install, "attacks", {"max_connections": 100}).start()
        self.cluster.create_template()
        self.cluster.create_database(DATABASE)
        self.su = self.cluster.connect(dbname=DATABASE, autocommit=True)
        version = self.su.info.server_version
        self.force_setting = "debug_parallel_query" if version >= 160000 else "force_parallel_mode"
        self.su.execute(ROLES)
        self.su.execute(COMMON)
        self.a, self.b = (self.one(f"SELECT tenantcall.create_company('{name}', 'DE', 'UTC')")
                          for name in ("ALPHA company", "BETA company"))
        self.tokens = {company: self.one(f"SELECT tenantcall.sign_token({company}, NULL, '1 day')")
                       for company in (self.a, self.b)}
        for company, label in ((self.a, "ALPHA"), (self.b, "BETA")):
            with self.cluster.connect(role="atk_gateway", dbname=DATABASE) as conn:
                conn.execute(FURNISH.format(company=company, label=label))
        self.baseline = {}
        for schema in ("naive", "ours"):
            self.make(schema)
        self.standby = None
        self.pooler = None

    def one(self, sql):
        """A value, asked for by the superuser."""
        return self.su.execute(sql).fetchone()[0]

    def make(self, schema):
        """Makes a schema anew."""
        naive = schema == "naive"
        words = {"t": schema, "a": self.a, "b": self.b, "keys": "" if naive else "company_id,",
                 "definer": "naive_owner" if naive else "tenantcall_owner",
                 "current": "nullif(current_setting('app.company_id', true), '')::bigint" if naive
                 else "tenantcall.current_company_id()"}
        self.su.execute("SET client_min_messages = warning; RESET search_path")
        self.su.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        self.su.execute(SCHEMA.format(**words))
        self.su.execute(NAIVE if naive else OURS)
        self.su.execute(ROWS.format(**words))
        self.baseline[schema] = self.prints(schema)

    def prints(self, schema):
        """What B has, what A has, and how the tables are made."""
        return [self.one(sql.format(t=schema, a=self.a, b=self.b))
                for sql in (PRINT_B, PRINT_A, PRINT_DDL)]

    def restore(self, schema):
        """Puts back what an attack has changed; was any of it B's?"""
        try:
            now = self.prints(schema)
        except psycopg.Error:
            now = [None, None, None]
        before = self.baseline[schema]
        if now != before:
            self.make(schema)
        return now[0] != before[0]

    def pool(self):
        """PgBouncer in transaction mode in front of the server."""
        if self.pooler is None:
            self.pooler = Pooler(self.cluster, DATABASE, ["atk_app", "atk_gateway"])
        return self.pooler

    def close(self):
        """Stops everything."""
        if self.pooler is not None:
            self.pooler.stop()
        self.su.close()
        for server in (self.standby, self.cluster):
            if server is not None:
                server.stop("immediate")


class Play:
    """One attack being run."""

    def __init__(self, stage, side, connect):
        self.stage, self.side, self.connect = stage, side, connect
        self.main = self.other = None
        self.sessions = []

    def open(self, options=""):
        """A session."""
        session = Session(lambda: self.connect(self.side.role, options))
        self.sessions.append(session)
        return session

    def step(self, step, words):
        """One step; returns what the attacker heard of a connection that failed."""
        kind = step[0] if step[0] in "~!%@" else ""
        sql = step[len(kind):].lstrip("?").format(**words)
        if kind == "@":
            self.main.conn.close()
            try:
                self.main = self.open(sql)
            except psycopg.Error as error:
                self.main = self.open()
                self.main.heard.append(str(error))
        elif kind == "!":
            try:
                self.stage.su.execute(sql)
            except psycopg.Error:
                pass
        elif kind == "%":
            self.other = self.other or self.open()
            self.other.run(sql)
        elif kind == "~":
            heard = len(self.main.heard)
            error = self.main.run(sql)
            del self.main.heard[heard:]
            return error if step[1] != "?" else None
        else:
            error = self.main.run(sql)
            return error if step == "{enter_a}" else None
        return None

    def run(self, attack, probe=None):
        """The whole attack; returns what was heard, and errors of steps that must not fail."""
        words = {**self.side.words, "probe": probe or ""}
        self.main = self.open()
        failed = []
        first = self.main.heard
        for step in attack.steps:
            error = self.step(step, words)
            if error is not None:
                failed.append(f"{step}: {error}")
        heard = "\n".join(first + (self.main.heard if self.main.heard is not first else []))
        for session in self.sessions:
            session.close()
        self.sessions = []
        self.other = None
        for sql in filter(None, attack.cleanup.format(**words).split(";")):
            try:
                self.stage.su.execute(sql)
            except psycopg.Error:
                pass
        return heard, failed


def normal(heard, probe):
    """What an oracle said, without the question."""
    heard = heard.replace(probe, "?")
    return heard.replace(str(int(probe)), "?") if probe.isdigit() else heard


def perform(stage, side, attack, connect):
    """Runs an attack; returns how it succeeded (empty: not at all), and steps that failed."""
    play = Play(stage, side, connect)
    if attack.probes:
        answers, failed = [], []
        for probe in attack.probes:
            heard, errors = play.run(attack, probe)
            failed += errors
            answers.append(normal(heard, probe))
            changed = stage.restore(side.schema)
        how = f"told apart: {answers}" if answers[0] != answers[1] else ""
        return how or ("B's rows changed" if changed else ""), failed
    heard, failed = play.run(attack)
    stage.su.execute("DROP TABLE IF EXISTS playground.copied, playground.child CASCADE")
    changed = stage.restore(side.schema)
    if MARK in heard:
        return heard[max(0, heard.index(MARK) - 60):][:160], failed
    return "B's rows changed" if changed else "", failed
