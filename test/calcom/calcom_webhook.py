"""calcom_webhook: what the stand-in tells its subscribers, signed as the vendor signs.

    X-Cal-Signature-256: hex of HMAC-SHA256(secret, raw body)
    or the words "no-secret-provided" where the subscriber gave no secret

There is no time in it, so a body can be delivered again at any time.  Every webhook is kept in
sent; a target, if the account has one, is called by a thread of its own, in the order of sending
unless they are held back.
"""
import hashlib
import hmac
import json
import pathlib
import queue
import random
import threading
import urllib.request

from calcom_model import print_short, print_time

STATES = {"accepted": "ACCEPTED", "pending": "PENDING", "cancelled": "CANCELLED",
          "rejected": "REJECTED"}
FLAT = ("MEETING_STARTED", "MEETING_ENDED")
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def signature(secret, body):
    """The header's value."""
    if not secret:
        return "no-secret-provided"
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def payload_of(booking):
    """What all webhooks about a booking say."""
    kind = booking.event_type
    return {
        "type": kind.slug, "title": f"{kind.slug} with {booking.attendee['name']}",
        "description": "", "startTime": print_short(booking.start),
        "endTime": print_short(booking.end), "length": booking.length,
        "organizer": {"id": 1, "name": kind.host, "email": f"{kind.host}@example.com",
                      "timeZone": kind.time_zone, "language": {"locale": "en"}},
        "attendees": [{"name": booking.attendee["name"], "email": booking.attendee.get("email"),
                       "phoneNumber": booking.attendee.get("phoneNumber"),
                       "timeZone": booking.attendee["timeZone"]}],
        "uid": booking.uid, "bookingId": booking.id, "eventTypeId": kind.id,
        "status": STATES[booking.status], "metadata": booking.metadata}


def message(trigger, booking, now, old=None):
    """The webhook about a booking, as a dict; old is the booking that a new one replaced."""
    body = {"triggerEvent": trigger, "createdAt": print_time(now)}
    if trigger == "BOOKING_NO_SHOW_UPDATED":
        body["payload"] = {"message": "attendee marked as no-show", "bookingUid": booking.uid,
                           "bookingId": booking.id,
                           "attendees": [{"email": booking.attendee.get("email"), "noShow": True}]}
        return body
    payload = payload_of(booking)
    if trigger == "BOOKING_CANCELLED":
        payload["cancellationReason"] = booking.reason or ""
    if old is not None:
        payload.update(rescheduleId=old.id, rescheduleUid=old.uid,
                       rescheduleStartTime=print_short(old.start),
                       rescheduleEndTime=print_short(old.end))
    if trigger in FLAT:
        return {**body, **payload, "id": booking.id}
    body["payload"] = payload
    return body


class Webhooks:
    """Sends webhooks, also twice and out of order."""

    def __init__(self):
        self.sent = []  # (target, headers, body), in the order in which they were sent
        self.held = None
        self.copies = 1
        self.failures = []
        self._queue = queue.SimpleQueue()
        self._idle = threading.Condition()
        self._under_way = 0
        threading.Thread(target=self._run, daemon=True, name="calcom webhooks").start()

    def send(self, account, body):
        """Sends a message (a dict) to the account's target."""
        raw = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json",
                   "X-Cal-Signature-256": signature(account.webhook_secret, raw)}
        item = (account.webhook_target, headers, raw)
        if self.held is not None:
            self.held.append(item)
            return
        for _ in range(self.copies):
            self._pass_on(item)

    def hold(self):
        """Keeps webhooks back from now on."""
        self.held = self.held or []

    def release(self, order="same", copies=1, seed=1):
        """Sends what was kept back: in the same order, reversed or shuffled, so many times each."""
        items, self.held = (self.held or []) * copies, None
        if order == "reversed":
            items.reverse()
        elif order == "shuffled":
            random.Random(seed).shuffle(items)
        for item in items:
            self._pass_on(item)

    def repeat(self, number=-1):
        """Sends one of those sent again, byte for byte."""
        self._pass_on(self.sent[number])

    def wait(self, timeout=30):
        """Waits until all that was sent has been delivered."""
        with self._idle:
            if not self._idle.wait_for(lambda: self._under_way == 0, timeout):
                raise TimeoutError("webhooks are still under way")

    def _pass_on(self, item):
        self.sent.append(item)
        if item[0] is not None:
            with self._idle:
                self._under_way += 1
            self._queue.put(item)

    def _run(self):
        """Delivers, one after another."""
        while True:
            target, headers, body = self._queue.get()
            try:
                deliver(target, headers, body)
            except Exception as failure:  # the vendor does not care either
                self.failures.append(f"{type(failure).__name__}: {failure}")
            with self._idle:
                self._under_way -= 1
                self._idle.notify_all()


def deliver(target, headers, body):
    """Hands a webhook over: to a function, a queue, a URL, or as a line of a file."""
    if callable(target):
        target(body, headers)
    elif hasattr(target, "put"):
        target.put((body, headers))
    elif str(target).startswith(("http://", "https://")):
        request = urllib.request.Request(str(target), data=body, headers=headers, method="POST")
        with DIRECT.open(request, timeout=10) as answer:
            answer.read()
    else:
        line = json.dumps({"headers": headers, "body": body.decode()}, ensure_ascii=False)
        with pathlib.Path(target).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
