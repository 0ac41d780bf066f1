"""Versions: update scripts make what a fresh installation is, and library and SQL objects that are of
different versions refuse to work together.

Released versions are kept as sql/released/tenantcall--VERSION.sql (make release), and lead to the
present one by sql/update/tenantcall--OLD--NEW.sql: each is tried here.  That the comparison notices
what a script forgets is tried with a made-up version.
"""
import re
import shutil

import psycopg
import pytest

import pgserver
from catalog_facts import difference, facts
from full_house import CHECKED

CONTROL = (pgserver.REPO / "tenantcall.control").read_text()
VERSION = re.search(r"default_version = '([^']+)'", CONTROL).group(1)
NEXT = VERSION[:-1] + ("0" if VERSION[-1] == "9" else chr(ord(VERSION[-1]) + 1))  # as long
SCRIPT = (pgserver.REPO / "sql" / f"tenantcall--{VERSION}.sql")
RELEASED = sorted(path.stem.split("--")[1] for path in (pgserver.REPO / "sql" / "released").glob("tenantcall--*.sql"))
OLD = "0.0.1"


def statement(script, begin):
    """A statement of the script, with what stands below it up to the next empty line."""
    start = script.index(begin)
    return script[start:script.index("\n\n", start)] + "\n"


class Tree(pgserver.Install):
    """A copy of an installation, whose extension may be changed."""

    def __init__(self, install, root):
        shutil.copytree(install.root, root, symlinks=True)
        super().__init__(root, str(root) + str(install.bindir)[len(str(install.root)):])
        self.control, = root.glob("usr/share/postgresql/*/extension/tenantcall.control")
        self.lib = next(iter(root.glob("usr/lib/postgresql/*/lib/tenantcall.so"))).parent

    def script(self, name, text):
        """Adds a script of the extension."""
        (self.control.parent / f"tenantcall--{name}.sql").write_text(text)

    def become(self, version, *libraries):
        """Makes libraries ones of another version of the same length, which is all that they say."""
        for name in libraries:
            path = self.lib / name
            data = path.read_bytes()
            changed = data.replace(VERSION.encode() + b"\0", version.encode() + b"\0")
            assert changed != data
            path.unlink()
            path.write_bytes(changed)
            path.chmod(0o755)
        return self


@pytest.fixture(scope="module")
def tree(workspace, install):
    """The present version, with the released ones and a made-up older one beside it."""
    tree = Tree(install, workspace.dir / "update_tree")
    for version in RELEASED:
        shutil.copy(pgserver.REPO / "sql" / "released" / f"tenantcall--{version}.sql", tree.control.parent)
    script = SCRIPT.read_text()
    tree.script(OLD, script + """
        DROP FUNCTION tenantcall.unmapped_reasons();
        DROP VIEW tenantcall.quarantined;
        ALTER TABLE tenantcall.quarantine DROP COLUMN deliveries;
        ALTER FUNCTION tenantcall.enter(bigint, bigint) PARALLEL RESTRICTED;
        DELETE FROM tenantcall.disconnection_reason_defaults WHERE reason = (SELECT min(reason)
            FROM tenantcall.disconnection_reason_defaults);
        COMMENT ON FUNCTION tenantcall.version() IS NULL;
        ALTER EXTENSION tenantcall DROP TABLE tenantcall.outbox_pause; -- also off the list of what is dumped
        DROP TABLE tenantcall.outbox_pause;
    """)
    first = re.search(r"INSERT INTO tenantcall.disconnection_reason_defaults.*?;", script, re.S).group(0)
    enter = re.search(r"PARALLEL (\w+)", statement(script, "CREATE FUNCTION tenantcall.enter(")).group(1)
    tree.script(f"{OLD}--{VERSION}", "\n".join([
        statement(script, "CREATE FUNCTION tenantcall.unmapped_reasons"),
        "ALTER TABLE tenantcall.quarantine ADD COLUMN deliveries integer NOT NULL DEFAULT 1;",
        statement(script, "CREATE VIEW tenantcall.quarantined"),
        f"ALTER FUNCTION tenantcall.enter(bigint, bigint) PARALLEL {enter};",
        first.rstrip(";") + " ON CONFLICT DO NOTHING;",
        re.search(r"COMMENT ON FUNCTION tenantcall.version\(\) .*?;", script).group(0),
        statement(script, "CREATE TABLE tenantcall.outbox_pause"),
    ]))
    return tree


