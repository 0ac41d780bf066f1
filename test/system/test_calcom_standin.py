"""The local Cal.com itself: shapes, refusals, limits, webhooks and each of its faults."""
import datetime
import hashlib
import hmac
import http.client
import json
import socket
import ssl
import struct
import threading
import time
import urllib.error
import urllib.request

import pytest
from calcom_limit import Arrivals, Limit

KEY = "cal_key_a"
SLOTS, BOOKINGS = "2024-09-04", "2024-08-13"
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
ALWAYS = {day: [("00:00", "24:00")] for day in range(7)}


class Client:
    """What a client of the API does, with the standard library."""

    def __init__(self, calcom, key=KEY, version=BOOKINGS):
        self.calcom, self.key, self.version = calcom, key, version

    def ask(self, method, target, body=None, version=None, timeout=10, url=None):
        """A request; returns (status, headers, parsed body)."""
        request = urllib.request.Request(
            (url or self.calcom.url) + target, method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json",
                     "cal-api-version": version or self.version})
        try:
            with DIRECT.open(request, timeout=timeout) as answer:
                return answer.status, answer.headers, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, json.loads(error.read() or b"null")

    def slots(self, number=501, **query):
        """Free slots, new shape: the data of the answer."""
        status, _, body = self.ask("GET", slots_target(number, **query), version=SLOTS)
        assert status == 200, body
        return body["data"]

    def book(self, start, number=501, **more):
        """A booking; returns (status, data or error)."""
        status, _, body = self.ask("POST", "/v2/bookings", {
            "eventTypeId": number, "start": start, "attendee": {
                "name": "Ada", "email": "ada@example.com", "timeZone": "Europe/Berlin"}, **more})
        return status, body.get("data", body.get("error"))


def slots_target(number=501, **query):
    """The path of a slots request."""
    query = {"start": MONDAY, "end": MONDAY, **query}
    return f"/v2/slots?eventTypeId={number}&" + urllib.parse.urlencode(query)


def next_monday():
    """A Monday in a week or two."""
    day = datetime.date.today() + datetime.timedelta(days=7)
    return (day + datetime.timedelta(days=-day.weekday() % 7)).isoformat()


MONDAY = next_monday()


@pytest.fixture
def client(calcom):
    """A client of an account with one event type, half an hour long."""
    calcom.account(KEY, webhook_secret="whsec_test")
    calcom.event_type(KEY, 501, slug="cut", username="hair", time_zone="UTC")
    return Client(calcom)


def test_slots_in_both_shapes(client):
    """New, range, by slug, in a time zone, and old."""
    assert client.slots()[MONDAY][0] == {"start": f"{MONDAY}T09:00:00.000Z"}
    assert len(client.slots()[MONDAY]) == 16
    spans = client.slots(format="range", timeZone="Asia/Kolkata")[MONDAY]
    assert spans[0] == {"start": f"{MONDAY}T14:30:00.000+05:30", "end": f"{MONDAY}T15:00:00.000+05:30"}
    assert len(client.slots(duration=60)[MONDAY]) == 15
    status, _, body = client.ask("GET", f"/v2/slots?eventTypeSlug=cut&username=hair&start={MONDAY}"
                                 f"T10:00:00Z&end={MONDAY}T11:00:00Z", version=SLOTS)
    assert (status, [s["start"][11:16] for s in body["data"][MONDAY]]) == (200, ["10:00", "10:30"])
    status, _, body = client.ask("GET", f"/v2/slots/available?eventTypeId=501&startTime={MONDAY}"
                                 f"T09:00:00Z&endTime={MONDAY}T09:30:00Z")
    assert (status, body["data"]) == (200, {"slots": {MONDAY: [{"time": f"{MONDAY}T09:00:00.000Z"}]}})


