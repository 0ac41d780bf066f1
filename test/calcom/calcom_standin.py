"""calcom_standin: a local Cal.com for tests and the demo.

    with CalcomStandIn() as calcom:
        key = calcom.account("cal_key_a")                  # the key is its own name
        calcom.event_type(key, 501, length=30, time_zone="Europe/Berlin")
        ...  calcom.url, or calcom.tls_url with calcom.ca_file ...
        calcom.fault("drop", path="/v2/bookings", method="POST")
        assert calcom.made("tenantcall_key", "k1") == 1
        assert calcom.most_in_window("cal_key_a") <= 120

It listens on loopback, on free ports, in a thread of its own.  Control: the methods below, or over
HTTP under /_control (see calcom_control.py), which counts nowhere.

What it mirrors of the vendor (API v2, from its source and documentation):
  - GET /v2/slots, cal-api-version 2024-09-04: start, end (UTC or plain date), eventTypeId or
    eventTypeSlug + username, timeZone, duration, format=range, bookingUidToReschedule; answer
    {status, data: {date: [{start[, end]}]}}, times as ….000Z, or with an offset when timeZone is
    given.  GET /v2/slots/available: {data: {slots: {date: [{time}]}}}.
  - POST /v2/slots/reservations: 5 minutes unless said; 422 on a conflict.
  - /v2/bookings, cal-api-version 2024-08-13: 201 with the booking; email or phone; metadata of at
    most 50 keys of 40 characters, values of 500; no idempotency key: the same request twice is two
    bookings, or a refusal if the time is taken; reschedule gives a new uid, with
    rescheduledFromUid; list with filters and pagination; cancel.
  - errors {status: "error", timestamp, path, error: {code, message}}; "already has booking at this
    time or is not available" as 400, and by conflict_status=409 as 409.
  - 120 requests in a fixed window of 60 s per key, then 429 for 60 s;
    X-RateLimit-{Limit,Remaining,Reset}-Default, Reset in seconds; no Retry-After.
  - webhooks signed with X-Cal-Signature-256 over the raw body, "no-secret-provided" without a
    secret; no time; MEETING_STARTED and MEETING_ENDED flat, BOOKING_NO_SHOW_UPDATED with bookingUid.
What it does not: it wants a key everywhere, shows an account its own event types only, and knows
neither OAuth, recurring bookings, teams beyond the wording, nor seats beyond counting them.
Faults on command: calcom_faults.py.
"""
import asyncio
import collections
import datetime
import pathlib
import shutil
import tempfile
import threading
import time
import traceback

import calcom_api
import calcom_control
import calcom_faults
import calcom_tls
from calcom_http import Connection
from calcom_limit import Arrivals, Limit
from calcom_model import Account, EventType, Refusal, UTC, parse_time, print_time
from calcom_webhook import Webhooks, message

LOG_LENGTH = 100_000

Entry = collections.namedtuple("Entry", "serial at method path target key status fault body")