@pytest.fixture(scope="module")
def server(workspace, tree):
    """A server with a fresh installation in database "fresh"."""
    server = pgserver.Cluster(workspace, tree, "update").start()
    server.sql("CREATE DATABASE fresh")
    server.sql("CREATE EXTENSION tenantcall", dbname="fresh")
    yield server
    server.stop("immediate")


@pytest.fixture(scope="module")
def fresh(server):
    """The facts of a fresh installation."""
    with server.connect(dbname="fresh") as conn:
        return facts(conn)


@pytest.fixture(scope="module")
def updated(server):
    """A database that was updated from the made-up version."""
    server.sql("CREATE DATABASE updated")
    server.sql(f"CREATE EXTENSION tenantcall VERSION '{OLD}'", dbname="updated")
    server.sql("ALTER EXTENSION tenantcall UPDATE", dbname="updated")
    return "updated"


def test_every_released_version_has_a_way_here(server, fresh):
    """Base and updates make what a fresh installation is, of every version that was released."""
    for version in RELEASED:
        if version == VERSION:
            continue
        server.sql("CREATE DATABASE released TEMPLATE template0")
        server.sql(f"CREATE EXTENSION tenantcall VERSION '{version}'; ALTER EXTENSION tenantcall UPDATE",
                   dbname="released")
        with server.connect(dbname="released") as conn:
            assert difference(fresh, facts(conn)) == set(), version
        server.drop_database("released")


def test_update(server, fresh, updated):
    """The same with the made-up version; a fresh installation has much to compare."""
    assert len(fresh) > 1500
    with server.connect(dbname=updated) as conn:
        assert difference(fresh, facts(conn)) == set()


FORGOTTEN = [
    ("function", "CREATE OR REPLACE FUNCTION tenantcall.audit_role_name(role oid) RETURNS text LANGUAGE sql STABLE STRICT "
                 "PARALLEL SAFE SET search_path = pg_catalog, tenantcall, pg_temp AS 'SELECT NULL::text'"),
    ("function", "ALTER FUNCTION tenantcall.current_company_id() VOLATILE"),
    ("function", "ALTER FUNCTION tenantcall.current_company_id() NOT LEAKPROOF"),
    ("function", "ALTER FUNCTION tenantcall.create_tables(name) RESET search_path"),
    ("function", "GRANT EXECUTE ON FUNCTION tenantcall.ingest_calcom(text, text, timestamptz) TO PUBLIC"),
    ("member", "ALTER EXTENSION tenantcall DROP FUNCTION tenantcall.version()"),
    ("member", "ALTER EXTENSION tenantcall DROP FUNCTION tenantcall.version(); DROP FUNCTION tenantcall.version()"),
    ("comment", "COMMENT ON VIEW tenantcall.lifecycles IS 'x'"),
    ("comment", "COMMENT ON COLUMN tenantcall.rate_policies.removed IS NULL"),
    ("relation", "CREATE OR REPLACE VIEW tenantcall.role_functions AS SELECT NULL::text AS kind, NULL::text AS function"),
    ("relation", "GRANT SELECT ON tenantcall.secrets TO PUBLIC"),
    ("column", "ALTER TABLE tenantcall.quarantine ALTER reason DROP NOT NULL"),
    ("column", "ALTER TABLE tenantcall.outbox_due ALTER attempt SET DEFAULT 1"),
    ("column", "ALTER TABLE tenantcall.quarantine ADD more text"),
    ("constraint", "ALTER TABLE tenantcall.quarantine DROP CONSTRAINT quarantine_outcome_check"),
    ("index", "DROP INDEX tenantcall.quarantine_number_idx"),
    ("trigger", "ALTER TABLE tenantcall.secrets ENABLE TRIGGER tenantcall_invalidate"),
    ("sequence", "ALTER SEQUENCE tenantcall.rate_policy_id INCREMENT 2"),
    ("type", "ALTER TYPE tenantcall.phone OWNER TO update_other; REVOKE USAGE ON TYPE tenantcall.phone FROM PUBLIC"),
    ("operator", "ALTER OPERATOR tenantcall.= (tenantcall.phone, tenantcall.phone) SET (JOIN = NONE)"),
    ("of an operator family", "ALTER OPERATOR FAMILY tenantcall.phone_ops USING btree DROP FUNCTION 2 (tenantcall.phone)"),
    ("cast", "UPDATE pg_cast SET castcontext = 'i' WHERE castsource = 'tenantcall.phone'::regtype"),
    ("event trigger", "ALTER EVENT TRIGGER tenantcall_scope_sql_drop ENABLE"),
    ("schema", "REVOKE USAGE ON SCHEMA tenantcall FROM PUBLIC"),
    ("dumped", "UPDATE pg_extension SET extconfig = extconfig[2:], extcondition = extcondition[2:] WHERE extname = 'tenantcall'"),
    ("version", "UPDATE pg_extension SET extversion = '0' WHERE extname = 'tenantcall'"),
    ("row", "DELETE FROM tenantcall.retention_defaults WHERE relation = (SELECT max(relation) FROM tenantcall.retention_defaults)"),
    ("row", "UPDATE tenantcall.slot_strategy_defaults SET position = 1 + position"),
]


