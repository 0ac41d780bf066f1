"""calcom_faults: what goes wrong on command.

A rule is a dict: which fault, and which requests it meets.

    {"fault": "slow", "seconds": 2, "path": "/v2/slots", "method": "GET", "key": "cal_a",
     "after": 3, "times": 1}

path is a prefix, or with "regex": true a regular expression; after skips so many matching requests
first, times is how many are met (default 1, null: all).  The first rule that matches is the one.

Before the request is processed (nothing was booked):
    slow            waits seconds, then processes and answers unless the client has left
    hang            never answers (until the client leaves)
    refuse          resets the connection at once
    close           closes it at once without an answer
    status          answers code (default 500) with an error; "body" may be any text
    rate_limited    429; style: none, retry_after, retry_after_date, reset_seconds, reset_unix,
                    reset_ms, plain (X-RateLimit-Reset without a name); seconds (default 60)
    unauthorized, forbidden, not_found       401, 403, 404
    taken           "already has booking" as code 400 (default) or 409
    redirect        302 to location (default: the metadata address of clouds)
    wrong_json      200, JSON of another shape      not_json        200, a web page
    endless         200, a chunked body without end      endless_headers   headers without end
    large           200, a body of bytes (default 64 MiB) announced by Content-Length
After it (the booking was made):
    drop            processes, then resets without an answer
    late            processes after seconds though the client may have gone, then answers
    reset           processes, answers half of the body, then resets
    truncated       processes, answers half of the body as if it were all
    content_type    processes, answers as text/html
    trickle         processes, answers a byte every seconds (default 0.2)
    duplicates      processes; a slots answer has every slot twice
"""
import asyncio
import email.utils
import json
import re
import time

METADATA = "http://169.254.169.254/latest/meta-data/"
STATUSES = {"unauthorized": (401, "UnauthorizedException", "Invalid API Key"),
            "forbidden": (403, "ForbiddenException", "Forbidden resource"),
            "not_found": (404, "NotFoundException", "Event type with id 0 not found.")}
TAKEN = "User either already has booking at this time or is not available"
BEFORE = ("slow", "hang", "refuse", "close", "status", "rate_limited", "unauthorized", "forbidden",
          "not_found", "taken", "redirect", "wrong_json", "not_json", "endless",
          "endless_headers", "large")
AFTER = ("drop", "late", "reset", "truncated", "content_type", "trickle", "duplicates")
OPTIONS = {"fault", "path", "regex", "method", "key", "after", "times", "seconds", "code", "style",
           "location", "body", "bytes", "message"}


class Rule:
    """One fault and whom it meets."""

    def __init__(self, **options):
        unknown = set(options) - OPTIONS
        if unknown:
            raise ValueError(f"unknown options of a fault: {', '.join(sorted(unknown))}")
        if options.get("fault") not in BEFORE + AFTER:
            raise ValueError(f"unknown fault: {options.get('fault')}")
        self.options = options
        self.fault = options["fault"]
        self.left = options.get("times", 1)
        self.skip = options.get("after", 0)
        self.met = 0

    def __getitem__(self, name):
        return self.options[name]

    def get(self, name, default=None):
        """An option."""
        return self.options.get(name, default)

    def matches(self, request):
        """Is the request one of those?  Counts it."""
        path, options = self.get("path", ""), self.options
        if self.left == 0 or options.get("method", request.method) != request.method or \
                options.get("key", request.key) != request.key:
            return False
        if not (re.search(path, request.target) if options.get("regex")
                else request.path.startswith(path)):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.left is not None:
            self.left -= 1
        self.met += 1
        return True


class Faults:
    """The rules in force."""

    def __init__(self):
        self.rules = []

    def add(self, **options):
        """Adds a rule; returns it, so that a test can see how many it met."""
        rule = Rule(**options)
        self.rules.append(rule)
        return rule

    def clear(self):
        """Takes all rules back."""
        self.rules.clear()

    def match(self, request):
        """The rule that meets a request, or None."""
        for rule in self.rules:
            if rule.matches(request):
                return rule
        return None


def limited_headers(style, seconds):
    """The headers of a 429, in one of the styles that are met in the wild."""
    now = time.time()
    return {
        "none": {},
        "retry_after": {"Retry-After": int(seconds)},
        "retry_after_date": {"Retry-After": email.utils.formatdate(now + seconds, usegmt=True)},
        "reset_seconds": {"X-RateLimit-Reset-Default": int(seconds)},
        "reset_unix": {"X-RateLimit-Reset-Default": int(now + seconds)},
        "reset_ms": {"X-RateLimit-Reset-Default": int((now + seconds) * 1000)},
        "plain": {"X-RateLimit-Limit": 120, "X-RateLimit-Remaining": 0,
                  "X-RateLimit-Reset": int(seconds)},
    }[style]


