"""The stage of tests of clients: a server with the roles, tables and companies of README.md, and a pooler."""
import json
import subprocess

import clients
import pgserver
from pooler import Pooler
from readme_blocks import README, blocks
from retell import Call, sign

DATABASE = "frontdesk"  # as README.md has it
KEY = "key_0123456789abcdef"
NUMBERS = ("+4930123450", "+4930123451")
ROLES = ("desk_gateway", "desk_app", "desk_admin", "laravel", "laravel_app", "laravel_gateway")
MARK = {"js": "// try it", "python": "# try it", "php": "// try it", "c": "/* try it */"}
ENDING = {"python": "py"}

SETUP = """
CREATE ROLE desk_gateway LOGIN; CREATE ROLE desk_app LOGIN; CREATE ROLE desk_admin LOGIN;
SELECT tenantcall.grant_gateway('desk_gateway'), tenantcall.grant_app('desk_app'), tenantcall.grant_admin('desk_admin');
CREATE TABLE notes (company_id bigint, note_id bigint GENERATED ALWAYS AS IDENTITY, body text NOT NULL, PRIMARY KEY (company_id, note_id));
SELECT tenantcall.scope_table('notes');
GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO desk_gateway, desk_app;
SELECT tenantcall.set_webhook_key('retell', 'account', '{key}');
"""
COMPANY = """
SELECT tenantcall.create_company('{name}', 'DE', 'Europe/Berlin') AS company \\gset
BEGIN;
SELECT tenantcall.enter(:company);
INSERT INTO telephony.branches (name) VALUES ('Branch of {name}') RETURNING branch_id \\gset
INSERT INTO telephony.opening_hours (branch_id, weekday, opens, closes) VALUES (:branch_id, {weekday}, '08:00', '17:00');
INSERT INTO notes (company_id, body) VALUES (:company, 'note of {name}');
COMMIT;
SELECT tenantcall.assign_number('{number}', :company, :branch_id);
"""


class ClientStage:
    """The server, and what programs need to be run against it."""

    def __init__(self, workspace, install):
        self.dir = workspace.dir
        self.cluster = pgserver.Cluster(workspace, install, "clients").start()
        self.cluster.create_template()
        self.cluster.create_database(DATABASE)
        self.sql(SETUP.format(key=KEY))
        for n, name in enumerate(("Acme", "Bolt")):
            self.sql(COMPANY.format(name=name, weekday=n + 1, number=NUMBERS[n]))
        self.companies = [1, 2]
        self.tokens = [self.sql(f"SELECT tenantcall.sign_token({company}, NULL, '1 hour', 'desk_app')")
                       for company in self.companies]
        self.pooler = Pooler(self.cluster, DATABASE, ROLES) if Pooler.program() else None
        self.calls = 0

    def sql(self, statements, role="postgres"):
        """Runs statements; returns unaligned text."""
        return self.cluster.sql(statements, dbname=DATABASE, role=role)

    def close(self):
        """Stops it."""
        if self.pooler is not None:
            self.pooler.stop()
        self.cluster.stop("immediate")

    def environment(self, way="direct", **extra):
        """The environment of a client: direct, or by the pooler in a mode."""
        where = self.cluster.socket_dir if way == "direct" else self.pooler.dir
        port = self.cluster.port if way == "direct" else self.pooler.port
        return pgserver.environment(PGHOST=where, PGPORT=port, PGDATABASE=self.database(way), **extra)

    @staticmethod
    def database(way):
        """What the database is called on a way."""
        return DATABASE if way in ("direct", "transaction") else f"{DATABASE}_{way}"

    def connect(self, role, way="direct", **options):
        """A connection by psycopg."""
        if way == "direct":
            return self.cluster.connect(role=role, dbname=DATABASE, **options)
        return self.pooler.connect(role, dbname=self.database(way), **options)

    def call(self, company=0):
        """A call to one of the companies, not told of yet."""
        self.calls += 1
        return Call(f"call_{self.calls}", to=NUMBERS[company])

    def messages(self):
        """Messages with their signatures, and the HTTP statuses that they must get."""
        started = self.call().started()
        binary = b"\xff\x00'\\\xfe" + bytes(range(256))
        return [((started, sign(started, KEY)), 204), ((started, sign(started, KEY)), 204),
                ((binary, sign(binary, KEY)), 204), ((started, "v=1,d=forged"), 401),
                ((started + b" ", sign(started, KEY)), 401), ((started, ""), 401)]

    def attack_text(self, language, way):
        """README.md's example, with test/clients/attack.* in place of what it tries."""
        example = next(block.text for block in blocks(README)
                       if block.language == language and MARK[language] in block.text)
        attack = (clients.SOURCES / f"attack.{ENDING.get(language, language)}").read_text()
        return example.split(MARK[language])[0].replace(DATABASE, self.database(way)) + attack

    def run(self, language, text, way, *arguments, given=None):
        """Runs a program's text to its end; returns what it printed."""
        argv = clients.program(language, text, self.dir / "program")
        done = subprocess.run([*argv, *arguments], capture_output=True, text=True, check=False, timeout=120,
                              env=self.environment(way, TC_GIVEN=json.dumps(given)))
        if done.returncode != 0:
            raise pgserver.Failure(f"{language} failed:\n{done.stdout}{done.stderr}")
        return done.stdout