@pytest.mark.parametrize("kind, forgotten", FORGOTTEN, ids=[f"{kind}-{n}" for n, (kind, _) in enumerate(FORGOTTEN)])
def test_what_is_forgotten_is_noticed(server, fresh, kind, forgotten):
    """Each kind of thing that a script can forget, planted in a fresh installation."""
    server.sql("DO $$ BEGIN CREATE ROLE update_other; EXCEPTION WHEN duplicate_object THEN END $$")
    with server.connect(dbname="fresh") as conn:
        conn.execute(forgotten)
        assert kind in {found for found, _ in difference(fresh, facts(conn))}


# --- library and SQL objects of different versions ----------------------------------------------

ROOM = """
CREATE TABLE notes (company_id bigint, body text);
SELECT tenantcall.scope_table('notes');
CREATE ROLE update_app LOGIN; CREATE ROLE update_gateway LOGIN;
SELECT tenantcall.grant_app('update_app'), tenantcall.grant_gateway('update_gateway'),
       tenantcall.create_company('A', 'DE', 'UTC');
GRANT ALL ON notes TO update_app, update_gateway;
BEGIN; SELECT tenantcall.enter(1); INSERT INTO notes VALUES (1, 'kept'); COMMIT;
"""

REFUSED = ["SELECT tenantcall.enter(1)", "SELECT tenantcall.take_for(1, 'function_call')",
           "SELECT * FROM tenantcall.ingest_retell('{}', '')", "SELECT tenantcall.resolve_phone('+4930111111')",
           "SELECT tenantcall.sign_token(1, NULL, '1 minute')"]


def refusal(server, role, statement, setup=""):
    """SQLSTATE and message of a statement that must fail, in a transaction."""
    with server.connect(role=role, dbname="room") as conn:
        with pytest.raises(psycopg.Error) as caught:
            if setup:
                conn.execute(setup)
            conn.execute(statement)
    return caught.value.sqlstate, str(caught.value)


def closed(server, library, sql, token):
    """All that needs both to fit is refused by one clear message; what does not, shows nothing."""
    assert server.sql("SELECT tenantcall.version()", dbname="room") == library
    for statement in REFUSED:
        sqlstate, message = refusal(server, "update_gateway", statement)
        assert sqlstate == "55000" and f"library {library} does not fit the SQL objects of version {sql}" in message, statement
    assert refusal(server, "update_app", f"SELECT tenantcall.enter_token('{token}')")[0] == "55000"
    with server.connect(role="update_app", dbname="room") as conn:
        assert conn.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    assert refusal(server, "update_app", "SELECT count(*) FROM notes WHERE 1 / count(*) OVER () > 0",
                   f"SET LOCAL tenantcall.token = '{token}'")[0] != "00000"
    assert refusal(server, "update_app", "INSERT INTO notes (body) VALUES ('x')")[0] != "00000"
    assert refusal(server, "update_app", "DELETE FROM notes")[0] != "00000"
    with server.connect(dbname="room") as conn:
        assert [row for row in conn.execute(CHECKED).fetchall() if row[1] == "version_mismatch"]
    assert "kept" in server.client_program("pg_dump", "room")


