"""soak_desks: applications, which enter by token, read, write, and book; and an administrator."""
import datetime
import time

from soak_journal import MARK, Booking, mark
from soak_line import Refused
from soak_phones import Load

UTC = datetime.timezone.utc
TABLES = ("companies", "branches", "phone_numbers", "services", "customers", "calls", "call_events", "call_transitions",
          "tenant_decisions", "function_calls", "slot_holds", "appointments")
SEEN = " UNION ALL ".join(
    f"SELECT '{table}' AS relation, count(*) AS rows, count(*) FILTER (WHERE company_id IS DISTINCT FROM %(company)s) AS foreign_rows "
    f"FROM telephony.{table}" for table in TABLES)
NAMED = ("SELECT name FROM telephony.customers UNION ALL SELECT name FROM telephony.services UNION ALL "
         "SELECT left(transcript, 60) FROM telephony.calls")
BOOKABLE = ("PT409", "PT503", "PT404")


def some_day(random):
    """A workday of the next weeks, from midnight to midnight UTC."""
    today = datetime.datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    monday = today + datetime.timedelta(days=14 - today.weekday())
    return monday + datetime.timedelta(days=7 * random.randrange(8) + random.randrange(5))


class App(Load):
    """One application process."""

    deeds = ((34, "see"), (10, "write"), (14, "slots"), (26, "book"), (8, "cancel"), (8, "move"), (6, "spend"))

    def __init__(self, town, seed):
        super().__init__(town, "app", seed)

    def firm(self):
        """A company and one of its branches; one of ten is one of few, so that they meet."""
        firms = self.town.hot if self.random.random() < 0.1 else self.journal.living()
        firm = self.random.choice(firms)
        return firm, self.random.choice(firm.branches)

    def see(self):
        """Whatever a query shows is the company's own."""
        firm, branch = self.firm()
        counts, names = self.line.inside(firm, branch, "reading", [(SEEN, {"company": firm.id}), (NAMED, ())])
        for row in counts:
            self.journal.count("rows seen", row["rows"])
            if row["foreign_rows"]:
                self.journal.violation("cross_tenant", f"an app saw foreign rows in {row['relation']}")
        for row in names:
            found = MARK.search(row["name"] or "")
            if found and int(found[1]) != firm.id:
                self.journal.violation("cross_tenant", "an app read a text of another company")
        own = next(row["rows"] for row in counts if row["relation"] == "companies")
        if own != 1 and not firm.gone:
            self.journal.violation("lost", f"an app saw {own} rows of its company")

    def write(self):
        """A customer, who may be changed later."""
        firm, branch = self.firm()
        self.line.inside(firm, branch, "writing", [
            ("INSERT INTO telephony.customers (name, email) VALUES (%s, %s)", [f"{mark(firm.id)} customer", "a@example.com"]),
            ("UPDATE telephony.customers SET email = %s WHERE customer_id = (SELECT min(customer_id) FROM telephony.customers)",
             [f"{self.town.next()}@example.com"]),
            ("DELETE FROM telephony.customers WHERE customer_id IN (SELECT customer_id FROM telephony.customers "
             "WHERE name LIKE '%%customer' ORDER BY customer_id DESC OFFSET 30)", ())])

    def slots(self):
        """Free slots; or alternatives to one."""
        firm, branch = self.firm()
        day = some_day(self.random)
        question = ("SELECT count(*) FROM tenantcall.available_slots(%s, %s, %s, max_wait => '2 s')",
                    [firm.services[0], day, day + datetime.timedelta(days=self.random.randrange(1, 8))])
        if self.random.random() < 0.4:
            question = ("SELECT count(*) FROM tenantcall.alternative_slots(%s, %s, max_wait => '2 s')",
                        [firm.services[0], day + datetime.timedelta(hours=10)])
        self.line.inside(firm, branch, "asking for slots", [question], may=BOOKABLE)

    def hold(self, firm, branch):
        """Holds a slot that is free, or one that may not be; the hold, and when it starts."""
        day = some_day(self.random)
        starts = day + datetime.timedelta(hours=9, minutes=30 * self.random.randrange(12))
        if self.random.random() < 0.6:
            rows, = self.line.inside(firm, branch, "asking for slots", [(
                "SELECT starts_at FROM tenantcall.available_slots(%s, %s, %s, max_wait => '2 s')",
                [firm.services[0], day, day + datetime.timedelta(days=1)])], may=BOOKABLE)
            if rows:
                starts = self.random.choice(rows)["starts_at"]
        (row,), = self.line.inside(firm, branch, "hold_slot", [(
            "SELECT tenantcall.hold_slot(%s, %s, NULL) AS hold", [firm.services[0], starts])], may=BOOKABLE)
        return row["hold"], starts

    def book(self):
        """Holds, books, and sometimes waits for the result, or lets go."""
        firm, branch = self.firm()
        hold, starts = self.hold(firm, branch)
        if self.random.random() < 0.1:
            self.line.inside(firm, branch, "release_hold", [("SELECT tenantcall.release_hold(%s)", [hold])], may=BOOKABLE)
            return
        who = f"{mark(firm.id)}.{self.town.next()}"
        (row,), = self.line.inside(firm, branch, "book", [(
            "SELECT tenantcall.book(%s, jsonb_build_object('name', %s::text, 'email', %s::text)) AS appointment",
            [hold, who, f"{who}@example.com"])], may=BOOKABLE)
        booking = self.note(firm, row["appointment"], starts)
        if self.random.random() < 0.3:
            self.result(booking, branch)

    def note(self, firm, appointment, starts):
        """An appointment is acknowledged."""
        booking = Booking(firm, appointment, starts)
        with self.journal.lock:
            if (firm.id, appointment) in self.journal.bookings:
                self.journal.wrong["booking", "an appointment was given out twice"] += 1
            self.journal.bookings[firm.id, appointment] = booking
        return booking

    def result(self, booking, branch):
        """What became of it; who was told "confirmed" has it."""
        (row,), = self.line.inside(booking.firm, branch, "booking_result", [(
            "SELECT * FROM tenantcall.booking_result(%s, '3 s')", [booking.id])], may=BOOKABLE)
        if row["status"] == "confirmed":
            booking.uid = row["uid"]

    def one_of_ours(self):
        """An appointment of a company that is there."""
        with self.journal.lock:
            some = list(self.journal.bookings.values())[-500:]
        booking = self.random.choice(some) if some else None
        return booking if booking and not booking.firm.gone else None

    def cancel(self):
        """Cancels an appointment."""
        booking = self.one_of_ours()
        if booking:
            self.line.inside(booking.firm, booking.firm.branches[0], "cancel_booking", [(
                "SELECT tenantcall.cancel_booking(%s, 'soak')", [booking.id])], may=BOOKABLE)

    def move(self):
        """Moves an appointment into another slot."""
        booking = self.one_of_ours()
        if not booking:
            return
        branch = booking.firm.branches[0]
        hold, starts = self.hold(booking.firm, branch)
        try:
            (row,), = self.line.inside(booking.firm, branch, "reschedule_booking", [(
                "SELECT tenantcall.reschedule_booking(%s, %s) AS appointment", [booking.id, hold])], may=BOOKABLE)
        except Refused:
            self.line.inside(booking.firm, branch, "release_hold", [("SELECT tenantcall.release_hold(%s)", [hold])],
                             may=BOOKABLE)
            return
        self.note(booking.firm, row["appointment"], starts)

    def spend(self):
        """Tokens of a company that uses up what it has."""
        firm = self.random.choice(self.town.hot)
        sent = time.monotonic()
        (row,), = self.line.inside(firm, None, "allow", [(
            "SELECT count(*) FILTER (WHERE tenantcall.allow('soak', g / g)) AS admitted FROM generate_series(1, %s) AS g",
            [self.random.randrange(1, 40)])])
        self.journal.took(firm.id, sent, time.monotonic(), row["admitted"])


