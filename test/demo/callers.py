"""callers: people who want an appointment, the software that talks to them, and their calendar.

Each caller has connections of their own, a gateway's and an app's, so that several can be on the
line at the same time.  Every question is a function call of the voice platform: accepted by the
gateway, run by the app in transactions that enter by a signed token, and finished.
"""
import contextlib
import datetime
import queue
import threading
import time
import zoneinfo

import acts
import stage  # noqa: F401, finds the modules of test/setup
import psycopg
import retell
from pgserver import Failure

ACCOUNT, SECRET = "cal_live_shared", "whsec_of_the_account"
UTC = datetime.timezone.utc
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
CUTS, COLOUR = 501, 599  # event types of the account
PATIENCE = "20 s"  # longer than ever needed, since machines may be busy


def next_monday():
    """A Monday that is at least a week ahead."""
    today = datetime.datetime.now(BERLIN).date()
    return today + datetime.timedelta(days=14 - today.weekday())


def at(clock):
    """A time of that Monday."""
    return datetime.datetime.combine(next_monday(), datetime.time.fromisoformat(clock), BERLIN)


class Caller:
    """Somebody who is on the line."""

    begun = time.monotonic()

    def __init__(self, demo, town, name, place, number):
        self.name, (self.company, self.branch) = name, place
        self.customer = {"name": name, "phone": "+49151" + f"{sum(name.encode()):08d}"}
        self.gateway = retell.Gateway(demo.session("gateway"), acts.KEY)
        self.app = demo.session("app")
        self.ids = town.id(self.company), town.branch(self.company, self.branch)
        self.call = town.call("call_" + name.split()[-1].lower(), number,
                              caller=self.customer["phone"])
        self.call_id = town.tell(self.call, "call_started")["call_id"]
        self.service = self.hold = self.appointment = self.uid = self.wish = None
        self.offers, self.said, self.asked = [], [], 0

    def say(self, step, answer):
        """Notes a step of the conversation."""
        self.said.append({"at (ms)": round(1000 * (time.monotonic() - Caller.begun)), "company": self.company,
                          "branch": self.branch, "caller": self.name, "step": step, "answer": answer})
        return answer

    def one(self, statement, *params):
        """The row of a statement, in a transaction of its own within company and branch."""
        token, = self.gateway.connection.execute(
            "SELECT tenantcall.sign_token(%s, %s, '1 minute', 'app') AS token",
            self.ids).fetchone().values()
        with self.app.transaction():
            self.app.execute("SELECT tenantcall.enter_token(%s)", [token])
            return tuple(self.app.execute(statement, params).fetchone().values())

    @contextlib.contextmanager
    def function(self, name):
        """A function call of the platform; what is put into the dict is its answer."""
        self.asked += 1
        body = self.call.function(f"{self.call.call_id}_{self.asked}", name=name)
        accepted, answer = self.gateway.function(body), {}
        if accepted["outcome"] != "run":
            raise Failure(f"a function call was not run: {accepted}")
        yield answer
        self.gateway.finish(accepted, answer)

    def ask(self, wanted, service=None):
        """Is this time free?  If not, what is?  Of the service that bears a name, or the usual."""
        self.wish = service
        with self.function("check_availability") as answer:
            self.service, = self.one("SELECT service_id FROM tenantcall.select_service(%s)", service)
            free, = self.one("SELECT count(*) FROM tenantcall.available_slots(%s, %s, %s, "
                             "max_wait => %s)", self.service, wanted,
                             wanted + datetime.timedelta(minutes=1), PATIENCE)
            self.say(f"is {wanted:%H:%M} free?", "yes" if free else "no, it is taken")
            if not free:
                self.offer(wanted)
            answer["free"], answer["offers"] = bool(free), [f"{offer:%H:%M}" for offer in self.offers]
        return free

    def offer(self, wanted):
        """What can be had instead."""
        offers, = self.one("SELECT array_agg(starts_at) FROM tenantcall.alternative_slots"
                           "(%s, %s, max_wait => %s)", self.service, wanted, PATIENCE)
        self.offers = [offer.astimezone(BERLIN) for offer in offers or []]
        self.say("offered instead", " or ".join(f"{offer:%a %H:%M}" for offer in self.offers))

    def take(self, wanted):
        """Holds a time; None, or the SQLSTATE with which it is refused."""
        try:
            self.hold, = self.one("SELECT tenantcall.hold_slot(%s, %s, %s)", self.service, wanted,
                                  self.call_id)
        except psycopg.Error as error:
            self.say(f"hold {wanted:%H:%M}", f"{error.sqlstate}: {error.diag.message_detail}")
            return error.sqlstate
        self.say(f"hold {wanted:%H:%M}", "held")
        return None

    def book(self):
        """Books what is held; the status that the calendar gave it, while the caller waits."""
        with self.function("book_appointment") as answer:
            self.appointment, = self.one("SELECT tenantcall.book(%s, %s::jsonb)", self.hold,
                                         psycopg.types.json.Jsonb(self.customer))
            status, self.uid, reason = self.one(
                "SELECT status, uid, reason FROM tenantcall.booking_result(%s, %s)",
                self.appointment, PATIENCE)
            answer["status"] = self.say("book", status if reason is None else f"{status}: {reason}")
        return status

    def converse(self, wanted):
        """The whole conversation; the status of the booking."""
        if self.ask(wanted) or self.take(self.offers[0]) is not None:
            return None
        return self.book()

    def race(self, wanted, service, ready):
        """Wants a time that others want as well; the outcome."""
        self.ask(wanted, service)
        ready.wait()
        lost = self.take(wanted)
        ready.wait()
        outcome = lost or self.book()
        if outcome != "confirmed":
            self.offer(wanted)
        return outcome