def error(code, name, message):
    """An error as the vendor writes it."""
    return code, {"status": "error", "timestamp": "2026-01-01T00:00:00.000Z",
                  "error": {"code": name, "message": message}}


def canned(rule):
    """The answer of a fault that needs none from the application: (status, body, headers)."""
    fault = rule.fault
    if fault in STATUSES:
        return *error(*STATUSES[fault]), {}
    if fault == "status":
        code = rule.get("code", 500)
        body = rule.get("body", error(code, "InternalServerErrorException",
                                      rule.get("message", "Internal server error"))[1])
        return code, body, {}
    if fault == "rate_limited":
        headers = limited_headers(rule.get("style", "none"), rule.get("seconds", 60))
        return *error(429, "ThrottlerException", "ThrottlerException: Too Many Requests"), headers
    if fault == "taken":
        code = rule.get("code", 400)
        name = "ConflictException" if code == 409 else "BadRequestException"
        return *error(code, name, rule.get("message", TAKEN)), {}
    if fault == "redirect":
        return rule.get("code", 302), "", {"Location": rule.get("location", METADATA)}
    if fault == "wrong_json":
        return 200, rule.get("body", {"status": "success", "data": {"hosts": [1, 2, 3]}}), {}
    if fault == "not_json":
        return 200, "<!doctype html><title>Welcome to the hotel's network</title>", {}
    return None


def twice(body):
    """A slots answer with every slot twice."""
    answer = json.loads(body)
    days = answer.get("data", {})
    days = days.get("slots", days)
    for day, slots in days.items():
        days[day] = [slot for slot in slots for _ in range(2)]
    return json.dumps(answer).encode()


async def play(rule, connection, process):
    """Plays a fault; process() runs the request and returns (status, body, headers)."""
    if rule.fault in BEFORE:
        await play_before(rule, connection, process)
        return
    if rule.fault == "late":
        await asyncio.sleep(rule.get("seconds", 1))
    status, body, headers = process()
    if rule.fault == "drop":
        connection.reset()
    elif rule.fault == "duplicates" and status == 200:
        connection.answer(status, twice(body), headers)
    elif rule.fault == "truncated":
        connection.answer(status, body[:len(body) // 2], headers)
    elif rule.fault == "content_type":
        connection.answer(status, body, {**headers, "Content-Type": "text/html"})
    elif rule.fault == "reset":
        connection.write(connection.head(status, len(body), headers) + body[:len(body) // 2])
        await asyncio.sleep(0.05)  # a reset that overtakes the data would be another fault
        connection.reset()
    elif rule.fault == "trickle":
        connection.write(connection.head(status, len(body), headers))
        for byte in body:
            await connection.gone_within(rule.get("seconds", 0.2))
            connection.write(bytes([byte]))
        connection.done()
    else:
        connection.answer(status, body, headers)


async def play_before(rule, connection, process):
    """Plays a fault that strikes before the request is processed."""
    fault, answer = rule.fault, canned(rule)
    if answer is not None:
        if rule.get("seconds") and fault != "rate_limited":
            await connection.gone_within(rule["seconds"])
        connection.answer(*answer)
    elif fault == "slow":
        if not await connection.gone_within(rule.get("seconds", 1)):
            connection.answer(*process())
    elif fault == "hang":
        await connection.gone_within(None)
    elif fault == "refuse":
        connection.reset()
    elif fault == "close":
        connection.close()
    elif fault == "large":
        size = rule.get("bytes", 64 << 20)
        await flood(connection, connection.head(200, size, {}), b"x" * 65536, size // 65536)
    elif fault == "endless":
        head = connection.head(200, None, {"Transfer-Encoding": "chunked"})
        await flood(connection, head, b"10000\r\n" + b" " * 65536 + b"\r\n", None)
    elif fault == "endless_headers":
        await flood(connection, b"HTTP/1.1 200 OK\r\n", b"X-More: " + b"y" * 1000 + b"\r\n", None)


async def flood(connection, head, piece, number):
    """Writes a piece again and again, as fast as the client reads, until it leaves."""
    connection.write(head)
    sent = 0
    while not connection.gone.is_set() and (number is None or sent < number):
        await connection.writable()
        connection.write(piece)
        sent += 1
        await asyncio.sleep(0)
    connection.close()
