"""Laravel: the files of docs/laravel.md in an application (test/clients/laravel), under attack.

The framework is Debian's php-laravel-framework; requests are handled one after the other in one
process, as Octane does, directly and through PgBouncer in transaction mode.
"""
import base64
import json
import pathlib
import re
import shutil
import subprocess

import pytest

import clients
import pgserver
from client_stage import DATABASE, KEY, NUMBERS, ClientStage
from readme_blocks import blocks
from retell import inbound, sign

PAGE = pgserver.REPO / "docs" / "laravel.md"
SKELETON = clients.SOURCES / "laravel"
FRAMEWORK = pathlib.Path("/usr/share/php/Illuminate/Foundation/Application.php")
pytestmark = [pytest.mark.limit(240), pytest.mark.skipif(
    not (FRAMEWORK.exists() and shutil.which("php") and shutil.which("phpunit")),
    reason="php-laravel-framework, php-cli or phpunit is not installed")]
HALF = "SELECT count(*) FROM notes WHERE body = 'half'"


class Application:
    """An application made of the skeleton and the files of the page."""

    def __init__(self, stage, directory):
        self.stage = stage
        self.dir = directory
        shutil.copytree(SKELETON, directory)
        for name in ("bootstrap/cache", "storage", "routes"):
            (directory / name).mkdir(exist_ok=True, parents=True)
        for block in blocks(PAGE):
            if block.language == "php":
                path = directory / re.match(r"// (\S+)\n", block.text)[1]
                path.parent.mkdir(exist_ok=True, parents=True)
                path.write_text("<?php\n" + block.text)

    def run(self, *argv, way="direct", stdin=None, good=True):
        """Runs a PHP program of the application; returns what it printed."""
        env = self.stage.environment(way)
        env.update(DB_HOST=env["PGHOST"], DB_PORT=env["PGPORT"], DB_DATABASE=env["PGDATABASE"])
        done = subprocess.run(["php", "-d", "error_reporting=8191", *argv], cwd=self.dir, env=env, input=stdin or "",
                              capture_output=True, text=True, timeout=120, check=False)
        if (done.returncode == 0) != good:
            raise pgserver.Failure(f"{argv} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def request(self, *requests, way="direct"):
        """Handles requests (method, path, company, body, signature) in one process; [status, body, Retry-After]."""
        full = [(*given, *(None, None, b"", None)[len(given) - 1:]) if len(given) < 5 else given for given in requests]
        full = [(method, path, company, base64.b64encode(body or b"").decode(), signature)
                for method, path, company, body, signature in full]
        return json.loads(self.run("requests.php", way=way, stdin=json.dumps(full)))


@pytest.fixture(scope="module")
def stage(workspace, install):
    """Server, companies, and the roles of the page."""
    made = ClientStage(workspace, install)
    made.sql("DROP TABLE notes")
    for block in blocks(PAGE):
        if block.language == "sql" and "CREATE ROLE" in block.text:
            made.sql(block.text)
    yield made
    made.close()


@pytest.fixture(scope="module")
def app(stage):
    """The application, migrated."""
    made = Application(stage, stage.dir / "laravel")
    made.run("artisan", "migrate", "--database=owner", "--force")
    return made


@pytest.fixture(params=["direct", "transaction"])
def way(request, stage):
    """How the application connects."""
    if request.param != "direct" and stage.pooler is None:
        pytest.skip("pgbouncer is not installed")
    stage.sql("TRUNCATE notes, jobs")
    return request.param


def statuses(answers):
    """The HTTP statuses of answers."""
    return [status for status, _, _ in answers]


def post(company, body):
    """A request that makes a note."""
    return "POST", "notes", company, json.dumps({"body": body}).encode(), None


def test_migrations(stage, app):
    """The migration has scoped its table; the application owns nothing, and has no part in the jobs."""
    assert stage.sql("SELECT relation, row_security, forced FROM tenantcall.scoped_tables WHERE relation = 'notes'::regclass") == "notes|t|t"
    assert stage.sql("SELECT string_agg(concat(tablename, ' ', tableowner), ', ' ORDER BY tablename) FROM pg_tables "
                     "WHERE schemaname = 'public'") == "jobs laravel, migrations laravel, notes laravel"
    assert stage.sql("SELECT has_table_privilege('laravel_app', 'jobs', 'SELECT')") == "f"
    leaks = stage.sql("SELECT severity, check_name, object FROM tenantcall.check_isolation() WHERE severity = 'error' AND object ~ 'laravel|notes'")
    assert leaks == ""


def test_requests(stage, app, way):
    """Each request sees its company, whatever the one before did in the same process."""
    answers = app.request(post(1, "one"), post(2, "two"), *[("GET", "notes", 1 + n % 2) for n in range(6)],
                          ("GET", "outside"), ("POST", "outside"), ("GET", "notes"), ("GET", "notes", "forged"), way=way)
    assert statuses(answers) == [201, 201, *[200] * 7, 403, 401, 401], answers
    seen = [[note["body"] for note in json.loads(body)] for _, body, _ in answers[2:8]]
    assert seen == [["one"], ["two"]] * 3
    assert json.loads(answers[8][1]) == {"notes": 0}


def test_requests_that_fail(stage, app, way):
    """A request that fails leaves nothing, neither rows nor jobs nor a context."""
    after = ("GET", "notes", 2)
    answers = app.request(post(1, "one"), ("GET", "throws", 1), after, ("GET", "aborts", 1), after, ("GET", "divides", 1), after,
                          ("GET", "switches", 1), after, ("GET", "steals", 1), after, ("GET", "recovers", 1),
                          ("GET", "streams", 1), ("GET", "outside"), way=way)
    assert statuses(answers) == [201, 500, 200, 422, 200, 500, 200, 403, 200, 500, 200, 200, 200, 200], answers
    assert {body for status, body, _ in answers[2:11:2]} == {"[]"}
    assert json.loads(answers[11][1]) == {"notes": 1}
    assert answers[12][1] == "0"  # a streamed body is sent after the transaction
    assert json.loads(answers[13][1]) == {"notes": 0}
    assert stage.sql(HALF) == "0"
    assert stage.sql("SELECT count(*) FROM jobs") == "0"


def test_jobs(stage, app, way):
    """One worker does the jobs of both companies; those that fail or forget to enter change nothing."""
    stage.sql("INSERT INTO notes (company_id, body) VALUES (1, 'one'), (2, 'two')")
    (app.dir / "seen").unlink(missing_ok=True)
    app.run("jobs.php", way=way)
    assert stage.sql("SELECT count(*) FROM jobs") == "25"
    app.run("artisan", "queue:work", "--stop-when-empty", "--tries=1", "--sleep=0", way=way)
    assert stage.sql("SELECT count(*) FROM jobs") == "0"
    seen = (app.dir / "seen").read_text().split("\n")[:-1]
    assert len(seen) == 12  # all but the one with a model, which was not found
    for line in seen:
        how, company, found = re.match(r"(.*) (\d): ?(.*)", line).groups()
        assert found == ("" if how == "not inside" else company), line
    assert stage.sql(HALF) == "0"
    assert stage.sql("SELECT company_id, count(*) FROM notes WHERE body LIKE 'call back job %' GROUP BY 1 ORDER BY 1") == "1|6\n2|6"


def test_webhooks(stage, app, way):
    """Webhooks are taken in by their bytes; a function runs in the company of its call."""
    call = stage.call(1)
    started, junk, ring = call.started(), b"\xff\x00'\\" + way.encode(), inbound(NUMBERS[1])
    question = call.function("t1", {}, name="opening_hours")

    def signed(path, body):
        """A request of the platform."""
        return "POST", f"retell/{path}", None, body, sign(body, KEY)

    answers = app.request(signed("events", started), signed("events", junk), signed("inbound", ring), signed("function", question),
                          signed("function", question), ("POST", "retell/events", None, started, "v=1,d=forged"),
                          ("POST", "retell/function", None, question, None), ("GET", "outside"), way=way)
    assert statuses(answers) == [204, 204, 200, 200, 200, 401, 401, 200], answers
    assert json.loads(answers[2][1])["call_inbound"]["dynamic_variables"]["company_name"] == "Bolt"
    assert json.loads(answers[3][1]) == json.loads(answers[4][1]) == [{"weekday": 2, "opens": "08:00:00", "closes": "17:00:00"}]
    assert json.loads(answers[7][1]) == {"notes": 0}
    assert stage.sql(f"SELECT company_id, status FROM telephony.calls WHERE provider_call_id = '{call.call_id}'") == "2|ongoing"


def test_phpunit(stage, app):
    """The page's tests pass in test mode, and only there."""
    for block in blocks(PAGE):
        if "laravel_test" in block.text:
            assert "but received 403" in app.run("/usr/bin/phpunit", good=False)
            stage.sql(block.text.replace("laravel_test", DATABASE))
    try:
        said = app.run("/usr/bin/phpunit")
        assert re.search(r"^OK \(1 test|^OK, but.*\nTests: 1,", said, re.M), said  # but: what PHPUnit holds against Laravel
        assert stage.sql("SELECT count(*) FROM notes") == "0"
    finally:
        stage.sql(f"ALTER DATABASE {DATABASE} RESET tenantcall.test_mode")