def together(*jobs):
    """Runs functions at the same time; their results."""
    results, errors = [None] * len(jobs), []

    def work(index, job):
        """One of them."""
        try:
            results[index] = job()
        except Exception as error:  # of any kind: the demo is to end with it
            errors.append(error)

    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    if errors:
        raise errors[0]
    if any(thread.is_alive() for thread in threads):
        raise Failure("a conversation does not end")
    return results


def told(callers):
    """What was said, in the order in which it was."""
    return sorted((row for caller in callers for row in caller.said), key=lambda row: row["at (ms)"])


def open_calendar(demo, town):
    """The account at the calendar, and where it is."""
    town.hooks = queue.Queue()
    demo.calcom.account(ACCOUNT, webhook_secret=SECRET, webhook_target=town.hooks)
    for event_type in (CUTS, COLOUR):
        demo.calcom.event_type(ACCOUNT, event_type, time_zone="Europe/Berlin")
    demo.sql("SELECT tenantcall.set_credential('shared', %s, %s)", [ACCOUNT, demo.calcom.url], role="admin")
    demo.sql("SELECT tenantcall.set_webhook_key('calcom', 'c1', %s)", [SECRET], role="admin")


def hooks_of(demo, town):
    """Takes in what the calendar has told by webhooks; the answers."""
    demo.calcom.webhooks.wait()
    companies = {number: name for name, number in town.ids.items()}
    taken = []
    while not town.hooks.empty():
        body, headers = town.hooks.get()
        row, = demo.sql("SELECT outcome, reason, company_id, status FROM tenantcall.ingest_calcom(%s, %s)",
                        [body, headers["X-Cal-Signature-256"]], role="gateway")
        trigger = body.decode().split('"triggerEvent":"')[1].split('"')[0]
        taken.append({"webhook": trigger, "outcome": row["outcome"], "reason": row["reason"],
                      "company": companies.get(row["company_id"]), "status": row["status"]})
    return taken


def requests_seen(demo):
    """The requests that the calendar saw, counted."""
    counts = {}
    for entry in demo.calcom.requests():
        if entry.status is not None:
            key = entry.method, entry.path, entry.status
            counts[key] = counts.get(key, 0) + 1
    return [{"method": method, "path": path, "status": status, "requests": count}
            for (method, path, status), count in sorted(counts.items())]
