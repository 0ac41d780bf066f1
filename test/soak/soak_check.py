"""soak_check: what must hold at the end of a soak.  Each finding is a pair (kind, text).

    kinds: cross_tenant, lost, doubled, merged, booking, over_admission, growth, isolation, and those
    that the load itself has noted: error, outcome, function, server, load

What was acknowledged must be there once; what was sent and not answered may be there, once; nothing
else may.  Companies that were deleted have left nothing.
"""
import collections

from soak_journal import MARK
from soak_town import PER, TOKENS
from soak_watch import judge

DEAD = 1000  # rows: upkeep goes on while we look
SHOWN = 5  # examples in the text of a finding
MOST_IN_MINUTE = 120
TABLES = """SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND attname = 'company_id'
    WHERE relnamespace = 'telephony'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY 1"""
EVENTS = """CREATE TEMP TABLE soak_calls (call text PRIMARY KEY, owners bigint[], statuses text[], transcript text, forgotten text, caller text);
CREATE TEMP TABLE soak_events (call text, event text, sent int, acked int, PRIMARY KEY (call, event));
CREATE TEMP TABLE soak_deleted (company_id bigint PRIMARY KEY)"""
# name, query that must give no rows, kind
QUERIES = (
    ("a call of a company that has none such", "cross_tenant", """SELECT c.provider_call_id, c.company_id FROM telephony.calls AS c
        JOIN soak_calls AS s ON s.call = c.provider_call_id WHERE NOT c.company_id = ANY (s.owners)"""),
    ("a call that nobody has made", "cross_tenant", """SELECT c.provider_call_id, c.company_id FROM telephony.calls AS c
        LEFT JOIN soak_calls AS s ON s.call = c.provider_call_id WHERE s.call IS NULL"""),
    ("an event whose body is of another call", "cross_tenant", """SELECT e.company_id, e.call_id, e.event FROM telephony.call_events AS e
        JOIN telephony.calls AS c USING (company_id, call_id) JOIN soak_calls AS s ON s.call = c.provider_call_id
        WHERE s.forgotten IS NULL AND strpos(e.body, '"call_id":"' || c.provider_call_id || '"') = 0"""),
    ("a binding to another company", "cross_tenant", """SELECT b.provider_call_id, b.company_id FROM tenantcall.call_bindings AS b
        JOIN telephony.calls AS c USING (provider_call_id) WHERE b.company_id <> c.company_id"""),
    ("a call with an acknowledged event is missing", "lost", """SELECT DISTINCT s.call FROM soak_events AS s
        WHERE s.acked > 0 AND NOT EXISTS (SELECT FROM telephony.calls AS c WHERE c.provider_call_id = s.call)"""),
    ("an acknowledged event is missing", "lost", """SELECT s.call, s.event FROM soak_events AS s
        JOIN telephony.calls AS c ON c.provider_call_id = s.call WHERE s.acked > 0 AND NOT EXISTS
        (SELECT FROM telephony.call_events AS e WHERE (e.company_id, e.call_id, e.event) = (c.company_id, c.call_id, s.event))"""),
    ("a call is there twice", "doubled", """SELECT provider_call_id, count(*) FROM telephony.calls
        GROUP BY provider_call_id HAVING count(*) > 1"""),
    ("an event is there twice", "doubled", """SELECT company_id, call_id, event, count(*) FROM telephony.call_events
        GROUP BY company_id, call_id, event HAVING count(*) > 1"""),
    ("an event that nobody has sent, or that was counted too often", "doubled", """SELECT c.provider_call_id, e.event, e.deliveries, s.sent
        FROM telephony.call_events AS e JOIN telephony.calls AS c USING (company_id, call_id)
        LEFT JOIN soak_events AS s ON (s.call, s.event) = (c.provider_call_id, e.event)
        WHERE s.sent IS NULL OR e.deliveries > s.sent"""),
    ("a call was merged wrongly", "merged", """SELECT c.provider_call_id, c.status, s.statuses FROM telephony.calls AS c
        JOIN soak_calls AS s ON s.call = c.provider_call_id WHERE NOT c.status = ANY (s.statuses)"""),
    ("a call has another transcript than its own", "merged", """SELECT c.provider_call_id, left(c.transcript, 80) FROM telephony.calls AS c
        JOIN soak_calls AS s ON s.call = c.provider_call_id
        WHERE s.forgotten IS NULL AND 'analyzed' = ALL (s.statuses) AND c.transcript IS DISTINCT FROM s.transcript
        OR s.forgotten IS NOT NULL AND c.transcript IS NOT NULL AND c.transcript <> s.transcript"""),
    ("a forgotten caller is known", "merged", """SELECT c.provider_call_id, c.from_number FROM telephony.calls AS c
        JOIN soak_calls AS s ON s.call = c.provider_call_id WHERE s.forgotten = 'surely' AND (c.from_number = s.caller OR c.transcript IS NOT NULL)"""),
    ("a number has two owners at once", "doubled", """SELECT number FROM telephony.phone_numbers WHERE released_at IS NULL
        GROUP BY number HAVING count(*) > 1"""),
)


