"""full_house: a database in which every table of the extension and of the tenants has rows.

    house = FullHouse(db, role)
    house.fill()
    contents(cluster, dbname)      what must be the same in a copy: rows, sequences, protection
    house.works(database)          is a copy in working order?
"""
import json

import psycopg
import pytest

import conftest
from desk import monday
from retell import Call, Gateway, encode, fixture, inbound
from world import KEY, World

NUMBERS = ("+4930111111", "+4930222222")

OWN_TABLES = """
INSERT INTO tenantcall.maintenance_jobs (job, max_rows) VALUES ('usage', 77);
CREATE SCHEMA own;
CREATE TABLE own.notes (company_id bigint, note_id bigint GENERATED ALWAYS AS IDENTITY, body text,
                        PRIMARY KEY (company_id, note_id));
CREATE TABLE own.visits (company_id uuid, visit_id bigint, at date, status text,
                         PRIMARY KEY (company_id, visit_id, at)) PARTITION BY RANGE (at);
CREATE TABLE own.visits_old PARTITION OF own.visits FOR VALUES FROM ('2020-01-01') TO ('2030-01-01');
SELECT tenantcall.scope_table('own.notes'), tenantcall.scope_table('own.visits'),
       tenantcall.track_lifecycle('own.visits', 'status');
CREATE POLICY by_hand ON own.notes AS RESTRICTIVE FOR DELETE USING (note_id > 0);
ALTER TABLE telephony.customers ADD COLUMN shoe_size int;
CREATE POLICY by_hand ON telephony.customers AS RESTRICTIVE FOR UPDATE USING (customer_id > 0);
GRANT USAGE ON SCHEMA own TO "{app}";
GRANT SELECT, INSERT ON own.notes, own.visits TO "{app}";
"""

OVERRIDES = """
SELECT tenantcall.set_rate_policy('function_call', 7, '1 day', company_id => {a}),
       tenantcall.set_rate_policy('export', 3, '1 day'),
       tenantcall.set_concurrency_policy(5, 1, 1, company_id => {a}),
       tenantcall.set_lifecycle_state('call', 'voicemail', 40, is_terminal => true),
       tenantcall.set_transition('call', 'inbound', 'voicemail'),
       tenantcall.pause_outbox();
INSERT INTO tenantcall.retentions SELECT relation, '400 days' FROM tenantcall.retention_defaults LIMIT 1;
INSERT INTO tenantcall.disconnection_reasons VALUES ('brand_new', 'transferred');
"""

# What a company has, entered.
ROWS = """
UPDATE telephony.customers SET shoe_size = 42;
INSERT INTO telephony.service_synonyms (service_id, synonym) VALUES ({service}, 'trim');
INSERT INTO telephony.branch_services (branch_id, service_id) VALUES ({branch}, {service});
INSERT INTO telephony.opening_hours (branch_id, weekday, opens, closes) VALUES ({branch}, 1, '00:00', '23:00');
INSERT INTO telephony.holidays (day, name) VALUES ('2050-12-25', 'Christmas');
INSERT INTO telephony.slot_strategies (strategy, position) VALUES ('same_day', 1);
"""

RELATIONS = """
SELECT c.oid::regclass FROM pg_class AS c
WHERE c.relnamespace IN (SELECT n.oid FROM pg_namespace AS n WHERE n.nspname IN ('tenantcall', 'telephony', 'own'))
  AND c.relkind IN ({kinds}) AND c.relname <> 'outbox_home' -- a copy is at home elsewhere
ORDER BY c.oid::regclass::text COLLATE "C"
"""

