"""soak_trouble: what goes wrong during a soak: processes are killed, the server is restarted, the calendar fails.

A crash is whatever has the server start all over with what it has on disk: a killed process that has
shared memory, or a killed server.  An immediate shutdown saves the limits' buckets, and is none.
"""
import datetime
import os
import random
import signal
import threading
import time

from soak_desks import some_day

DAY = datetime.timedelta(days=1)
FAULTS = (
    {"fault": "drop", "path": "/v2/bookings", "method": "POST"}, {"fault": "late", "seconds": 4, "path": "/v2/bookings"},
    {"fault": "reset", "path": "/v2/bookings"}, {"fault": "truncated", "path": "/v2/"},
    {"fault": "status", "code": 503, "path": "/v2/"}, {"fault": "status", "code": 500, "path": "/v2/bookings", "method": "POST"},
    {"fault": "refuse", "path": "/v2/"}, {"fault": "close", "path": "/v2/"}, {"fault": "slow", "seconds": 1, "path": "/v2/"},
    {"fault": "hang", "path": "/v2/slots"}, {"fault": "taken", "path": "/v2/bookings", "method": "POST"},
    {"fault": "rate_limited", "style": "retry_after", "seconds": 3, "path": "/v2/"},
    {"fault": "wrong_json", "path": "/v2/slots"}, {"fault": "not_json", "path": "/v2/"}, {"fault": "duplicates", "path": "/v2/slots"})
KINDS = (("terminate backend", 8), ("kill backend", 2), ("terminate worker", 4), ("kill worker", 2),
         ("terminate launcher", 2), ("kill launcher", 1), ("restart fast", 2), ("restart immediate", 2), ("kill server", 1))
CRASHES = ("kill backend", "kill worker", "kill launcher", "kill server")


class Storm:
    """Disturbs server and processes.  Its turns are taken by the main thread: a server ends with the thread that has started it."""

    def __init__(self, town, seed, pauses):
        self.town, self.journal = town, town.journal
        self.random, self.pauses = random.Random(seed), pauses
        self.next_at = self.journal.now() + self.random.uniform(*pauses)
        self.kinds = [kind for kind, weight in KINDS for _ in range(weight)]

    def turn(self):
        """One disturbance, if it is time for it; what went wrong with it is a finding."""
        if self.journal.now() < self.next_at:
            return
        kind = self.random.choice(self.kinds)
        try:
            self.disturb(kind)
        except Exception as error:  # of any kind: the soak is to tell of it
            self.journal.violation("server", f"{kind}: {type(error).__name__}: {error}")
        self.next_at = self.journal.now() + self.random.uniform(*self.pauses)

    def disturb(self, kind):
        """One disturbance; comes back when the server is there again."""
        begun = time.monotonic()
        self.journal.happens(kind)
        how, what = kind.split()
        if how == "restart":
            self.town.cluster.restart(what)
        elif what == "server":
            self.town.cluster.kill9()
            self.town.cluster.start()
        else:
            pid, before = self.victim(what), self.town.checkpointer()
            if pid is None:
                return
            try:
                os.kill(pid, signal.SIGKILL if how == "kill" else signal.SIGTERM)
            except ProcessLookupError:
                return  # it ended by itself
            if how == "kill":
                self.await_crash(before)
        self.town.cluster.wait_until(self.town.up, "the server to be there again", 120)
        if kind in CRASHES:
            self.journal.crashes.append((begun, time.monotonic()))

    def await_crash(self, before):
        """Waits until the server has noticed: until then it goes on taking connections, and with what it has in memory.

        Whoever ended by himself just then brings about no crash, so there is an end to waiting.
        """
        noticed_by = time.monotonic() + 30
        while time.monotonic() < noticed_by and self.town.checkpointer() in (before, None):
            time.sleep(0.02)

    def victim(self, what):
        """The process to be ended, or None."""
        if what != "backend":
            return self.town.pid(f"http {what}")
        pids = self.town.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' "
                             "AND usename IN ('app', 'gateway', 'admin')").split()
        return int(self.random.choice(pids)) if pids else None


class Weather(threading.Thread):
    """The calendar fails now and then, and others book and cancel there."""

    def __init__(self, town, seed, pauses):
        super().__init__(daemon=True)
        self.town, self.journal, self.random, self.pauses = town, town.journal, random.Random(seed), pauses
        self.over = threading.Event()

    def run(self):
        """Until told to stop."""
        while not self.over.wait(self.random.uniform(*self.pauses)):
            what = self.random.random()
            if what < 0.4:
                self.town.calcom.fault(**{**self.random.choice(FAULTS), "times": self.random.randrange(1, 4)})
                self.journal.count("faults of the calendar")
            elif what < 0.45:
                self.town.calcom.drop_connections()
            elif what < 0.8:
                self.book()
            else:
                self.cancel()

    def book(self):
        """Somebody books at the calendar's own page."""
        firm = self.random.choice(self.journal.living())
        account = self.town.calcom.keys[firm.account]
        day = some_day(self.random)
        with self.town.calcom.lock:
            free = account.free(account.event_types[firm.event_type], day, day + DAY)
            if free:
                uid = self.town.calcom.book_elsewhere(firm.account, firm.event_type, self.random.choice(free), tell=False)
                self.journal.elsewhere[uid] = None
                self.town.calcom.emit(firm.account, "BOOKING_CREATED", uid)
                self.journal.count("booked elsewhere")

    def cancel(self):
        """Somebody cancels there."""
        firm = self.random.choice(self.journal.living())
        with self.town.calcom.lock:
            standing = [booking.uid for booking in self.town.calcom.keys[firm.account].bookings.values()
                        if booking.status == "accepted"]
            if standing:
                self.town.calcom.cancel_elsewhere(firm.account, self.random.choice(standing), "soak")
                self.journal.count("cancelled elsewhere")
