"""The soak's checker bites: after a short soak it finds nothing, and then each fault that is planted.

The soak itself, which kills and restarts: make soak.
"""
import pathlib
import sys
import time

import psycopg
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "soak"))

from calcom_model import Booking  # noqa: E402
from soak_check import Check  # noqa: E402
from soak_desks import App  # noqa: E402
from soak_phones import Gateway  # noqa: E402
from soak_play import settle, start_load  # noqa: E402
from soak_town import TOKENS, Town  # noqa: E402
from soak_watch import COLUMNS  # noqa: E402

COMPANIES, SECONDS = 12, 6


@pytest.fixture(scope="module")
def town(workspace, install):
    """A soak of some seconds, in which sessions and the worker are ended, but no server."""
    with Town(workspace, COMPANIES, seed=1, install=install) as place:
        place.build()
        place.cluster.wait_until(lambda: place.pid("http worker"), "the HTTP worker")
        load, end = start_load(place, 1), time.monotonic() + SECONDS
        while time.monotonic() < end or not busy(place.journal):
            place.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                      "WHERE usename = 'app' OR backend_type = 'tenantcall http worker' LIMIT 2")
            time.sleep(1)
        settle(place, load)
        place.stopping.clear()
        yield place


def busy(journal):
    """Has enough happened, so that every fault can be planted?"""
    return journal.counts["events"] > 200 and len(journal.bookings) > 10 and len(journal.functions) > 10


def plant_sql(town, table, statement):
    """Changes rows of a table past all triggers, which stay off."""
    town.sql(f"ALTER TABLE {table} DISABLE TRIGGER ALL; {statement}")


def a_call(town):
    """A call all of whose events are there."""
    return next(name for name, note in town.journal.calls.items() if note.acked["call_analyzed"] and note.acked["call_ended"]
                and not note.forgotten and note.owners() and not note.owners() & town.journal.deleted)


def event_of(town, event):
    """A condition that is true of one event."""
    return (f"event = '{event}' AND (company_id, call_id) IN (SELECT company_id, call_id FROM telephony.calls "
            f"WHERE provider_call_id = '{a_call(town)}')")


def moved_row(town):
    """A customer is another company's."""
    plant_sql(town, "telephony.customers", "UPDATE telephony.customers SET company_id = company_id + 1 WHERE customer_id = "
              "(SELECT min(customer_id) FROM telephony.customers WHERE company_id < 10)")


def deleted_event(town):
    """An event is gone."""
    plant_sql(town, "telephony.call_events", f"DELETE FROM telephony.call_events WHERE {event_of(town, 'call_started')}")


def doubled_event(town):
    """An event is there twice."""
    plant_sql(town, "telephony.call_events", "INSERT INTO telephony.call_events (company_id, call_id, call_at, event, received_at, "
              "last_received_at, body) SELECT company_id, call_id, call_at + interval '1 ms', event, received_at, last_received_at, body "
              f"FROM telephony.call_events WHERE {event_of(town, 'call_ended')}")


def standing(town):
    """A booking of ours at the calendar."""
    return next((account, booking) for account in town.calcom.accounts.values() for booking in account.bookings.values()
                if booking.status == "accepted" and booking.metadata.get("tenantcall") and booking.rescheduled_from is None)


def doubled_booking(town):
    """The calendar has the same booking once more, at another time."""
    account, booking = standing(town)
    account._keep(Booking(booking.event_type, booking.start.replace(hour=3), 30, booking.attendee, booking.metadata))


def lost_booking(town):
    """The calendar does not have what was confirmed."""
    standing(town)[1].status = "cancelled"


def lost_appointment(town):
    """An appointment that was acknowledged is gone."""
    firm, appointment = next(key for key, booking in town.journal.bookings.items() if not booking.firm.gone)
    plant_sql(town, "telephony.appointments",
              f"DELETE FROM telephony.appointments WHERE company_id = {firm} AND appointment_id = {appointment}")


