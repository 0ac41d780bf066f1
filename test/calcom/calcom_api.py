"""calcom_api: the endpoints of the stand-in, each a function of the account and the request.

Returns (status, dict); raises calcom_model.Refusal.  A request for another API version than the
endpoint's is not found, which is stricter than the vendor, who answers in an older shape.
"""
import json
import re

from calcom_model import (MINUTE, bad_request, check_attendee, check_metadata,
                          not_found, parse_bound, parse_time, print_time, zone_of)

SLOTS_VERSION, BOOKINGS_VERSION, EVENT_TYPES_VERSION = "2024-09-04", "2024-08-13", "2024-06-14"


def body_of(request):
    """The request's body, which must be a JSON object."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise bad_request("Content-Type must be application/json")
    try:
        body = json.loads(request.body or b"{}")
    except ValueError:
        raise bad_request("Unexpected token in JSON") from None
    if not isinstance(body, dict):
        raise bad_request("the body must be an object")
    return body


def number(value, name, smallest=1, largest=1 << 31):
    """An integer of a query or body; None stays None."""
    if value is None:
        return None
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,10}", str(value)) or \
            not smallest <= int(value) <= largest:
        raise bad_request(f"{name} must be an integer from {smallest} to {largest}")
    return int(value)


def success(data, status=200, **more):
    """An answer."""
    return status, {"status": "success", "data": data, **more}


# --- slots ----------------------------------------------------------------------------------------


def slots(account, request):
    """GET /v2/slots"""
    query = request.query
    kind = account.event_type(query.get("eventTypeId"), query.get("eventTypeSlug"),
                              query.get("username"))
    zone = zone_of(query["timeZone"]) if "timeZone" in query else None
    begin, end = parse_bound(query.get("start"), "start"), parse_bound(query.get("end"), "end")
    length = number(query.get("duration"), "duration", largest=1440) or kind.length
    moved = account.bookings.get(query.get("bookingUidToReschedule"))
    spans = query.get("format") == "range"
    days = {}
    for start in account.free(kind, begin, end, length, moved):
        text = print_time(start, zone)
        slot = {"start": text}
        if spans:
            slot["end"] = print_time(start + length * MINUTE, zone)
        days.setdefault(text[:10], []).append(slot)
    return success(days)


def slots_available(account, request):
    """GET /v2/slots/available, the older one"""
    query = request.query
    kind = account.event_type(query.get("eventTypeId"), query.get("eventTypeSlug"),
                              query.get("usernameList[]"))
    zone = zone_of(query["timeZone"]) if "timeZone" in query else None
    length = number(query.get("duration"), "duration", largest=1440)
    days = {}
    for start in account.free(kind, parse_bound(query.get("startTime"), "start"),
                              parse_bound(query.get("endTime"), "end"), length):
        text = print_time(start, zone)
        days.setdefault(text[:10], []).append({"time": text})
    return success({"slots": days})


def reserve(account, request):
    """POST /v2/slots/reservations"""
    body = body_of(request)
    kind = account.event_type(number(body.get("eventTypeId"), "eventTypeId"))
    minutes = number(body.get("reservationDuration"), "reservationDuration", largest=1440) or 5
    length = number(body.get("slotDuration"), "slotDuration", largest=1440) or kind.length
    kept = account.reserve(kind, parse_time(body.get("slotStart"), "slotStart"), minutes, length)
    return success({
        "eventTypeId": kind.id, "slotStart": print_time(kept.start),
        "slotEnd": print_time(kept.start + length * MINUTE), "slotDuration": length,
        "reservationUid": kept.uid, "reservationDuration": minutes,
        "reservationUntil": print_time(kept.until)}, 201)


def unreserve(account, _request, uid):
    """DELETE /v2/slots/reservations/{uid}"""
    if account.reservations.pop(uid, None) is None:
        raise not_found(f"Reservation with uid={uid} not found.")
    return 200, {"status": "success"}


# --- bookings -------------------------------------------------------------------------------------


def book(account, request, notify):
    """POST /v2/bookings"""
    body = body_of(request)
    kind = account.event_type(number(body.get("eventTypeId"), "eventTypeId"),
                              body.get("eventTypeSlug"), body.get("username"))
    start = parse_time(body.get("start"))
    attendee = check_attendee(body.get("attendee"))
    metadata = check_metadata(body.get("metadata", {}))
    length = number(body.get("lengthInMinutes"), "lengthInMinutes", largest=1440)
    booking = account.book(kind, start, attendee, metadata, length)
    notify("BOOKING_REQUESTED" if booking.status == "pending" else "BOOKING_CREATED", booking)
    return success(booking.answer(), 201)


def one_booking(account, _request, uid):
    """GET /v2/bookings/{uid}"""
    return success(account.booking(uid).answer())


def cancel(account, request, uid, notify):
    """POST /v2/bookings/{uid}/cancel"""
    booking = account.cancel(uid, body_of(request).get("cancellationReason"))
    notify("BOOKING_CANCELLED", booking)
    return success(booking.answer())


def reschedule(account, request, uid, notify):
    """POST /v2/bookings/{uid}/reschedule"""
    body = body_of(request)
    new = account.reschedule(uid, parse_time(body.get("start")), body.get("reschedulingReason"))
    notify("BOOKING_RESCHEDULED", new, account.bookings[uid])
    return success(new.answer(), 201)


def is_in(status, booking, now):
    """Does the booking belong to a status as the list names them?"""
    return {"upcoming": booking.status == "accepted" and booking.end >= now,
            "past": booking.status == "accepted" and booking.end < now,
            "unconfirmed": booking.status == "pending",
            "cancelled": booking.status in ("cancelled", "rejected"),
            "recurring": False}.get(status, False)


def wanted(query, now):
    """The list's filters, as a predicate."""
    numbers = {n for n in (query.get("eventTypeId", "") + "," +
                           query.get("eventTypeIds", "")).split(",") if n}
    states = [s for s in query.get("status", "").split(",") if s]
    after = parse_bound(query["afterStart"], "start") if "afterStart" in query else None
    before = parse_bound(query["beforeEnd"], "end") if "beforeEnd" in query else None

    def keep(booking):
        return (not numbers or str(booking.event_type.id) in numbers) and \
            query.get("attendeeEmail", booking.attendee.get("email")) == \
            booking.attendee.get("email") and \
            query.get("attendeeName", booking.attendee["name"]) == booking.attendee["name"] and \
            (not states or any(is_in(state, booking, now) for state in states)) and \
            (after is None or booking.start >= after) and \
            (before is None or booking.end <= before)

    return keep


