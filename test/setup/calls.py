"""calls: companies, signed bodies and readers of outcomes, for the system tests of calls."""
import copy
import hashlib
import hmac
import itertools
import json
import pathlib
import threading
import time

import pgserver

FIXTURES = pgserver.REPO / "test" / "fixtures" / "retell"
SECRET = "key_of_the_account"
AGENT = "agent_of_tests"
serial = itertools.count(1)


def fixture(name):
    """A message as the vendor sends it, as a dict of one's own."""
    return json.loads((FIXTURES / f"{name}.json").read_text())


def now_ms():
    """The vendor's clock."""
    return int(time.time() * 1000)


def raw(body):
    """The bytes of a body."""
    if isinstance(body, bytes):
        return body
    return (body if isinstance(body, str) else json.dumps(body)).encode()


def sign(body, secret=SECRET, at=None):
    """The signature header that the vendor would send."""
    stamp = at if at is not None else now_ms()
    mac = hmac.new(secret.encode(), raw(body) + str(stamp).encode(), hashlib.sha256)
    return f"v={stamp},d={mac.hexdigest()}"


def message(event, call_id, **call):
    """A webhook event, with changes to its call; None takes a member away."""
    names = {"transcript_updated": "call_ended", "transfer_started": "call_ended"}
    body = copy.deepcopy(fixture(names.get(event, event)))
    body["event"] = event
    body["call"].update(call_id=call_id, start_timestamp=now_ms())
    if event == "transcript_updated":
        for name in ("end_timestamp", "disconnection_reason"):
            del body["call"][name]
        body["call"]["call_status"] = "ongoing"
    body["call"].update(call)
    body["call"] = {k: v for k, v in body["call"].items() if v is not None}
    return body


class House:
    """A database with companies, each with two branches and a number for each branch."""

    def __init__(self, db, gateway, app=None, admin=None):
        self.db, self.gateway = db, gateway
        self.companies, self.numbers, self.branches = [], {}, {}
        db.sql(f"SELECT tenantcall.grant_gateway('{gateway}')")
        if app:
            db.sql(f"SELECT tenantcall.grant_app('{app}')")
        if admin:
            db.sql(f"SELECT tenantcall.grant_admin('{admin}')")
        db.sql(f"SELECT tenantcall.set_webhook_key('retell', 'account', '{SECRET}')")

    def company(self):
        """Makes a company."""
        number = 4930000000 + 1000 * next(serial)
        company = int(self.db.sql(
            f"SELECT tenantcall.create_company('Company {number}', 'DE', 'Europe/Berlin')"))
        branches = self.db.sql(
            f"BEGIN; SELECT tenantcall.enter({company}); INSERT INTO telephony.branches (name) "
            "VALUES ('one'), ('two') RETURNING branch_id; COMMIT;").split()
        self.companies.append(company)
        self.branches[company] = [int(b) for b in branches]
        self.numbers[company] = [f"+{number + i}" for i in (1, 2)]
        for branch, phone in zip(self.branches[company], self.numbers[company]):
            self.db.sql(f"SELECT tenantcall.assign_number('{phone}', {company}, {branch})")
        # calls of tests may have begun a little before the test did
        self.db.sql("UPDATE telephony.phone_numbers SET assigned_at = now() - interval '1 year' "
                    f"WHERE company_id = {company}")
        return company

    def connect(self, **options):
        """A connection of the gateway."""
        return self.db.connect(role=self.gateway, autocommit=True, **options)


def ingest(conn, body, signature=None, at=None):
    """Delivers an event; returns the row of ingest_retell() as a dict."""
    data = raw(body)
    cursor = conn.execute("SELECT * FROM tenantcall.ingest_retell(%s::bytea, %s, "
                          "coalesce(%s::timestamptz, now()))",
                          [data, signature or sign(data), at])
    return dict(zip([c.name for c in cursor.description], cursor.fetchone()))


def at_once(jobs):
    """Runs functions in threads, started at the same moment; their results."""
    barrier = threading.Barrier(len(jobs))
    results = [None] * len(jobs)

    def work(index, job):
        barrier.wait()
        results[index] = job()

    threads = [threading.Thread(target=work, args=item, daemon=True) for item in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert None not in results
    return results