class Check:
    """The findings of one look at the database, the calendar and the journal."""

    def __init__(self, town, rows=(), calm_from=0, content=None):
        self.town, self.journal = town, town.journal
        self.rows, self.calm_from = rows, calm_from
        self.content = content or {}
        self.findings = []

    def find(self, kind, text):
        """Notes a finding."""
        self.findings.append((kind, text))

    def many(self, kind, text, rows):
        """Notes one finding for rows that must not be."""
        rows = list(rows)
        if rows:
            more = f", and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
            self.find(kind, f"{text}: " + "; ".join(str(tuple(row)) for row in rows[:SHOWN]) + more)

    def run(self):
        """All checks; the findings."""
        for (kind, text), times in sorted(self.journal.wrong.items()):
            self.find(kind, f"{text} ({times} times)")
        with self.town.connect() as connection:
            self.fill(connection)
            for text, kind, query in QUERIES:
                self.many(kind, text, connection.execute(query))
            self.check_texts(connection)
            self.check_deleted(connection)
            self.check_functions(connection)
            self.check_isolation(connection)
            Bookings(self, connection).check()
            self.check_bloat(connection)
        self.check_limits()
        for column, before, after in judge(self.rows, self.calm_from):
            self.find("growth", f"{column}: at most {before} in the first half of the calm, {after} in the second")
        self.many("load", "faults of the stand-in itself", [(error,) for error in self.town.calcom.errors])
        return self.findings

    # --- calls ------------------------------------------------------------------------------

    def fill(self, connection):
        """The journal, as tables."""
        connection.execute(EVENTS)
        deleted = self.journal.deleted
        calls, events = [], []
        for name, note in self.journal.calls.items():
            owners = note.owners()
            if owners and owners & deleted:
                calls.append((name, sorted(owners), None, None, "perhaps", None))
                continue
            calls.append((name, sorted(owners or ()), self.statuses(note), note.transcript,
                          note.forgotten or None, note.caller))
            events += [(name, event, sent, note.acked[event]) for event, sent in note.sent.items()]
        copy(connection, "soak_calls", calls)
        copy(connection, "soak_events", events)
        copy(connection, "soak_deleted", [(company,) for company in deleted])
        # a call of a company that is gone may have events that nobody counts
        connection.execute("ANALYZE soak_calls, soak_events")

    @staticmethod
    def statuses(note):
        """The states in which a call may be by what was acknowledged; None: any."""
        if note.plan == "unanswered":
            return ["not_connected"] if note.acked["call_ended"] else None
        if note.acked["call_ended"] and note.acked["call_analyzed"]:
            return ["analyzed"]
        return ["ongoing", "inbound", "abandoned"] if note.plan == "cut" else None

    def check_texts(self, connection):
        """Whatever bears a company's mark is a row of that company."""
        for table, in connection.execute(TABLES).fetchall():
            self.many("cross_tenant", f"a row of {table} bears the mark of another company", connection.execute(
                f"SELECT DISTINCT t.company_id, m[1] FROM {table} AS t, regexp_matches(t::text, '{MARK.pattern}', 'g') AS m "
                "WHERE m[1]::bigint <> t.company_id"))

    def check_deleted(self, connection):
        """Companies that were deleted have no rows."""
        tables = [name for name, in connection.execute(TABLES)]
        for table in tables + ["tenantcall.call_bindings", "tenantcall.outbox_due"]:
            self.many("lost", f"{table} has rows of a deleted company", connection.execute(
                f"SELECT DISTINCT company_id FROM {table} WHERE company_id IN (SELECT company_id FROM soak_deleted)"))
        there = {company for company, in connection.execute("SELECT company_id FROM telephony.companies")}
        self.many("lost", "a company is missing", [(firm.id,) for firm in self.journal.living() if firm.id not in there])

    def check_functions(self, connection):
        """Answers that were acknowledged are those that a retry gets; nothing was run beside them."""
        found = {key: (company, state, answer) for key, company, state, answer in connection.execute(
            "SELECT idempotency_key, company_id, state, answer::text FROM telephony.function_calls")}
        for key, done in list(self.journal.functions.items()):
            owners = done.note.owners()
            if not owners or owners & self.journal.deleted or done.note.forgotten:
                continue
            company, state, _ = found.get(key, (None, None, None))
            if company is None:
                self.find("lost", f"function call {key} is missing")
            elif company not in owners:
                self.find("cross_tenant", f"function call {key} is in company {company}")
            elif done.answer is not None and state != "done":
                self.find("lost", f"the answer of function call {key} is missing")

    def check_isolation(self, connection):
        """The tables are as protected as they were, and no key reaches into another company."""
        self.many("isolation", "check_isolation()", connection.execute(
            "SELECT check_name, object, detail FROM tenantcall.check_isolation() WHERE severity = 'error'"))
        self.many("cross_tenant", "audit_orphans()", connection.execute("SELECT check_name, object, detail FROM tenantcall.audit_orphans(NULL)"))

    # --- limits -----------------------------------------------------------------------------

    def check_limits(self):
        """No company got more than its bucket held and what flowed in; a crash fills a bucket once."""
        for company, takes in self.journal.takes.items():
            worst = self.excess(takes)
            if worst > 0:
                self.find("over_admission", f"company {company} got {worst:.1f} tokens too many")
        for key in sorted(self.town.calcom.arrivals.times):
            most = self.town.calcom.most_in_window(key)
            if most > MOST_IN_MINUTE:
                self.find("over_admission", f"{most} requests with key {key} in 60 s, of {MOST_IN_MINUTE}")

    def excess(self, takes):
        """The most tokens beyond burst + rate * time (+ burst for each crash) in any window."""
        rate, worst = TOKENS / PER, -TOKENS
        takes = sorted(takes, key=lambda take: take[1])
        for first in range(len(takes)):
            begun, admitted = takes[first][0], 0
            for sent, answered, number in takes[first:]:
                if sent < begun:
                    continue  # it may have been before the window
                admitted += number
                crashes = sum(at < answered and over > begun for at, over in self.journal.crashes)
                worst = max(worst, admitted - TOKENS * (1 + crashes) - rate * (answered - begun) - 1)
        return worst

    # --- sizes ------------------------------------------------------------------------------

    def check_bloat(self, connection):
        """After a vacuum nothing dead is left, and tables and indexes are no larger than their content calls for.

        For a table that is the most that it has held: what is deleted leaves room, and the file as it is.
        """
        connection.execute("VACUUM (ANALYZE)")
        tables = connection.execute("SELECT c.oid::regclass::text, pg_relation_size(c.oid) FROM pg_class AS c WHERE relkind = 'r' "
                                    "AND relnamespace IN ('telephony'::regnamespace, 'tenantcall'::regnamespace) AND pg_relation_size(c.oid) > 0").fetchall()
        for table, size in tables:
            dead, held = connection.execute("SELECT dead_tuple_count, tuple_len FROM pgstattuple(%s)", [table]).fetchone()
            most = max(held, self.content.get(table, 0))
            if dead > DEAD:
                self.find("growth", f"{table} has {dead} dead rows after a vacuum")
            if size > (4 << 20) and most < 0.4 * size:
                self.find("growth", f"{table}: {size / 2 ** 20:.1f} MB, of which at most {most / 2 ** 20:.1f} were ever in use")
        for index, size in connection.execute("""SELECT i.indexrelid::regclass::text, pg_relation_size(i.indexrelid) FROM pg_index AS i
                JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS a ON a.oid = c.relam
                WHERE amname = 'btree' AND relkind = 'i' AND pg_relation_size(i.indexrelid) > 4 << 20
                AND relnamespace IN ('telephony'::regnamespace, 'tenantcall'::regnamespace)""").fetchall():
            density, = connection.execute("SELECT avg_leaf_density FROM pgstatindex(%s)", [index]).fetchone()
            if density < 40:
                self.find("growth", f"index {index}: {size >> 20} MB, filled to {density} %")


