"""calcom_model: accounts, event types, free slots, reservations and bookings of the stand-in.

Knows nothing of HTTP: refusals are raised as Refusal(status, code, message) with the vendor's
words.  Times are aware datetimes in UTC; only generating slots looks at the clock on the wall of
the event type's time zone, so that days with 23 and 25 hours come out right.
"""
import datetime
import itertools
import re
import secrets
import uuid
import zoneinfo

UTC = datetime.timezone.utc
MINUTE = datetime.timedelta(minutes=1)
DAY = datetime.timedelta(days=1)
STANDING = ("accepted", "pending")
WORKDAYS = {day: [("09:00", "17:00")] for day in range(5)}  # Monday is 0
LONGEST_RANGE = 366 * DAY

# Cal.com: metadata of at most 50 keys, key of 40, value of 500 characters
META_PAIRS, META_NAME, META_VALUE = 50, 40, 500


class Refusal(Exception):
    """The vendor says no; becomes {status: "error", error: {code, message}}."""

    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def bad_request(message):
    """400 as the vendor's framework names it."""
    return Refusal(400, "BadRequestException", message)


def not_found(message):
    """404 likewise."""
    return Refusal(404, "NotFoundException", message)


def parse_time(text, what="start"):
    """A time in ISO 8601; without a zone it is UTC."""
    try:
        time = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except (AttributeError, ValueError):
        raise bad_request(f"Invalid {what}: must be an ISO 8601 date string") from None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)


def parse_bound(text, what):
    """The start or end of a range: a time, or a plain date, whose whole day (UTC) counts."""
    if text and re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        day = parse_time(text + "T00:00:00Z", what)
        return day if what == "start" else day + DAY
    return parse_time(text, what)


def print_time(time, zone=None):
    """A time as slots have it: …000Z, or with the offset of a zone."""
    if zone is None:
        return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}Z"
    return time.astimezone(zone).isoformat(timespec="milliseconds")


def print_short(time):
    """A time as webhooks have it: without a fraction."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def zone_of(name):
    """A time zone by name."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError):
        raise bad_request(f"Invalid timeZone: {name}") from None


class EventType:
    """What can be booked: a length, a schedule in a time zone, a host and a number of seats.

    Event types with the same host are busy together.  hours: {weekday: [("09:00", "17:00")]};
    closed: dates on which nothing is offered; extra: {date: [(from, to)]} instead of the weekday's.
    """

    def __init__(self, number, **options):
        self.id = int(number)
        self.slug = options.pop("slug", f"event-{number}")
        self.username = options.pop("username", None)
        self.length = int(options.pop("length", 30))
        self.interval = int(options.pop("interval", 0)) or self.length
        self.time_zone = options.pop("time_zone", "UTC")
        self.zone = zone_of(self.time_zone)
        hours = options.pop("hours", WORKDAYS)
        self.hours = {int(day): spans for day, spans in hours.items()}
        self.closed = set(options.pop("closed", ()))
        self.extra = dict(options.pop("extra", {}))
        self.host = options.pop("host", f"host-{number}")
        self.seats = int(options.pop("seats", 1))
        self.notice = int(options.pop("notice", 0)) * MINUTE
        self.team = options.pop("team", None)
        self.confirm = bool(options.pop("confirm", False))
        if options:
            raise TypeError(f"unknown options of an event type: {', '.join(options)}")

    def spans(self, day):
        """The open spans of a local day, as pairs of times in UTC."""
        text = day.isoformat()
        if text in self.closed:
            return
        for begin, end in self.extra.get(text, self.hours.get(day.weekday(), ())):
            yield self._at(day, begin), self._at(day, end)

    def _at(self, day, clock):
        """A time of a local day in UTC; 24:00 is the next day's midnight."""
        hour, minute = map(int, clock.split(":"))
        if hour == 24:
            day, hour = day + DAY, 0
        local = datetime.datetime.combine(day, datetime.time(hour, minute), self.zone)
        return local.astimezone(UTC)

    def starts(self, begin, end, length):
        """All starts that the schedule has in [begin, end), whether taken or not."""
        day = (begin - DAY).astimezone(self.zone).date()
        last = (end + DAY).astimezone(self.zone).date()
        while day <= last:
            for opens, closes in self.spans(day):
                start = opens
                while start + length * MINUTE <= closes:
                    if begin <= start < end:
                        yield start
                    start += self.interval * MINUTE
            day += DAY