# What guards the tables; one text for all.  A dump may set parentheses and casts of constraints otherwise.
PROTECTION = """
SELECT jsonb_pretty(jsonb_build_object(
    'tables', (SELECT jsonb_object_agg(c.oid::regclass::text, jsonb_build_array(c.relrowsecurity, c.relforcerowsecurity,
                   c.relowner::regrole::text, (SELECT array_agg(a::text ORDER BY a::text) 
                    FROM unnest(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) AS a)))
               FROM pg_class AS c WHERE c.relnamespace IN (SELECT oid FROM spaces) AND c.relkind IN ('r', 'p', 'v', 'S')),
    'triggers', (SELECT jsonb_agg(concat_ws(' ', t.tgrelid::regclass, t.tgname, t.tgenabled, pg_get_triggerdef(t.oid))
                                  ORDER BY t.tgrelid::regclass::text, t.tgname::text)
                 FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
                 WHERE c.relnamespace IN (SELECT oid FROM spaces) AND NOT t.tgisinternal),
    'policies', (SELECT jsonb_agg(concat_ws(' ', p.schemaname, p.tablename, p.policyname, p.permissive, p.roles, p.cmd,
                                            p.qual, p.with_check) ORDER BY p.schemaname, p.tablename, p.policyname)
                 FROM pg_policies AS p WHERE p.schemaname IN (SELECT nspname FROM spaces)),
    'constraints', (SELECT jsonb_agg(concat_ws(' ', k.conrelid::regclass, k.conname, k.convalidated,
                                               regexp_replace(pg_get_constraintdef(k.oid), '[()]|::oid(\\[\\])?', '', 'g'))
                                     ORDER BY k.conrelid::regclass::text, k.conname)
                    FROM pg_constraint AS k WHERE k.connamespace IN (SELECT oid FROM spaces) AND k.conrelid <> 0 AND k.contype <> 'n'),
    'defaults', (SELECT jsonb_agg(concat_ws(' ', d.adrelid::regclass, a.attname, pg_get_expr(d.adbin, d.adrelid))
                                  ORDER BY d.adrelid::regclass::text, a.attname)
                 FROM pg_attrdef AS d JOIN pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
                 JOIN pg_class AS c ON c.oid = d.adrelid WHERE c.relnamespace IN (SELECT oid FROM spaces)),
    'indexes', (SELECT jsonb_agg(pg_get_indexdef(i.indexrelid) ORDER BY pg_get_indexdef(i.indexrelid))
                FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid WHERE c.relnamespace IN (SELECT oid FROM spaces)),
    'functions', (SELECT jsonb_agg(concat_ws(' ', f.oid::regprocedure, f.proowner::regrole, md5(pg_get_functiondef(f.oid)),
                                             (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(f.proacl) AS a))
                                   ORDER BY f.oid::regprocedure::text)
                  FROM pg_proc AS f WHERE f.pronamespace IN (SELECT oid FROM spaces) AND f.prokind = 'f'),
    'event triggers', (SELECT jsonb_agg(concat_ws(' ', e.evtname, e.evtevent, e.evtenabled, e.evtowner::regrole) ORDER BY e.evtname)
                       FROM pg_event_trigger AS e),
    'members', (SELECT jsonb_agg(o ORDER BY o) FROM
                (SELECT pg_describe_object(d.classid, d.objid, 0) FROM pg_depend AS d JOIN pg_extension AS x ON x.oid = d.refobjid
                 WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND x.extname = 'tenantcall'
                   AND d.classid <> 'pg_type'::regclass) AS m (o)), -- those of rows only since 17
    'privileges as made', (SELECT jsonb_agg(concat_ws(' ', pg_describe_object(i.classoid, i.objoid, i.objsubid), i.initprivs)
                                  ORDER BY pg_describe_object(i.classoid, i.objoid, i.objsubid))
                     FROM pg_init_privs AS i JOIN pg_depend AS d ON d.classid = i.classoid AND d.objid = i.objoid
                      AND d.deptype = 'e' AND i.initprivs::text !~ '^{[^=,]+=[^,]*}$' -- not the owner's alone
                     JOIN pg_extension AS x ON x.oid = d.refobjid AND x.extname = 'tenantcall'),
    'config', (SELECT jsonb_agg(concat_ws(' ', c::regclass, w) ORDER BY c::regclass::text)
               FROM pg_extension, unnest(extconfig, extcondition) AS u (c, w) WHERE extname = 'tenantcall')))
""".replace("(SELECT oid FROM spaces)", "(SELECT oid FROM pg_namespace WHERE nspname IN ('tenantcall', 'telephony', 'own'))"
            ).replace("(SELECT nspname FROM spaces)", "('tenantcall', 'telephony', 'own')")

CHECKED = "SELECT severity, check_name, object, detail FROM tenantcall.check_isolation()"