class CalcomStandIn:
    """The stand-in; options are those of calcom_limit.Limit, and:

    port             0: a free one
    tls              false: no https; or calcom_tls.Certificates, which are else made anew
    conflict_status  400 or 409, for a time that is taken
    """

    def __init__(self, port=0, tls=True, conflict_status=400, **limit):
        self.limit, self.arrivals = Limit(**limit), Arrivals()
        self.faults, self.webhooks = calcom_faults.Faults(), Webhooks()
        self.conflict_status = conflict_status
        self.accounts, self.keys = {}, {}
        self.counters = collections.Counter()
        self.log = collections.deque(maxlen=LOG_LENGTH)
        self.errors = []  # faults of our own: the fixture fails the test for them
        self.clock_ahead = datetime.timedelta()
        self.lock = threading.RLock()
        self._wanted_port, self._tls = port, calcom_tls.available() and tls
        self._serial = 0
        self._connections, self._tasks = set(), set()
        self._loop = self._thread = self._dir = None
        self.ports, self.ca_file = {}, None

    # --- running ----------------------------------------------------------------------------

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Listens; returns itself."""
        self._dir = pathlib.Path(tempfile.mkdtemp(prefix="calcom-"))
        self._dir.chmod(0o755)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="calcom")
        self._thread.start()
        self._run(self._listen())
        return self

    def _run(self, coroutine):
        """Runs something in the loop's thread, and waits for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _listen(self):
        """One port without TLS, and one for each kind of certificate."""
        contexts = {"http": None}
        if self._tls:
            certificates = self._tls
            if not isinstance(certificates, calcom_tls.Certificates):
                certificates = calcom_tls.Certificates(self._dir / "tls")
            self.ca_file = certificates.ca
            contexts.update({kind: certificates.context(kind) for kind in calcom_tls.KINDS})
        self._servers = []
        for kind, context in contexts.items():
            server = await self._loop.create_server(
                lambda: Connection(self._application, self._connections), "127.0.0.1",
                self._wanted_port if kind == "http" else 0, ssl=context, backlog=1024)
            self._servers.append(server)
            self.ports[kind] = server.sockets[0].getsockname()[1]

    def stop(self):
        """Ends it and drops all connections."""
        if self._loop is None:
            return
        self._run(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()
        self._loop = None
        shutil.rmtree(self._dir, ignore_errors=True)

    async def _shut(self):
        """Closes in the loop's thread."""
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        for connection in list(self._connections):
            connection.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    def drop_connections(self):
        """Resets every connection that is open, as a restart of the vendor's would."""
        async def drop():
            for connection in list(self._connections):
                connection.reset()
        self._run(drop())

    @property
    def url(self):
        """The base URL without TLS."""
        return f"http://127.0.0.1:{self.ports['http']}"

    @property
    def tls_url(self):
        """The base URL with a good certificate, of the authority in ca_file."""
        return self.bad_tls_url("good")

    def bad_tls_url(self, kind):
        """The base URL with a bad certificate: wrong_name, expired or untrusted."""
        return f"https://localhost:{self.ports[kind]}"

    # --- the world --------------------------------------------------------------------------

    def now(self):
        """The stand-in's clock, which tests may set ahead; limits do not go by it."""
        return datetime.datetime.now(UTC) + self.clock_ahead

    def account(self, key, webhook_secret=None, webhook_target=None, name=None):
        """Makes an account, or gives one another key (name); returns the key."""
        with self.lock:
            name = name or key
            account = self.accounts.setdefault(name, Account(name, self.now))
            self.keys[key] = account
            if webhook_secret is not None:
                account.webhook_secret = webhook_secret
            if webhook_target is not None:
                account.webhook_target = webhook_target
        return key

    def event_type(self, key, number, **options):
        """Makes an event type of an account; options are those of calcom_model.EventType."""
        with self.lock:
            kind = EventType(number, **options)
            self.keys[key].event_types[kind.id] = kind
            return kind

    def close_day(self, key, number, day):
        """Nothing is offered on a date (YYYY-MM-DD) any more."""
        with self.lock:
            self.keys[key].event_types[number].closed.add(day)

    def book_elsewhere(self, key, number, start, tell=True):
        """Somebody books at the vendor's own page; returns the uid."""
        with self.lock:
            account = self.keys[key]
            kind = account.event_type(number)
            start = parse_time(start) if isinstance(start, str) else start
            booking = account.book(kind, start, {
                "name": "Somebody Else", "email": "else@example.com", "timeZone": "UTC"}, {})
            booking.made_elsewhere = True
            if tell:
                self._notify(account)("BOOKING_CREATED", booking)
            return booking.uid

    def cancel_elsewhere(self, key, uid, reason=""):
        """Somebody cancels at the vendor's own page."""
        with self.lock:
            account = self.keys[key]
            self._notify(account)("BOOKING_CANCELLED", account.cancel(uid, reason))

    def emit(self, key, trigger, uid):
        """Sends any webhook about a booking, such as MEETING_STARTED."""
        with self.lock:
            account = self.keys[key]
            booking = account.booking(uid)
            old = account.bookings.get(booking.rescheduled_from)
            self.webhooks.send(account, message(trigger, booking, self.now(), old))

    def fault(self, fault, **options):
        """Arms a fault (calcom_faults.py); returns the rule, whose .met counts."""
        with self.lock:
            return self.faults.add(fault=fault, **options)

    def clear_faults(self):
        """Takes all faults back; those that are playing play on."""
        with self.lock:
            self.faults.clear()

    # --- what tests ask ---------------------------------------------------------------------

    def bookings(self, **filters):
        """All bookings of all accounts as dicts, in the order of their making."""
        with self.lock:
            found = [b.summary() for account in self.accounts.values()
                     for b in account.bookings.values()]
        return [b for b in found if all(b[name] == value for name, value in filters.items())]

    def made(self, name, value):
        """How many bookings were made (not moved) with metadata[name] = value."""
        return sum(b["metadata"].get(name) == value and b["rescheduled_from"] is None
                   for b in self.bookings())

    def twice_made(self, name):
        """The values of metadata[name] that more than one booking was made with."""
        made = collections.Counter(b["metadata"].get(name) for b in self.bookings()
                                   if b["rescheduled_from"] is None)
        return {value: count for value, count in made.items() if value and count > 1}

    def requests(self, path="", method=None, key=None):
        """The requests that came, as Entry tuples, status None while one is under way."""
        with self.lock:
            return [e for e in self.log if e.path.startswith(path) and
                    method in (None, e.method) and key in (None, e.key)]

    def count(self, path="", method=None):
        """How many requests came for a path (as a prefix), counted when they arrive."""
        with self.lock:
            return sum(n for (m, p), n in self.counters.items()
                       if p.startswith(path) and method in (None, m))

    def most_in_window(self, key=None, window=60.0):
        """The greatest number of requests with a key (None: the worst key) in any window."""
        with self.lock:
            return self.arrivals.most(key, window)

    def connections(self):
        """How many connections are open."""
        return len(self._connections)

    def forget(self):
        """Forgets requests, counters, arrivals, windows and faults; bookings stay."""
        with self.lock:
            self.counters.clear()
            self.log.clear()
            self.arrivals = Arrivals()
            self.limit.set()
            self.faults.clear()

    # --- requests ---------------------------------------------------------------------------

    def _application(self, connection, request):
        """Takes a request, in the loop's thread."""
        if request.path.startswith("/_control"):
            connection.answer(*calcom_control.answer(self, request), {})
            return
        with self.lock:
            allowed, headers = self._arrive(request)
            rule = self.faults.match(request)

        def process():
            return self._process(request, allowed, headers)

        if rule is None:
            connection.answer(*process())
            return
        self._note(request, None, rule.fault)
        task = self._loop.create_task(self._play(rule, connection, process))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _play(self, rule, connection, process):
        """Plays a fault."""
        try:
            await calcom_faults.play(rule, connection, process)
        except Exception as failure:
            self.errors.append("".join(traceback.format_exception(failure)))
            connection.reset()

    def _arrive(self, request):
        """Counts a request; returns what the limit says of it."""
        self._serial += 1
        request.serial = self._serial
        self.counters[request.method, request.path] += 1
        who = request.key or "anonymous"
        self.arrivals.add(who, request.at)
        return self.limit.hit(who, time.monotonic())

    def _process(self, request, allowed, headers):
        """Runs a request; returns (status, body as bytes, headers)."""
        with self.lock:
            try:
                status, answer = self._answer(request, allowed)
            except Refusal as refusal:
                status = refusal.status
                if status == 400 and "already has booking" in refusal.message:
                    status = self.conflict_status
                code = "ConflictException" if status == 409 else refusal.code
                answer = {"status": "error", "timestamp": print_time(self.now()),
                          "path": request.target,
                          "error": {"code": code, "message": refusal.message}}
            except Exception as failure:
                self.errors.append("".join(traceback.format_exception(failure)))
                status, answer = 500, {"status": "error", "error": {
                    "code": "StandInFailure", "message": str(failure)}}
            self._note(request, status, None)
        return status, calcom_control.encode(answer), headers

    def _answer(self, request, allowed):
        """Runs a request."""
        if not allowed:
            raise Refusal(429, "ThrottlerException", "ThrottlerException: Too Many Requests")
        account = self.keys.get(request.key)
        if account is None:
            raise Refusal(401, "UnauthorizedException",
                          "ApiKeyStrategy - Invalid API Key" if request.key else "No auth provided")
        return calcom_api.dispatch(account, request, self._notify(account))

    def _notify(self, account):
        """What tells an account's subscribers of a booking."""
        def notify(trigger, booking, old=None):
            self.webhooks.send(account, message(trigger, booking, self.now(), old))
        return notify

    def _note(self, request, status, fault):
        """Writes a request into the log; one that met a fault stands there twice if processed."""
        self.log.append(Entry(request.serial, request.at, request.method, request.path,
                              request.target, request.key, status, fault, request.body))
