"""soak_journal: what the load intended, and what the server acknowledged.

It is all in memory of the load, so nothing that happens to the server reaches it.  An entry is made
before a statement is sent, and completed when its answer has come: what was sent and not answered
may have happened or not, and everything else is certain.
"""
import bisect
import collections
import re
import threading
import time

MARK = re.compile(r"tenant(\d+)x")
KEPT_MS = 10  # the server's clock is ours, but answers take their time


def mark(company):
    """What every text of a company bears, so that a row at another one is recognised."""
    return f"tenant{company}x"


class Firm:
    """A company: what it was given."""

    def __init__(self, company, account, event_type):
        self.id, self.account, self.event_type = company, account, event_type
        self.branches, self.numbers, self.services = [], [], []
        self.lock = threading.Lock()  # of whoever changes its state
        self.gone = False  # its deletion has been asked for


class Number:
    """A phone number: whose it was when.  Several owners: one of them, it is not known which."""

    def __init__(self, text, owner=None):
        self.text = text
        self.times, self.owners = [0], [frozenset([owner]) if owner else None]
        self.lock = threading.Lock()

    def change(self, owners):
        """From now on it belongs to one of these."""
        with self.lock:
            self.times.append(time.time_ns() // 1_000_000)
            self.owners.append(frozenset(owners) if owners else None)

    def owners_at(self, at_ms):
        """To whom a call belongs that began then; None: to nobody yet."""
        with self.lock:
            first = bisect.bisect_right(self.times, at_ms - KEPT_MS) - 1
            last = bisect.bisect_right(self.times, at_ms + KEPT_MS)
            found = [owners for owners in self.owners[max(first, 0):last] if owners]
            found = found or [owners for owners in self.owners if owners][-1:]
        return frozenset().union(*found) if found else None


class CallNote:
    """A call, and which of its events were sent and acknowledged."""

    def __init__(self, call, number, caller, transcript, plan):
        self.call, self.number, self.caller, self.transcript, self.plan = call, number, caller, transcript, plan
        self.sent, self.acked = collections.Counter(), collections.Counter()
        self.lost = False  # a delivery was not answered, and not repeated either
        self.forgotten = False

    def owners(self):
        """The companies that it may belong to."""
        return self.number.owners_at(self.call.start_ms)


class FunctionNote:
    """A function call: when it was run, and what was answered."""

    def __init__(self, key, note):
        self.key, self.note = key, note
        self.runs, self.answers, self.finished_at = 0, set(), None
        self.answer = None  # acknowledged


class Booking:
    """An appointment that was acknowledged."""

    def __init__(self, firm, appointment, starts):
        self.firm, self.id, self.starts = firm, appointment, starts
        self.uid = None


class Journal:
    """Everything that must be found again, and what went wrong already."""

    def __init__(self):
        self.lock = threading.Lock()
        self.begun, self.begun_at = time.monotonic(), time.time()
        self.firms, self.numbers, self.calls = {}, {}, {}
        self.functions, self.bookings, self.elsewhere = {}, {}, {}
        self.takes = collections.defaultdict(list)  # company: (sent, answered, admitted)
        self.crashes, self.happened = [], []
        self.deleted, self.forgotten = set(), []
        self.leases = collections.defaultdict(dict)  # company: holder: acquired at
        self.past = collections.deque(maxlen=3000)  # deliveries to be repeated
        self.counts = collections.Counter()
        self.wrong = collections.Counter()  # (kind, text): how often

    def now(self):
        """Seconds since the beginning."""
        return time.monotonic() - self.begun

    def count(self, what, number=1):
        """Counts what was done."""
        with self.lock:
            self.counts[what] += number

    def violation(self, kind, text):
        """Notes what must not be."""
        with self.lock:
            self.wrong[kind, text] += 1

    def happens(self, what):
        """Notes a disturbance, for the plot."""
        with self.lock:
            self.happened.append((self.now(), what))

    def living(self):
        """The companies that are there, in a list of one's own."""
        with self.lock:
            return [firm for firm in self.firms.values() if not firm.gone]

    def add_firm(self, firm):
        """Notes a company that is complete."""
        with self.lock:
            self.firms[firm.id] = firm

    def add_call(self, note):
        """Notes a call before anything of it is sent."""
        with self.lock:
            self.calls[note.call.call_id] = note

    def placed(self, note, company, what):
        """Checks the company that an answer named."""
        owners = note.owners()
        if company is not None and owners is not None and company not in owners:
            self.violation("cross_tenant", f"{what} was placed in company {company}, not in {sorted(owners)}")

    def took(self, company, sent, answered, admitted):
        """Notes tokens that were spent."""
        with self.lock:
            self.takes[company].append((sent, answered, admitted))