def another(server, install):
    """Restarts the server on another installation."""
    server.stop()
    server.install = install
    server.start()


@pytest.fixture(scope="module")
def room(server, tree, workspace, install):
    """A database that is worked in, and the next version of the extension."""
    server.create_template()
    server.create_database("room")
    server.sql(ROOM, dbname="room")
    after = Tree(tree, workspace.dir / "update_next").become(NEXT, "tenantcall.so", "tenantcall_phone.so", "tenantcall_http.so")
    after.control.write_text(CONTROL.replace(f"'{VERSION}'", f"'{NEXT}'"))
    after.script(f"{VERSION}--{NEXT}", "INSERT INTO tenantcall.table_upgrades VALUES "
                 f"('{OLD}', '{VERSION}', NULL), ('{VERSION}', '{NEXT}', 'upgrade_to_next');\n"
                 "CREATE FUNCTION tenantcall.upgrade_to_next(schema name) RETURNS void LANGUAGE plpgsql AS "
                 "$$ BEGIN EXECUTE format('ALTER TABLE %I.customers ADD COLUMN grown int', schema); END $$;")
    return after


@pytest.mark.limit(180)
def test_versions_that_do_not_fit(server, tree, room):
    """A newer library, until ALTER EXTENSION UPDATE; then an older one, until the newer is back."""
    token = server.sql("SELECT tenantcall.sign_token(1, NULL, '1 hour')", dbname="room", role="update_gateway")
    another(server, room)
    closed(server, NEXT, VERSION, token)
    server.sql("ALTER EXTENSION tenantcall UPDATE", dbname="room")
    with server.connect(role="update_app", dbname="room") as conn:
        conn.execute("SELECT tenantcall.enter_token(%s)", [token])
        assert conn.execute("SELECT body FROM notes").fetchall() == [("kept",)]
    # the tables of the tenants: said, done, and done once
    with pytest.raises(pgserver.Failure, match=rf"(?s)are of version {VERSION}, and this is version {NEXT}.*upgrade_tables"):
        server.sql("SELECT tenantcall.create_tables()", dbname="room")
    for _ in range(2):
        assert server.sql("SELECT tenantcall.upgrade_tables()", dbname="room") == NEXT
    assert server.sql("SELECT count(grown), obj_description('telephony'::regnamespace) FROM telephony.customers, "
                      "tenantcall.installation", dbname="room") == f"0|tables of tenantcall {NEXT}"
    server.sql("SELECT tenantcall.create_tables()", dbname="room")
    # back on the older library
    another(server, tree)
    closed(server, VERSION, NEXT, token)
    with pytest.raises(pgserver.Failure, match=f"tables of version {NEXT} cannot be brought to version {VERSION}"):
        server.sql("SELECT tenantcall.upgrade_tables()", dbname="room")
    another(server, room)
    with server.connect(role="update_app", dbname="room") as conn:
        conn.execute("SELECT tenantcall.enter_token(%s)", [token])
        assert conn.execute("SELECT body FROM notes").fetchall() == [("kept",)]


def test_libraries_that_do_not_fit(server, tree, workspace):
    """The libraries for phone numbers and HTTP are asked for their version before they are used."""
    mixed = Tree(tree, workspace.dir / "update_mixed").become(NEXT, "tenantcall_phone.so", "tenantcall_http.so")
    another(server, mixed)
    server.restart(**{"tenantcall.worker_databases": "fresh"})
    sqlstate = server.psql("-v", "VERBOSITY=verbose", "-c", "SELECT tenantcall.parse_phone('030 123456', 'DE')", dbname="fresh").stderr
    assert NEXT in sqlstate and VERSION in sqlstate, sqlstate
    assert server.sql("SELECT tenantcall.parse_phone('+4930123456')", dbname="fresh") == "+4930123456"
    server.wait_until(lambda: re.search(rf"{re.escape(NEXT)}.*{re.escape(VERSION)}", server.log()), "the worker's complaint")
    server.stop()