class Booking:
    """A booking; rescheduling leaves it cancelled and makes another one with a new uid."""

    numbers = itertools.count(1000)

    def __init__(self, event_type, start, length, attendee, metadata):
        self.id = next(Booking.numbers)
        self.uid = secrets.token_urlsafe(16)
        self.event_type, self.start, self.length = event_type, start, length
        self.attendee, self.metadata = dict(attendee), dict(metadata)
        self.status = "pending" if event_type.confirm else "accepted"
        self.rescheduled_from = self.rescheduled_to = self.reason = None
        self.made_elsewhere = False
        self.created = self.updated = None

    @property
    def end(self):
        """When it ends."""
        return self.start + self.length * MINUTE

    def overlaps(self, start, end):
        """Does it take any of this time?"""
        return self.start < end and start < self.end

    def answer(self):
        """It as /v2/bookings shows it."""
        kind = self.event_type
        data = {
            "id": self.id, "uid": self.uid, "title": f"{kind.slug} with {self.attendee['name']}",
            "description": "",
            "hosts": [{"id": 1, "name": kind.host, "email": f"{kind.host}@example.com",
                       "username": kind.username, "timeZone": kind.time_zone}],
            "status": self.status, "start": print_time(self.start), "end": print_time(self.end),
            "duration": self.length, "eventTypeId": kind.id,
            "eventType": {"id": kind.id, "slug": kind.slug}, "meetingUrl": "", "location": "",
            "absentHost": False, "createdAt": print_time(self.created),
            "updatedAt": print_time(self.updated), "metadata": self.metadata, "rating": None,
            "icsUid": f"{self.uid}@Cal.com",
            "attendees": [{**self.attendee, "absent": False}], "guests": [],
            "bookingFieldsResponses": dict(self.attendee)}
        for name, value in (("rescheduledFromUid", self.rescheduled_from),
                            ("rescheduledToUid", self.rescheduled_to),
                            ("cancellationReason" if self.status == "cancelled"
                             else "reschedulingReason", self.reason)):
            if value:
                data[name] = value
        return data

    def summary(self):
        """What tests ask for."""
        return {"uid": self.uid, "status": self.status, "event_type_id": self.event_type.id,
                "start": print_time(self.start), "email": self.attendee.get("email"),
                "metadata": self.metadata, "rescheduled_from": self.rescheduled_from,
                "rescheduled_to": self.rescheduled_to, "elsewhere": self.made_elsewhere}


class Reservation:
    """A slot that is kept for somebody for some minutes."""

    def __init__(self, event_type, start, length, until):
        self.uid = str(uuid.uuid4())
        self.event_type, self.start, self.until = event_type, start, until
        self.end = start + length * MINUTE

    def overlaps(self, start, end):
        """Does it take any of this time?"""
        return self.start < end and start < self.end