class FullHouse(World):
    """Two companies with everything."""

    def __init__(self, db, role):
        super().__init__(db, role)
        db.sql(f'REVOKE TEMPORARY ON DATABASE "{db.name}" FROM PUBLIC')
        self.a = self.company("Acme", Mitte=NUMBERS[0])
        self.b = self.company("Bravo", Nord=NUMBERS[1])
        self.agent(self.a, "agent_demo", "Mitte")

    def fill(self):
        """Puts rows into everything."""
        self.admin.execute(OVERRIDES.format(a=self.a.id))
        self.db.sql(OWN_TABLES.format(app=self.roles["app"]))
        self.admin.execute("SELECT tenantcall.set_credential('acc', 'cal_key', 'https://calendar.example'), "
                           "tenantcall.assign_credential(%s, 'acc'), tenantcall.assign_credential(%s, 'acc')",
                           [self.a.id, self.b.id])
        gateway = self.gateway()
        for company in (self.a, self.b):
            self._calls(gateway, company)
            self._bookings(company)
        self._strays(gateway)
        self.admin.execute("SELECT tenantcall.move_number(%s, %s, %s)",
                           [NUMBERS[1], self.a.id, self.a.branches["Mitte"]])
        # days gone by, rolled up and changed afterwards
        self.db.sql("UPDATE telephony.companies SET created_at = created_at - interval '40 days';"
                    "INSERT INTO telephony.usage_state SELECT company_id, now()::date FROM telephony.companies;"
                    "INSERT INTO telephony.usage_daily SELECT company_id, now()::date - 1, 1, 2, 3, 4, 5 "
                    "FROM telephony.companies;"
                    "INSERT INTO telephony.usage_marks (company_id, began) SELECT company_id, now() "
                    "FROM telephony.companies;"
                    "INSERT INTO telephony.calendar_events (company_id, event_key, trigger, received_at, outcome) "
                    "SELECT company_id, 'k', 'BOOKING_CREATED', now(), 'applied' FROM telephony.companies")
        return self

    def _calls(self, gateway, company):
        """Calls of all states, with their functions; one still rings."""
        number = next(iter(company.numbers.values()))
        for n in range(3):
            call = Call(f"call_{company.id}_{n}", to=number)
            assert gateway.event(call.started())["outcome"] == "applied"
            accepted = gateway.function(call.function(f"t{n}"))
            assert accepted["outcome"] == "run", accepted
            gateway.finish(accepted, {"said": "yes"})
            if n:
                assert gateway.event(call.ended())["outcome"] == "applied"
                assert gateway.event(call.analyzed())["outcome"] == "applied"
        assert gateway.ring(inbound(number))["outcome"] == "accepted"
        self.admin.execute("SELECT tenantcall.set_rate_policy('function_call', 1, '1 day', company_id => %s)", [company.id])
        assert gateway.function(call.function("more"))["outcome"] in ("limited", "run")

    def _bookings(self, company):
        """Services, a hold, a booking under way and one that is cancelled."""
        branch, = company.branches.values()
        self.insert(company, "customers", "customer_id", name="Ännchen", phone="+4930999999")
        service = self.service(company, "Haircut", calcom_event_type_id=500 + company.id)
        with self.as_admin(company) as conn:
            conn.execute(ROWS.format(branch=branch, service=service))
        with self.db.connect(autocommit=True) as conn:
            for hour in range(3):
                with conn.transaction():
                    conn.execute("SELECT tenantcall.enter(%s, %s)", [company.id, branch])
                    hold, = conn.execute("SELECT tenantcall.hold_slot(%s, %s, NULL)",
                                         [service, monday().replace(hour=9 + hour)]).fetchone()
                    if hour:
                        booked, = conn.execute("SELECT tenantcall.book(%s, %s)",
                                               [hold, json.dumps({"name": "Anna", "phone": "+4930123456"})]).fetchone()
            with conn.transaction():
                conn.execute("SELECT tenantcall.enter(%s)", [company.id])
                conn.execute("SELECT tenantcall.cancel_booking(%s, 'ill')", [booked])
        with self.as_app(company) as conn:
            conn.execute("INSERT INTO own.notes (body) VALUES ('one'), ('two')")
            conn.execute("INSERT INTO own.visits VALUES (DEFAULT, 1, '2025-01-01', 'inbound')")

    @staticmethod
    def _strays(gateway):
        """What belongs to nobody: an unknown number, and a forged signature."""
        assert gateway.event(Call("stray", to="+4930777777", agent="nobody").started())["outcome"] == "quarantined"
        assert gateway.event(Call("forged", to=NUMBERS[0]).started(), "v=1,d=00")["outcome"] == "rejected"
        calls = fixture("call_inbound")
        calls["call_inbound"].update(to_number="+4930777777", agent_id="nobody")
        gateway.ring(encode(calls))

    def works(self, database):
        """A copy goes on where the original was: each company sees its own, calls come in, limits hold."""
        with database.connect(role=self.roles["gateway"], autocommit=True) as conn:
            gateway = Gateway(conn, KEY)
            call = Call("call_after", to=NUMBERS[1])
            event = gateway.event(call.started())
            assert (event["outcome"], event["company_id"]) == ("applied", self.a.id), event
            moved = gateway.event(Call(f"call_{self.a.id}_0", to=NUMBERS[0]).ended())
            assert moved["outcome"] == "applied" and moved["company_id"] == self.a.id, moved
            assert gateway.event(Call(f"call_{self.a.id}_0", to=NUMBERS[0]).started())["outcome"] in ("duplicate", "merged")
            with conn.transaction():
                assert conn.execute("SELECT count(*) FROM telephony.calls").fetchone() == (0,)
                conn.execute("SELECT tenantcall.enter(%s, %s)", [self.b.id, self.b.branches["Nord"]])
                assert conn.execute("SELECT count(*), count(*) FILTER (WHERE company_id <> %s) "
                                    "FROM telephony.calls", [self.b.id]).fetchone() == (3, 0)
                # a name that was never taken: identity and sequence go on
                conn.execute("INSERT INTO telephony.customers (name) VALUES ('new')")
                service, = conn.execute("SELECT service_id FROM telephony.services").fetchone()
                hold, = conn.execute("SELECT tenantcall.hold_slot(%s, %s, NULL)",
                                     [service, monday().replace(hour=15)]).fetchone()
                conn.execute("SELECT tenantcall.book(%s, %s)", [hold, '{"name": "Ben", "phone": "+4930123457"}'])
            quotas = conn.execute("SELECT quota FROM tenantcall.take_for(%s, 'export')", [self.a.id]).fetchone()
            assert quotas == (3,)
        with database.connect() as conn:
            conn.execute("SELECT tenantcall.enter(%s)", [self.a.id])
            with pytest.raises(psycopg.Error, match="cannot move"):
                conn.execute("UPDATE telephony.calls SET status = 'voicemail' WHERE provider_call_id = 'call_after'")