def bookings(account, request):
    """GET /v2/bookings"""
    query = request.query
    take = number(query.get("take"), "take", largest=250) or 100
    skip = number(query.get("skip"), "skip", smallest=0) or 0
    found = sorted(filter(wanted(query, account.now()), account.bookings.values()),
                   key=lambda b: (b.start, b.id))
    if "sortCreated" in query:
        found.sort(key=lambda b: b.id, reverse=query["sortCreated"] == "desc")
    elif query.get("sortStart") == "desc":
        found.reverse()
    page = found[skip:skip + take]
    rest = max(0, len(found) - skip - len(page))
    return success([b.answer() for b in page], pagination={
        "totalItems": len(found), "remainingItems": rest, "returnedItems": len(page),
        "itemsPerPage": take, "currentPage": skip // take + 1,
        "totalPages": -(-len(found) // take), "hasNextPage": rest > 0,
        "hasPreviousPage": skip > 0})


# --- the rest -------------------------------------------------------------------------------------


def event_type(account, _request, uid):
    """GET /v2/event-types/{id}"""
    kind = account.event_type(uid)
    return success({"id": kind.id, "lengthInMinutes": kind.length, "title": kind.slug,
                    "slug": kind.slug, "description": "", "slotInterval": kind.interval,
                    "minimumBookingNotice": int(kind.notice / MINUTE), "teamId": kind.team,
                    "seatsPerTimeSlot": kind.seats if kind.seats > 1 else None,
                    "scheduleTimeZone": kind.time_zone, "metadata": {}})


def me(account, _request):
    """GET /v2/me"""
    return success({"id": 1, "username": account.name, "email": f"{account.name}@example.com",
                    "timeZone": "UTC"})


UID = r"([^/]+)"
# method, path, API version (None: any), function, does it tell subscribers?
ROUTES = [(method, re.compile(path), version, function, tells)
          for method, path, version, function, tells in (
    ("GET", r"/v2/slots", SLOTS_VERSION, slots, False),
    ("GET", r"/v2/slots/available", None, slots_available, False),
    ("POST", r"/v2/slots/reservations", SLOTS_VERSION, reserve, False),
    ("DELETE", rf"/v2/slots/reservations/{UID}", SLOTS_VERSION, unreserve, False),
    ("POST", r"/v2/bookings", BOOKINGS_VERSION, book, True),
    ("GET", r"/v2/bookings", BOOKINGS_VERSION, bookings, False),
    ("GET", rf"/v2/bookings/{UID}", BOOKINGS_VERSION, one_booking, False),
    ("POST", rf"/v2/bookings/{UID}/cancel", BOOKINGS_VERSION, cancel, True),
    ("POST", rf"/v2/bookings/{UID}/reschedule", BOOKINGS_VERSION, reschedule, True),
    ("GET", rf"/v2/event-types/{UID}", None, event_type, False),
    ("GET", r"/v2/me", None, me, False))]


def dispatch(account, request, notify):
    """Finds the endpoint and runs it."""
    for method, path, version, function, tells in ROUTES:
        match = path.fullmatch(request.path)
        if match and method == request.method and \
                version in (None, request.headers.get("cal-api-version")):
            extra = {"notify": notify} if tells else {}
            if match.groups():
                extra["uid"] = match[1]
            return function(account, request, **extra)
    raise not_found(f"Cannot {request.method} {request.path}")