class Account:
    """What an API key opens: event types, their bookings, and who hears of these."""

    def __init__(self, name, now):
        self.name, self.now = name, now
        self.event_types, self.bookings, self.reservations = {}, {}, {}
        self.webhook_secret = self.webhook_target = None

    # --- what is free -----------------------------------------------------------------------

    def event_type(self, number=None, slug=None, username=None):
        """An event type by number, or by slug and user; only the account's own."""
        if number is not None:
            found = self.event_types.get(int(number)) if str(number).isdigit() else None
            if found is None:
                raise not_found(f"Event type with id {number} not found.")
            return found
        for found in self.event_types.values():
            if slug is not None and (found.slug, found.username) == (slug, username):
                return found
        raise not_found(f"Event type with slug {slug} belonging to user {username} not found.")

    def booked(self, kind, start, length, but=None):
        """How many seats of a time are booked with the host."""
        end = start + length * MINUTE
        return sum(b.event_type.host == kind.host and b.status in STANDING and b is not but and
                   b.overlaps(start, end) for b in self.bookings.values())

    def free(self, kind, begin, end, length=None, but=None):
        """The starts of free slots in [begin, end)."""
        if end <= begin or end - begin > LONGEST_RANGE:
            raise bad_request("Invalid time range given - start must be before end, "
                              "and not more than a year apart.")
        length = length or kind.length
        begin = max(begin, self.now() + kind.notice)
        taken = self.taken(kind, begin, end + length * MINUTE, but)
        return [start for start in kind.starts(begin, end, length)
                if sum(first < start + length * MINUTE and start < last
                       for first, last in taken) < kind.seats]

    def taken(self, kind, begin, end, but=None):
        """The spans that the host's bookings and reservations take of a range."""
        now = self.now()
        return [(b.start, b.end) for b in self.bookings.values()
                if b.event_type.host == kind.host and b.status in STANDING and b is not but and
                b.overlaps(begin, end)] + \
            [(r.start, r.end) for r in self.reservations.values()
             if r.event_type.host == kind.host and r.until > now and r.overlaps(begin, end)]

    def reserve(self, kind, start, minutes, length=None):
        """Keeps a slot; the vendor checks bookings and reservations, and then inserts."""
        length = length or kind.length
        end = start + length * MINUTE
        if self.booked(kind, start, length) >= kind.seats:
            raise Refusal(422, "UnprocessableEntityException",
                          "Can't reserve a slot if the event is already booked.")
        if len(self.taken(kind, start, end)) >= kind.seats:
            raise Refusal(422, "UnprocessableEntityException",
                          "This time slot is already reserved by another user. "
                          "Please choose a different time.")
        kept = Reservation(kind, start, length, self.now() + minutes * MINUTE)
        self.reservations[kept.uid] = kept
        return kept

    # --- bookings ---------------------------------------------------------------------------

    def check_time(self, kind, start, length, but=None):
        """Refuses a time that is past, too soon, not offered, or taken."""
        now = self.now()
        if start < now:
            raise bad_request("Attempting to book a meeting in the past.")
        if start < now + kind.notice:
            raise bad_request('The event type can\'t be booked at the "start" time provided. This '
                              "could be because it's too soon (violating the minimum booking "
                              "notice) or too far in the future (outside the event's scheduling "
                              "window).")
        if start not in kind.starts(start, start + MINUTE, length) or \
                self.booked(kind, start, length, but) >= kind.seats:
            raise bad_request(
                "One of the hosts either already has booking at this time or is not available"
                if kind.team else
                "User either already has booking at this time or is not available")

    def book(self, kind, start, attendee, metadata, length=None):
        """Makes a booking."""
        length = length or kind.length
        self.check_time(kind, start, length)
        booking = Booking(kind, start, length, attendee, metadata)
        return self._keep(booking)

    def _keep(self, booking):
        """Writes a new booking down."""
        booking.created = booking.updated = self.now()
        self.bookings[booking.uid] = booking
        return booking

    def booking(self, uid):
        """A booking by uid."""
        if uid not in self.bookings:
            raise not_found(f"Booking with uid={uid} was not found in the database")
        return self.bookings[uid]

    def cancel(self, uid, reason):
        """Cancels a booking."""
        booking = self.booking(uid)
        if booking.status not in STANDING:
            raise bad_request(f"Can't cancel booking with uid={uid} because it has been "
                              "cancelled already. Please provide uid of a booking that is not "
                              "cancelled.")
        booking.status, booking.reason, booking.updated = "cancelled", reason, self.now()
        return booking

    def reschedule(self, uid, start, reason):
        """Moves a booking: the old one is cancelled, the new one has a new uid."""
        old = self.booking(uid)
        if old.status not in STANDING:
            raise bad_request(f"Can't reschedule booking with uid={uid} because it has been "
                              "cancelled. Please provide uid of a booking that is not cancelled.")
        self.check_time(old.event_type, start, old.length, but=old)
        new = Booking(old.event_type, start, old.length, old.attendee, old.metadata)
        new.rescheduled_from, new.reason = old.uid, reason
        old.status, old.rescheduled_to, old.updated = "cancelled", new.uid, self.now()
        return self._keep(new)


def check_attendee(attendee):
    """Who comes: name, time zone, and an email address or a phone number."""
    if not isinstance(attendee, dict):
        raise bad_request("attendee must be an object")
    for name in ("name", "timeZone"):
        if not isinstance(attendee.get(name), str) or not attendee[name].strip():
            raise bad_request(f"attendee.property {name} must be a string")
    zone_of(attendee["timeZone"])
    email, phone = attendee.get("email"), attendee.get("phoneNumber")
    if email is None and phone is None:
        raise bad_request("attendee.either email or phoneNumber must be provided")
    if email is not None and not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", str(email)):
        raise bad_request("attendee.email must be an email")
    if phone is not None and not re.fullmatch(r"\+[1-9]\d{6,14}", str(phone)):
        raise bad_request("attendee.phoneNumber must be a valid number")
    return attendee


def check_metadata(metadata):
    """The vendor's limits: at most 50 keys of 40 characters, and values of 500."""
    if not isinstance(metadata, dict):
        raise bad_request("metadata must be an object")
    if len(metadata) > META_PAIRS or any(len(name) > META_NAME for name in metadata) or \
            any(not isinstance(v, str) or len(v) > META_VALUE for v in metadata.values()):
        raise bad_request("metadata: Metadata must have at most 50 keys, each key up to 40 "
                          "characters, and string values up to 500 characters.")
    return metadata