@pytest.mark.parametrize("day, hours", [("2027-03-28", 23), ("2027-10-31", 25)])
def test_days_of_23_and_25_hours(client, calcom, day, hours):
    """A day that is open around the clock has as many hourly slots as it has hours."""
    calcom.event_type(KEY, 502, length=60, time_zone="Europe/Berlin", hours=ALWAYS)
    after = (datetime.date.fromisoformat(day) + datetime.timedelta(days=1)).isoformat()
    before = (datetime.date.fromisoformat(day) - datetime.timedelta(days=1)).isoformat()
    days = client.slots(502, start=before, end=after, timeZone="Europe/Berlin")
    assert len(days[day]) == hours
    assert len({slot["start"] for slot in days[day]}) == hours


def test_booking_moves_and_ends(client, calcom):
    """Booked, seen by slots and list, moved to a new uid, cancelled."""
    status, made = client.book(f"{MONDAY}T09:00:00Z", metadata={"tenantcall_key": "k1"})
    assert (status, made["status"], made["metadata"]) == (201, "accepted", {"tenantcall_key": "k1"})
    assert client.slots()[MONDAY][0]["start"] == f"{MONDAY}T09:30:00.000Z"
    status, refused = client.book(f"{MONDAY}T09:00:00Z")
    assert status == 400 and "already has booking" in refused["message"]
    calcom.conflict_status = 409
    assert client.book(f"{MONDAY}T09:00:00Z")[0] == 409
    assert client.book(f"{MONDAY}T07:00:00Z")[0] == 409  # not offered
    status, _, body = client.ask("POST", f"/v2/bookings/{made['uid']}/reschedule",
                                 {"start": f"{MONDAY}T09:00:00Z"})
    moved = body["data"]
    assert status == 201 and moved["uid"] != made["uid"]
    assert moved["rescheduledFromUid"] == made["uid"]
    status, _, body = client.ask("GET", f"/v2/bookings/{made['uid']}")
    assert (body["data"]["status"], body["data"]["rescheduledToUid"]) == ("cancelled", moved["uid"])
    status, _, body = client.ask(
        "GET", f"/v2/bookings?attendeeEmail=ada@example.com&eventTypeId=501&afterStart={MONDAY}"
        f"&beforeEnd={MONDAY}&status=upcoming&take=1")
    assert [b["uid"] for b in body["data"]] == [moved["uid"]]
    assert body["pagination"]["hasNextPage"] is False
    assert client.ask("POST", f"/v2/bookings/{moved['uid']}/cancel", {"cancellationReason": "x"})[0] == 200
    assert client.ask("POST", f"/v2/bookings/{moved['uid']}/cancel", {})[0] == 400
    assert (calcom.made("tenantcall_key", "k1"), calcom.twice_made("tenantcall_key")) == (1, {})
    assert client.slots()[MONDAY][0]["start"] == f"{MONDAY}T09:00:00.000Z"


def test_what_the_vendor_refuses(client, calcom):
    """Keys, versions, other accounts' event types, bodies, metadata, the past."""
    calcom.event_type(calcom.account("cal_key_b"), 777)
    assert Client(calcom, "wrong").ask("GET", "/v2/me")[0] == 401
    assert client.ask("GET", slots_target(777), version=SLOTS)[0] == 404
    assert client.ask("GET", slots_target())[0] == 404  # the bookings' version
    assert client.ask("GET", "/v2/bookings/none")[0] == 404
    assert client.ask("GET", "/v2/event-types/501")[2]["data"]["lengthInMinutes"] == 30
    at = f"{MONDAY}T09:00:00Z"
    for wrong in ({"attendee": {"name": "Ada", "timeZone": "UTC"}}, {"metadata": {"k" * 41: ""}},
                  {"metadata": {"k": "v" * 501}}, {"metadata": {str(i): "" for i in range(51)}},
                  {"start": "2020-01-06T09:00:00Z"}, {"start": "soon"}):
        assert client.book(**{"start": at, **wrong})[0] == 400, wrong
    assert client.book(at, metadata={"k" * 40: "v" * 500})[0] == 201


def test_reservations(client):
    """Kept for one, hidden from slots, 422 for the next; the reserver can book."""
    body = {"eventTypeId": 501, "slotStart": f"{MONDAY}T09:00:00Z", "reservationDuration": 5}
    reserve = ("POST", "/v2/slots/reservations", body, SLOTS)
    status, _, kept = client.ask(*reserve)
    assert status == 201 and kept["data"]["reservationUid"]
    assert client.ask(*reserve)[0] == 422
    assert client.slots()[MONDAY][0]["start"] == f"{MONDAY}T09:30:00.000Z"
    assert client.book(f"{MONDAY}T09:00:00Z")[0] == 201
    assert client.ask(*reserve)[2]["error"]["message"].startswith("Can't reserve a slot")