class Admin(Load):
    """An administrator: the directory changes, callers are forgotten, upkeep is done."""

    deeds = ((14, "transfer"), (8, "suspend"), (10, "forget"), (4, "export"), (6, "found"), (5, "delete"),
             (4, "adopt"), (18, "upkeep"), (4, "policy"), (4, "statistics"))
    UPKEEP = ("roll_up_usage()", "maintain_partitions(months => 3)", "expire_rows()", "expire_call_leases()", "expire_holds()",
              "close_stuck_calls('20 s')", "unmapped_reasons()", "replay_outbox()", "company_usage(current_date - 1, current_date)")
    VIEWS = ("stat_rate_limits", "stat_outbox", "stat_cache", "stat_call_leases", "stat_http", "stat_http_companies",
             "scoped_tables", "tracked_tables", "quarantined", "rate_table()", "stat_calls", "stat_companies", "stat_context",
             "maintenance_status()", "health()", "report()")

    def __init__(self, town, seed):
        super().__init__(town, "admin", seed, pace=0.15)

    def transfer(self):
        """A number goes from one company to another, which lasting calls do not notice."""
        donor, other = self.random.sample(self.town.hot, 2)
        if len(donor.numbers) < 2 or len(other.numbers) > 6:
            return
        number = self.random.choice(donor.numbers)
        number.change([donor.id, other.id])
        try:
            self.line.rows("move_number", "SELECT tenantcall.move_number(%s, %s, %s)",
                           [number.text, other.id, other.branches[0]])
        finally:
            self.settle(number, donor, other)

    def settle(self, number, donor, other):
        """Whose it is now, the server knows."""
        while True:
            try:
                row, = self.line.rows("looking up", "SELECT company_id FROM tenantcall.resolve_phone(%s)", [number.text])
                break
            except Exception:  # the connection broke once more
                if self.town.stopping.is_set():
                    return
        number.change([row["company_id"]])
        if row["company_id"] not in (donor.id, other.id):
            self.journal.violation("cross_tenant", "a number belongs to a company that never had it")
        if row["company_id"] == other.id:
            donor.numbers.remove(number)
            other.numbers.append(number)

    def suspend(self):
        """A company is suspended for a moment."""
        firm = self.random.choice(self.journal.living())
        with firm.lock:
            for status in ("suspended", "active"):
                self.line.rows("set_company_status", "SELECT tenantcall.set_company_status(%s, %s, 'soak')",
                               [firm.id, status])
                time.sleep(0.05)

    def forget(self):
        """A caller whose call is over wants to be forgotten."""
        past = list(self.journal.past)
        note = self.random.choice(past)[0] if past else None
        owners = note.owners() if note else None
        if not owners or len(owners) > 1 or owners & self.journal.deleted:
            return
        company, = owners
        note.forgotten = "perhaps"
        self.line.rows("forget_caller", "SELECT * FROM tenantcall.forget_caller(%s, %s)", [note.caller, company], may=("PT404",))
        note.forgotten = "surely"

    def export(self):
        """What is exported of a company is its own."""
        firm = self.random.choice(self.journal.living())
        rows = self.line.rows("export_company", "SELECT relation, data->>'company_id' AS company, data::text AS text "
                              "FROM tenantcall.export_company(%s)", [firm.id], may=("PT404",))
        for row in rows:
            if row["company"] not in (None, str(firm.id)):
                self.journal.violation("cross_tenant", f"an export held a foreign row of {row['relation']}")
            if any(int(found) != firm.id for found in MARK.findall(row["text"])):
                self.journal.violation("cross_tenant", f"an export held a foreign text in {row['relation']}")

    def found(self):
        """A new company."""
        if len(self.journal.living()) < self.town.size * 1.1:
            self.town.found(self.line)

    def delete(self):
        """A company goes with all that it has, also while its phones ring."""
        firms = [firm for firm in self.journal.living() if firm not in self.town.hot]
        if len(firms) < self.town.size * 0.8:
            return
        firm = self.random.choice(firms)
        with firm.lock:
            self.journal.deleted.add(firm.id)
            firm.gone = True
            self.line.rows("set_company_status", "SELECT tenantcall.set_company_status(%s, 'suspended', 'soak')", [firm.id])
            self.remove(firm)

    def remove(self, firm):
        """Deletes it, however often it takes."""
        self.line.rows("delete_company", "SELECT * FROM tenantcall.delete_company(%s)", [firm.id],
                       may=("PT404", "55P03", "PT409"))

    def adopt(self):
        """A number that was nobody's is assigned, and what waited for it is replayed."""
        if len(self.town.nobodys) < 2 or self.journal.now() < 5:
            return
        number = self.random.choice(self.town.nobodys)
        self.give(number, self.random.choice(self.town.hot))

    def give(self, number, firm):
        """Assigns, to the same company as the last time, and replays."""
        owners = next((owners for owners in number.owners if owners), None)
        if owners is None:
            number.change([firm.id])
        else:
            firm = self.journal.firms[min(owners)]
        self.line.rows("assign_number", "SELECT tenantcall.assign_number(%s, %s, %s)",
                       [number.text, firm.id, firm.branches[0]], may=("PT409",))
        rows = self.line.rows("replay_quarantined", "SELECT company_id FROM tenantcall.replay_quarantined(%s, "
                              "now() - interval '1 day')", [number.text])
        if any(row["company_id"] not in (None, firm.id) for row in rows):
            self.journal.violation("cross_tenant", "a replay went to another company")

    def upkeep(self):
        """Maintenance, all at once or a part of it."""
        if self.random.random() < 0.3:
            self.line.rows("run_maintenance", "CALL tenantcall.run_maintenance()", may=("55P03",))
            return
        self.line.rows("upkeep", f"SELECT count(*) FROM tenantcall.{self.random.choice(self.UPKEEP)}", may=("55P03",))

    def policy(self):
        """Policies come and go."""
        self.line.rows("set_rate_policy", "SELECT tenantcall.set_rate_policy(%s, %s, '1 minute', company_id => %s)",
                       ["webhook", self.random.randrange(1, 1000), self.random.choice(self.journal.living()).id], may=("PT404", "23503"))

    def statistics(self):
        """All that an operator looks at."""
        self.line.rows("statistics", f"SELECT * FROM tenantcall.{self.random.choice(self.VIEWS)}")