def too_many_tokens(town):
    """A bucket is filled behind the limiter's back."""
    firm, gateway = town.hot[0], Gateway(town, 1)
    for _ in range(3):
        sent = time.monotonic()
        row, = gateway.line.rows("take_for", "SELECT count(*) FILTER (WHERE tenantcall.allow_for(%s, 'soak', g / g)) AS admitted "
                                 "FROM generate_series(1, %s) AS g", [firm.id, TOKENS])
        town.journal.took(firm.id, sent, time.monotonic(), row["admitted"])
        town.sql(f"SELECT tenantcall.reset_bucket('soak', {firm.id})")
    gateway.line.close()


def too_many_requests(town):
    """The calendar is asked too often."""
    for _ in range(121):
        town.calcom.arrivals.add("cal_account_0")


def foreign_rows(town):
    """A table is not scoped any more, and an app looks."""
    town.sql("SELECT tenantcall.unscope_table('telephony.customers')")
    app = App(town, 1)
    app.turn("see")
    app.line.close()


def lost_function(town):
    """A function call is gone."""
    key = next(key for key, done in town.journal.functions.items() if done.note.owners() and not done.note.forgotten
               and not done.note.owners() & town.journal.deleted)
    plant_sql(town, "telephony.function_calls", f"DELETE FROM telephony.function_calls WHERE idempotency_key = '{key}'")


def empty_pages(town):
    """A table had many rows, and all but the last are gone."""
    firm = town.journal.living()[0]
    plant_sql(town, "telephony.function_calls",
              "INSERT INTO telephony.function_calls (company_id, idempotency_key, name, lease_until) "
              f"SELECT {firm.id}, 'empty ' || g, repeat('x', 100), now() FROM generate_series(1, 40000) AS g; "
              "DELETE FROM telephony.function_calls WHERE idempotency_key LIKE 'empty %' "
              "AND idempotency_key <> 'empty 40000'")


def growing(rows, column, step):
    """Samples of which a column grows."""
    return [tuple(value + step * turn if name == column else value for name, value in zip(COLUMNS, row)) for turn, row in enumerate(rows)]


PLANTED = (
    (moved_row, "cross_tenant", "a row of telephony.customers bears the mark of another company"),
    (deleted_event, "lost", "an acknowledged event is missing"),
    (doubled_event, "doubled", "an event is there twice"),
    (doubled_booking, "booking", "the calendar has a booking twice"),
    (lost_booking, "booking", "confirmed, but the calendar does not have it"),
    (lost_appointment, "booking", "an acknowledged appointment is missing"),
    (too_many_tokens, "over_admission", "tokens too many"),
    (too_many_requests, "over_admission", "requests with key cal_account_0 in 60 s"),
    (foreign_rows, "cross_tenant", "an app saw foreign rows in customers"),
    (lost_function, "lost", "is missing"),
    (empty_pages, "growth", "telephony.function_calls: "),
)


@pytest.mark.limit(240)
def test_the_checker_bites(town):
    """Nothing is found at first; then everything that was planted."""
    flat = [tuple(10 * (column != "seconds") for column in COLUMNS)] * 40
    assert Check(town, flat).run() == []
    for plant, _, _ in PLANTED:
        plant(town)
    findings = Check(town, growing(flat, "worker_kb", 1000)).run()
    for plant, kind, text in PLANTED:
        assert [one for one in findings if one[0] == kind and text in one[1]], (plant.__doc__, findings)
    assert [text for kind, text in findings if kind == "growth" and text.startswith("worker_kb")]
    held = Check(town, flat, content={"telephony.function_calls": 8 << 20}).run()
    assert not [text for kind, text in held if kind == "growth"]


def test_what_is_not_expected_is_found(town):
    """A refusal that nobody expects, and a connection that breaks, are told apart."""
    app = App(town, 1)
    app.line.open()
    firm = town.journal.living()[0]
    before = len(town.journal.wrong)
    app.turn("cancel")
    with pytest.raises(Exception, match="PT404"):
        app.line.inside(firm, None, "planted", [("SELECT tenantcall.cancel_booking(1000000000)", ())])
    assert [text for kind, text in town.journal.wrong if kind == "error" and text.startswith("planted: PT404")]
    assert len(town.journal.wrong) == before + 1
    assert isinstance(app.line.connection, psycopg.Connection)
    app.line.close()