def test_limit_is_a_fixed_window_with_a_block():
    """On a clock of its own: so many in a window, then the block, then a new window."""
    limit = Limit(limit=3, window=60, block=60)
    told = [limit.hit("a", at) for at in (0, 1, 50, 55, 59, 100, 114.9, 115)]
    assert [allowed for allowed, _ in told] == [True] * 3 + [False] * 4 + [True]
    assert [h["X-RateLimit-Reset-Default"] for _, h in told] == [60, 59, 10, 60, 56, 15, 1, 60]
    assert [h["X-RateLimit-Remaining-Default"] for _, h in told] == [2, 1, 0, 0, 0, 0, 0, 2]
    assert limit.hit("b", 56)[0]
    arrivals = Arrivals()
    for at in (0, 59, 60, 118, 119.5, 119.9, 200):
        arrivals.add("a", at)
    assert (arrivals.most("a"), arrivals.most(), arrivals.most("a", 1)) == (4, 4, 2)


def test_limit_over_http(make_calcom):
    """429 with the vendor's headers, per key; every arrival counts."""
    calcom = make_calcom(limit=5)
    codes = [Client(calcom, calcom.account(KEY)).ask("GET", "/v2/me")[0] for _ in range(7)]
    assert codes == [200] * 5 + [429] * 2
    status, headers, body = Client(calcom, KEY).ask("GET", "/v2/me")
    assert (status, headers["X-RateLimit-Limit-Default"]) == (429, "5")
    assert headers["X-RateLimit-Remaining-Default"] == "0" and headers["Retry-After"] is None
    assert body["error"]["code"] == "ThrottlerException"
    assert Client(calcom, calcom.account("other")).ask("GET", "/v2/me")[0] == 200
    assert (calcom.most_in_window(KEY), calcom.most_in_window("other")) == (8, 1)


def test_webhooks(client, calcom):
    """Signed; created, moved, cancelled; flat; held back, reversed and doubled."""
    got = []
    calcom.account(KEY, webhook_target=lambda body, headers: got.append((body, headers)))
    calcom.webhooks.hold()
    uid = client.book(f"{MONDAY}T09:00:00Z")[1]["uid"]
    new = client.ask("POST", f"/v2/bookings/{uid}/reschedule",
                     {"start": f"{MONDAY}T10:00:00Z"})[2]["data"]["uid"]
    calcom.emit(KEY, "MEETING_STARTED", new)
    calcom.emit(KEY, "BOOKING_NO_SHOW_UPDATED", new)
    client.ask("POST", f"/v2/bookings/{new}/cancel", {"cancellationReason": "ill"})
    assert got == []
    calcom.webhooks.release("reversed", copies=2)
    calcom.webhooks.wait()
    bodies = [json.loads(body) for body, _ in got]
    assert [b["triggerEvent"] for b in bodies] == 2 * [
        "BOOKING_CANCELLED", "BOOKING_NO_SHOW_UPDATED", "MEETING_STARTED", "BOOKING_RESCHEDULED",
        "BOOKING_CREATED"]
    assert bodies[1]["payload"]["bookingUid"] == bodies[2]["uid"] == new
    assert (bodies[3]["payload"]["rescheduleUid"], bodies[3]["payload"]["uid"]) == (uid, new)
    for body, headers in got:
        assert headers["X-Cal-Signature-256"] == \
            hmac.new(b"whsec_test", body, hashlib.sha256).hexdigest()
    calcom.account("silent", webhook_target=lambda *_: None)
    calcom.event_type("silent", 900)
    calcom.book_elsewhere("silent", 900, f"{MONDAY}T09:00:00Z")
    assert calcom.webhooks.sent[-1][1]["X-Cal-Signature-256"] == "no-secret-provided"