class Bookings:
    """The calendar's bookings beside the appointments."""

    def __init__(self, check, connection):
        self.check_, self.town, self.journal = check, check.town, check.journal
        names = ("company_id", "appointment_id", "status", "uid", "starts_at", "calcom_event_type_id", "elsewhere", "rescheduled_from", "key", "state")
        self.rows = [dict(zip(names, row)) for row in connection.execute("""
            SELECT a.company_id, a.appointment_id, a.status, a.uid, a.starts_at, a.calcom_event_type_id, a.elsewhere, a.rescheduled_from,
                   o.idempotency_key, o.state
            FROM telephony.appointments AS a LEFT JOIN telephony.outbox AS o
            ON (o.company_id, o.appointment_id) = (a.company_id, a.appointment_id) AND o.kind IN ('create', 'reschedule')""")]
        self.booked = {}
        for account in self.town.calcom.accounts.values():
            self.booked.update(account.bookings)

    def many(self, text, rows):
        """Notes a finding."""
        self.check_.many("booking", text, rows)

    def check(self):
        """All that must hold."""
        self.many("the calendar has a booking twice", self.town.calcom.twice_made("tenantcall").items())
        there = {(row["company_id"], row["appointment_id"]) for row in self.rows}
        self.many("an acknowledged appointment is missing", (
            key for key, booking in self.journal.bookings.items() if key not in there and not booking.firm.gone))
        self.many("an appointment has two orders that make it", (
            key for key, number in collections.Counter((row["company_id"], row["appointment_id"]) for row in self.rows).items() if number > 1))
        for row in self.rows:
            self.check_one(row)
        self.check_calendar()
        self.check_elsewhere()

    def check_one(self, row):
        """An appointment beside its booking."""
        who = row["company_id"], row["appointment_id"], row["status"]
        booking = self.booked.get(row["uid"])
        if row["status"] in ("pending", "unknown", "cancelling"):
            self.many("an appointment is not settled", [(*who, row["state"])])
        if row["status"] == "confirmed" and (booking is None or booking.status != "accepted"):
            self.many("confirmed, but the calendar does not have it", [(*who, row["uid"], booking and booking.status)])
        if row["status"] in ("cancelled", "rescheduled") and booking is not None and booking.status == "accepted":
            self.many("over, but the calendar still has it", [(*who, row["uid"])])
        if booking is not None and (booking.event_type.id != row["company_id"] + 100000 or booking.start != row["starts_at"]):
            self.check_.find("cross_tenant", f"appointment {who} has a booking of event type {booking.event_type.id} at {booking.start}")

    def check_calendar(self):
        """Each booking that we have made is somebody's, and no two of a host overlap."""
        uids = {row["uid"] for row in self.rows}
        keys = {row["key"] for row in self.rows}
        gone, ends = self.journal.deleted, {}
        for booking in sorted(self.booked.values(), key=lambda one: one.start):
            company, key = booking.event_type.id - 100000, booking.metadata.get("tenantcall")
            if key and company not in gone and booking.status == "accepted" and booking.uid not in uids:
                self.many("the calendar has a booking that no appointment knows", [(company, booking.uid, key in keys)])
            found = MARK.search(str(booking.attendee.get("email")))
            if found and int(found[1]) != company:
                self.check_.find("cross_tenant", f"a customer of company {found[1]} was booked at company {company}")
            if booking.status == "accepted":
                if booking.start < ends.get(booking.event_type.id, booking.start):
                    self.many("two bookings at one time", [(company, booking.start)])
                ends[booking.event_type.id] = booking.end

    def check_elsewhere(self):
        """Bookings that were made elsewhere, and told, are there once."""
        there = collections.Counter((row["company_id"], row["uid"]) for row in self.rows)
        for uid, company in self.journal.elsewhere.items():
            if company is not None and company not in self.journal.deleted and there[company, uid] != 1:
                self.many("a booking made elsewhere, told and acknowledged", [(company, uid, there[company, uid])])


def copy(connection, table, rows):
    """Fills a table."""
    with connection.cursor().copy(f"COPY {table} FROM STDIN") as target:
        for row in rows:
            target.write_row(row)