def contents(cluster, dbname):
    """Rows of all tables, positions of all sequences, and what guards them."""
    found = {}
    with cluster.connect(dbname=dbname) as conn:
        conn.execute("SET TIME ZONE 'UTC'")
        conn.execute("SET search_path = pg_catalog")
        for table, in conn.execute(RELATIONS.format(kinds="'r'")).fetchall():
            found[table] = conn.execute(
                f"SELECT count(*), md5(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE \"C\")) FROM ONLY {table} AS t"
            ).fetchone()
        for sequence, in conn.execute(RELATIONS.format(kinds="'S'")).fetchall():
            found[sequence] = conn.execute(f"SELECT last_value, is_called FROM {sequence}").fetchone()
        found["protection"], = conn.execute(PROTECTION).fetchone()
        found["check_isolation"] = conn.execute(CHECKED).fetchall()
    return found


def differences(one, other):
    """What two contents differ in, as a dict of pairs; protection by its lines."""
    wrong = {key: (one.get(key), other.get(key)) for key in one.keys() | other.keys()
             if key != "protection" and one.get(key) != other.get(key)}
    before, after = (set(each["protection"].split("\n")) for each in (one, other))
    if before != after:
        wrong["protection"] = (sorted(before - after), sorted(after - before))
    return wrong


def copy_of(database, name):
    """Another database of the same server."""
    return conftest.Database(database.cluster, name)