@pytest.mark.parametrize("fault, status", [
    ({"fault": "status"}, 500), ({"fault": "status", "code": 503, "body": "down"}, 503),
    ({"fault": "unauthorized"}, 401), ({"fault": "forbidden"}, 403), ({"fault": "not_found"}, 404),
    ({"fault": "taken"}, 400), ({"fault": "taken", "code": 409}, 409)])
def test_faults_that_answer(client, calcom, fault, status):
    """Once, then all is well."""
    calcom.fault(**fault)
    request = urllib.request.Request(calcom.url + "/v2/me",
                                     headers={"Authorization": f"Bearer {KEY}"})
    with pytest.raises(urllib.error.HTTPError) as raised:
        DIRECT.open(request)
    assert raised.value.code == status
    raised.value.close()
    assert client.ask("GET", "/v2/me")[0] == 200


def test_429_in_every_style(client, calcom):
    """The headers of each."""
    now, seen = time.time(), {}
    for style in ("none", "retry_after", "retry_after_date", "reset_seconds", "reset_unix",
                  "reset_ms", "plain"):
        calcom.fault("rate_limited", style=style, seconds=30)
        status, headers, _ = client.ask("GET", "/v2/me")
        assert status == 429
        seen[style] = headers["Retry-After"] or headers["X-RateLimit-Reset-Default"] or \
            headers["X-RateLimit-Reset"]
    assert (seen["none"], seen["retry_after"], seen["reset_seconds"], seen["plain"]) == \
        (None, "30", "30", "30")
    assert seen["retry_after_date"].endswith(" GMT")
    assert 0 <= int(seen["reset_unix"]) - int(now) - 30 < 60
    assert 0 <= int(seen["reset_ms"]) // 1000 - int(now) - 30 < 60


@pytest.mark.parametrize("fault", ["refuse", "close", "drop", "reset", "truncated"])
def test_faults_that_break_off(client, calcom, fault):
    """The client sees an error; whether the booking was made is the fault's to say."""
    rule = calcom.fault(fault, path="/v2/bookings", method="POST")
    with pytest.raises((OSError, http.client.HTTPException, ValueError)):
        client.book(f"{MONDAY}T09:00:00Z", metadata={"tenantcall_key": "k"})
    assert rule.met == 1
    assert calcom.made("tenantcall_key", "k") == (fault in ("drop", "reset", "truncated"))


def test_drop_is_a_reset(client, calcom):
    """RST, not an orderly end."""
    calcom.fault("drop")
    with socket.create_connection(("127.0.0.1", calcom.ports["http"])) as sock:
        sock.sendall(f"GET /v2/me HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            sock.recv(100)


def test_faults_that_take_their_time(client, calcom):
    """hang, slow: not made when the client leaves; late: made all the same."""
    for fault, made in (("hang", 0), ("slow", 0), ("late", 1)):
        calcom.fault(fault, path="/v2/bookings", seconds=0.4)
        with pytest.raises(OSError):
            client.ask("POST", "/v2/bookings", {
                "eventTypeId": 501, "start": f"{MONDAY}T09:00:00Z", "attendee": {
                    "name": fault, "email": "a@b.de", "timeZone": "UTC"},
                "metadata": {"tenantcall_key": fault}}, timeout=0.1)
        until(lambda: calcom.connections() == 0)
        until(lambda: not calcom._tasks)
        assert calcom.made("tenantcall_key", fault) == made
    calcom.fault("slow", seconds=0.05)
    assert client.ask("GET", "/v2/me")[0] == 200


def until(condition, timeout=20):
    """Waits for a condition."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("fault", ["endless", "endless_headers", "large"])
def test_floods(client, calcom, fault):
    """They go on until the client has enough."""
    calcom.fault(fault)
    with socket.create_connection(("127.0.0.1", calcom.ports["http"])) as sock:
        sock.sendall(f"GET /v2/me HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
        got = 0
        while got < 3 << 20:
            piece = sock.recv(1 << 16)
            assert piece
            got += len(piece)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: calcom.connections() == 0 and not calcom._tasks)


def test_wrong_answers(client, calcom):
    """Wrong JSON, no JSON, another type, a redirect, every slot twice."""
    calcom.fault("wrong_json")
    assert client.ask("GET", "/v2/me")[2]["data"] == {"hosts": [1, 2, 3]}
    calcom.fault("not_json")
    with pytest.raises(ValueError):
        client.ask("GET", "/v2/me")
    calcom.fault("content_type")
    assert client.ask("GET", "/v2/me")[1]["Content-Type"] == "text/html"
    calcom.fault("duplicates")
    assert len(client.slots()[MONDAY]) == 32
    calcom.fault("trickle", seconds=0.001)
    assert client.ask("GET", "/v2/me")[0] == 200
    calcom.fault("redirect", times=None, location="http://127.0.0.1:1/")
    connection = http.client.HTTPConnection("127.0.0.1", calcom.ports["http"])
    connection.request("GET", "/v2/me")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Location"]) == (302, "http://127.0.0.1:1/")
    connection.close()


def test_rules_choose_their_requests(client, calcom):
    """By path, method, key and number."""
    calcom.fault("status", path="/v2/bookings", method="GET", after=1, times=2)
    assert [client.ask("GET", "/v2/bookings")[0] for _ in range(4)] == [200, 500, 500, 200]
    calcom.fault("status", regex=True, path=r"eventTypeId=5\d\d", times=None, key="other")
    assert client.slots()
    with pytest.raises(ValueError):
        calcom.fault("no such thing")
    assert calcom.count("/v2/bookings", "GET") == 4
    assert [e.status for e in calcom.requests("/v2/bookings")] == [200, None, None, 200]


def test_tls(client, calcom):
    """A good certificate, and three bad ones."""
    if calcom.ca_file is None:
        pytest.skip("openssl is not installed")
    context = ssl.create_default_context(cafile=str(calcom.ca_file))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}),
                                         urllib.request.HTTPSHandler(context=context))
    request = "/v2/me"
    with pytest.raises(urllib.error.HTTPError) as raised:
        opener.open(calcom.tls_url + request)
    assert raised.value.code == 401
    raised.value.close()
    for kind in ("wrong_name", "expired", "untrusted"):
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            opener.open(calcom.bad_tls_url(kind) + request)


def test_control_over_http(client, calcom):
    """What the methods do can be told over HTTP, and is no request of the vendor's."""
    def post(command, body):
        return client.ask("POST", f"/_control/{command}", body)[:3:2]

    assert post("accounts", {"key": "k2"})[0] == 200
    assert post("event_types", {"key": "k2", "number": 7, "hours": {"0": [["09:00", "10:00"]]}})[0] == 200
    status, made = post("book", {"key": "k2", "number": 7, "start": f"{MONDAY}T09:00:00Z"})
    assert status == 200
    assert post("faults", [{"fault": "hang", "path": "/x"}])[0] == 200
    assert post("faults", {"fault": "nonsense"})[0] == 400
    assert post("nonsense", {})[0] == 404
    state = client.ask("GET", "/_control")[2]
    assert [b["uid"] for b in state["bookings"]] == [made["result"]]
    assert (state["requests"], [f["fault"] for f in state["faults"]]) == (0, ["hang"])


def test_many_connections_at_once(make_calcom):
    """200 at the same moment, each booking its own time: all made, once each."""
    calcom = make_calcom(limit=None)
    calcom.event_type(calcom.account(KEY), 501, length=5, hours=ALWAYS)
    day, told = datetime.datetime.fromisoformat(MONDAY + "T00:00:00"), []

    def book(n):
        start = (day + datetime.timedelta(minutes=5 * n)).isoformat() + "Z"
        told.append(Client(calcom).book(start, metadata={"tenantcall_key": str(n)})[0])

    threads = [threading.Thread(target=book, args=[n]) for n in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == [201] * 200
    assert calcom.twice_made("tenantcall_key") == {} and len(calcom.bookings()) == 200


def test_nginx(calcom_fast):
    """The fast one answers too."""
    with DIRECT.open(calcom_fast.url + "/v2/slots?eventTypeId=1") as answer:
        assert json.loads(answer.read())["status"] == "success"
