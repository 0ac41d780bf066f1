"""The errors that the reference names: each is raised, by a statement for it.

A statement runs in a transaction of its own, which is rolled back, as a role of a kind.
"""
import re

import psycopg
import pytest

from readme_blocks import REFERENCE
from test_reference import KINDS, cells, documented_functions

STATE = re.compile(r"\b(PT\d{3}|\d[0-9A-Z]{4}|F0000)\b")

# Not to be had by a single statement.
ELSEWHERE = {
    ("release_number", "PT409"),  # a race: test/specs
    ("refund", "PT503"), ("reset_bucket", "PT503"), ("reset_rate_stats", "PT503"),  # test_rate_stop.py
    ("create_tables", "55000"), ("upgrade_tables", "55000"),  # another version: test_update.py
    ("advance_call", "PT409"), ("delete_company", "23503"),  # test/sql
    ("answer_inbound_call", "55P03"), ("acquire_call_lease", "55P03"),  # a wait: test_leases.py
    ("parse_phone", "0A000"), ("phone_region", "0A000"), ("phone_national", "0A000"),
    ("phone_is_valid", "0A000"),  # a server without the library: test_phone_lib.py
    ("schedule_maintenance", "42501"), ("schedule_maintenance", "0A000"), ("unschedule_maintenance", "55000"),
    ("unschedule_maintenance", "42501"), ("run_maintenance", "25006"), ("schedule_maintenance", "25006"),
    ("unschedule_maintenance", "25006"),  # pg_cron, a standby: test_maintenance.py
    ("distribute", "55000"), ("distribute", "0A000"), ("distribute", "22023"),
    ("distribute_roles", "55000"), ("call_at_home", "42883"),  # test_citus.py
    ("call_at_home", "PT401"), ("call_at_home", "PT503"),  # test_citus_attacks.py
    ("elect_node", "42704"), ("elect_node", "0A000"),  # test_citus_calendar.py
    ("bind_call_lease", "0A000"), ("forget_caller", "0A000"),  # test_citus_forward.py
    ("check_credential", "PT429"), ("http_test_requests", "PT429"),  # test_http.py
}

NUMBER = "'+4930123450'"
COMPANIES = (
    "SELECT tenantcall.create_company('A', 'DE', 'UTC', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'), "
    "tenantcall.create_company('B', 'DE', 'UTC');"
    "INSERT INTO telephony.branches (company_id, name) VALUES (1, 'a'), (2, 'b');"
    f"SELECT tenantcall.assign_number({NUMBER}, 1, 1), tenantcall.assign_agent('agent', 1),"
    "       tenantcall.set_webhook_key('retell', 'kid', 'secret', 1);"
    "INSERT INTO telephony.function_calls (company_id, idempotency_key, name, lease_until, state, answer)"
    " VALUES (1, 'key', 'f', now(), 'done', '{}');"
    "SELECT tenantcall.set_rate_policy('once', 1, '1 day');"
    "SELECT tenantcall.set_rate_policy('many' || g, 1, '1 day') FROM generate_series(1, 17) AS g;"
    "INSERT INTO telephony.services (company_id, name, calcom_event_type_id) VALUES (1, 's', 1), (2, 't', 2);"
    "SELECT tenantcall.set_credential('account', 'secret', 'https://api.cal.com');"
    "SELECT tenantcall.assign_credential(1, 'account');"
    "INSERT INTO telephony.appointments (company_id, service_id, credential, calcom_event_type_id, starts_at,"
    " ends_at, status) VALUES (1, 1, 'account', 1, '2050-01-01', '2050-01-02', 'pending');"
    "UPDATE telephony.appointments SET status = 'refused';"
    "CREATE TABLE plain (id integer PRIMARY KEY, word text, company_id integer);"
    "INSERT INTO plain VALUES (1, 'a', NULL);"
    "CREATE TABLE parent (company_id bigint) PARTITION BY LIST (company_id);"
    "CREATE TABLE part PARTITION OF parent FOR VALUES IN (1);"
    "CREATE TABLE tracked (id integer PRIMARY KEY, status text);"
    "SELECT tenantcall.track_lifecycle('tracked', 'status')"
)

FK = ("CREATE TABLE father (company_id bigint, father_id bigint, PRIMARY KEY (company_id, father_id)); "
      "CREATE TABLE child (company_id bigint NOT NULL, father_id bigint); "
      "SELECT scope_table('father'), scope_table('child'); ")

HOLD = "SELECT enter(1, 1); SELECT hold_slot(1, '2050-01-01', NULL); "
ANNA = "'{\"name\": \"Anna\", \"phone\": \"+4930123456\"}'"
MAX = "(SELECT max(hold_id) FROM telephony.slot_holds)"

CASES = [
    ("check_credential", "PT503", "admin", "SELECT check_credential('x')"),
    ("http_test_requests", "PT503", "postgres", "SELECT http_test_requests('x')"),
    ("hold_slot", "PT403", "gateway", "SELECT enter(1); SELECT hold_slot(1, '2050-01-01', NULL)"),
    ("hold_slot", "PT404", "gateway", "SELECT enter(1, 1); SELECT hold_slot(9, '2050-01-01', NULL)"),
    ("hold_slot", "PT409", "gateway", HOLD + "SELECT hold_slot(1, '2050-01-01', NULL)"),
    ("hold_slot", "55000", "gateway", "SELECT enter(2, 2); SELECT hold_slot(2, '2050-01-01', NULL)"),
    ("release_hold", "PT404", "gateway", "SELECT enter(1); SELECT release_hold(9)"),
    ("release_hold", "PT409", "gateway", HOLD + f"SELECT book({MAX}, {ANNA}); SELECT release_hold({MAX})"),
    ("book", "PT404", "gateway", f"SELECT enter(1); SELECT book(9, {ANNA})"),
    ("book", "PT409", "gateway", HOLD + f"SELECT release_hold({MAX}); SELECT book({MAX}, {ANNA})"),
    ("book", "22023", "gateway", HOLD + f"SELECT book({MAX}, '{{}}')"),
    ("book", "22P02", "gateway", HOLD + f"""SELECT book({MAX}, '{{"name": "Anna", "phone": "nobody"}}')"""),
    ("booking_result", "PT404", "gateway", "SELECT enter(1); SELECT booking_result(9)"),
    ("cancel_booking", "PT404", "gateway", "SELECT enter(1); SELECT cancel_booking(9)"),
    ("cancel_booking", "PT409", "gateway", "SELECT enter(1); SELECT cancel_booking(1)"),
    ("reschedule_booking", "PT404", "gateway", HOLD + f"SELECT reschedule_booking(9, {MAX})"),
    ("reschedule_booking", "PT409", "gateway", HOLD + f"SELECT reschedule_booking(1, {MAX})"),
    ("replay_outbox", "PT404", "admin", "SELECT replay_outbox(9)"),
    ("available_slots", "PT403", "app", "SELECT available_slots(1, '2050-01-01', '2050-01-02')"),
    ("available_slots", "PT404", "gateway", "SELECT enter(1, 1); SELECT available_slots(9, '2050-01-01', '2050-01-02')"),
    ("available_slots", "PT503", "gateway", "SELECT enter(1, 1); SELECT available_slots(1, '2050-01-01', '2050-01-02')"),
    ("available_slots", "55000", "gateway", "SELECT enter(2, 2); SELECT available_slots(2, '2050-01-01', '2050-01-02')"),
    ("invalidate_slots", "PT403", "app", "SELECT invalidate_slots(1, '2050-01-01', '2050-01-02')"),
    ("elect_node", "55000", "admin", "SELECT elect_node('10.0.0.2', 5432)"),
    ("enter", "PT403", "gateway", "SELECT enter(1); SELECT enter(2)"),
    ("enter", "PT404", "gateway", "SELECT enter(9)"),
    ("enter_phone", "PT404", "gateway", "SELECT enter_phone('+4930999999')"),
    ("enter_phone", "22P02", "gateway", "SELECT enter_phone('nobody')"),
    ("enter_token", "PT401", "app", "SELECT enter_token('eyJ.eyJ.x')"),
    ("sign_token", "PT404", "gateway", "SELECT sign_token(9, NULL, '1 minute')"),
    ("company_lock", "PT403", "app", "SELECT company_lock('x')"),
    ("scope_table", "23502", "postgres", "SELECT scope_table('plain')"),
    ("scope_table", "42703", "postgres", "SELECT scope_table('plain', 'tenant')"),
    ("scope_table", "42804", "postgres", "SELECT scope_table('plain', 'word')"),
    ("scope_table", "42809", "postgres", "SELECT scope_table('pg_views')"),
    ("scope_table", "55000", "postgres", "SELECT scope_table('part')"),
    ("scope_plan", "42809", "postgres", "SELECT scope_plan('pg_views')"),
    ("scope_foreign_key", "55000", "postgres", "SELECT scope_foreign_key('plain', '{id}', 'plain')"),
    ("scope_foreign_key", "42703", "postgres", FK + "SELECT scope_foreign_key('child', '{other}', 'father')"),
    ("scope_foreign_key", "23503", "postgres", FK + "INSERT INTO child VALUES (1, 9); "
     "SELECT scope_foreign_key('child', '{father_id}', 'father')"),
    ("unscope_table", "42704", "postgres", "SELECT unscope_table('plain')"),
    ("unscope_table", "55000", "postgres", "SELECT scope_table('parent'); SELECT unscope_table('part')"),
    ("set_rate_policy", "PT404", "admin", "SELECT set_rate_policy('new', 1, '1 s', company_id => 1)"),
    ("drop_rate_policy", "PT404", "admin", "SELECT drop_rate_policy('new')"),
    ("allow", "PT403", "app", "SELECT allow('once')"),
    ("allow", "PT404", "gateway", "SELECT enter(1); SELECT allow('new')"),
    ("take_or_fail", "PT429", "gateway", "SELECT enter(1); SELECT take_or_fail('once') FROM generate_series(1, 2)"),
    ("take", "22004", "gateway", "SELECT enter(1); SELECT take('call_guard')"),
    ("take", "0A000", "gateway",
     "SELECT enter(1); SELECT take('call_guard', 1, '1 s', call => 'c', function => 'f')"),
    ("take_all", "54000", "gateway",
     "SELECT enter(1); SELECT take_all(array_agg('many' || g)) FROM generate_series(1, 17) AS g"),
    ("refund", "PT403", "gateway", "SELECT enter(1); SELECT refund('\\xdead')"),
    ("take_for", "PT404", "gateway", "SELECT take_for(1, 'new')"),
    ("track_lifecycle", "PT404", "postgres", "SELECT track_lifecycle('plain', 'word', 'new')"),
    ("track_lifecycle", "42P16", "postgres", "SELECT track_lifecycle('plain', 'word', audit => 'parent')"),
    ("track_lifecycle", "PT409", "postgres", "INSERT INTO tracked VALUES (1, 'completed')"),
    ("track_lifecycle", "23502", "postgres", "INSERT INTO tracked VALUES (1, NULL)"),
    ("untrack_lifecycle", "PT404", "postgres", "SELECT untrack_lifecycle('plain')"),
    ("can_transition", "PT404", "app", "SELECT can_transition('call', 'new', 'ongoing')"),
    ("set_lifecycle_state", "54000", "admin", "SELECT set_lifecycle_state('big', 's' || i, i) FROM generate_series(1, 65) AS i"),
    ("drop_lifecycle_state", "PT404", "admin", "SELECT drop_lifecycle_state('call', 'new')"),
    ("set_transition", "PT404", "admin", "SELECT set_transition('call', 'inbound', 'new')"),
    ("set_transition", "PT409", "admin", "SELECT set_transition('call', 'analyzed', 'ongoing')"),
    ("create_tables", "42P06", "postgres", "SELECT create_tables('other')"),
    ("parse_phone", "22P02", "app", "SELECT parse_phone('nobody')"),
    ("parse_phone", "22023", "app", "SELECT parse_phone('030 123450', 'Germany')"),
    ("call_context", "PT403", "app", "SELECT call_context('new')"),
    ("call_context", "PT404", "gateway", "SELECT call_context('new')"),
    ("advance_call", "PT404", "gateway", "SELECT advance_call('new', 'ongoing')"),
    ("call_timeline", "PT403", "app", "SELECT call_timeline('new')"),
    ("call_timeline", "PT404", "gateway", "SELECT call_timeline('new')"),
    ("company_usage", "PT403", "app", "SELECT company_usage('2026-01-01', '2026-01-02')"),
    ("forget_caller", "PT403", "app", f"SELECT forget_caller({NUMBER}, 1)"),
    ("forget_caller", "PT409", "admin", f"SELECT forget_caller({NUMBER}, 1)"),
    ("export_company", "PT404", "admin", "SELECT export_company(9)"),
    ("run_maintenance", "PT404", "admin", "CALL run_maintenance('x')"),
    ("schedule_maintenance", "55000", "admin", "SELECT schedule_maintenance()"),
    ("delete_company", "PT404", "admin", "SELECT delete_company(9)"),
    ("delete_company", "PT409", "admin", "SELECT delete_company(1)"),
    ("resolve_phone", "22P02", "gateway", "SELECT resolve_phone('nobody')"),
    ("create_company", "22023", "admin", "SELECT create_company('C', 'DE', 'UTC+3')"),
    ("create_company", "22001", "admin", "SELECT create_company(repeat('C', 201), 'DE', 'UTC')"),
    ("track_lifecycle", "42501", "admin", "SELECT track_lifecycle('plain', 'word')"),
    ("create_company", "PT409", "admin", "SELECT create_company('C', 'DE', 'UTC', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11')"),
    ("set_company_status", "PT404", "admin", "SELECT set_company_status(9, 'active')"),
    ("assign_number", "PT404", "admin", "SELECT assign_number('+4930999999', 1, 2)"),
    ("assign_number", "PT409", "admin", f"SELECT assign_number({NUMBER}, 2, 2)"),
    ("release_number", "PT404", "admin", "SELECT release_number('+4930999999')"),
    ("assign_agent", "PT404", "admin", "SELECT assign_agent('other', 9)"),
    ("assign_agent", "PT409", "admin", "SELECT assign_agent('agent', 2)"),
    ("release_agent", "PT404", "admin", "SELECT release_agent('other')"),
    ("assign_credential", "PT404", "admin", "SELECT assign_credential(9, NULL)"),
    ("assign_credential", "PT404", "admin", "SELECT assign_credential(1, NULL, 2)"),
    ("assign_credential", "PT404", "admin", "SELECT assign_credential(1, 'none such')"),
    ("set_webhook_key", "PT404", "admin", "SELECT set_webhook_key('retell', 'new', 'secret', 9)"),
    ("set_webhook_key", "PT409", "admin", "SELECT set_webhook_key('retell', 'kid', 'secret', 2)"),
    ("drop_webhook_key", "PT404", "admin", "SELECT drop_webhook_key('retell', 'new')"),
    ("select_service", "PT403", "app", "SELECT select_service()"),
    ("select_service", "PT404", "gateway", "SELECT enter(1); SELECT select_service('none such')"),
    ("set_concurrency_policy", "PT404", "admin", "SELECT set_concurrency_policy(1, company_id => 9)"),
    ("drop_concurrency_policy", "PT404", "admin", "SELECT drop_concurrency_policy(1)"),
    ("acquire_call_lease", "PT404", "gateway", "SELECT acquire_call_lease(9, 'x')"),
    ("acquire_call_lease", "PT403", "gateway", "SELECT enter(1); SELECT acquire_call_lease(2, 'x')"),
    ("bind_call_lease", "PT404", "gateway", "SELECT bind_call_lease(9, 'x', 'y')"),
    ("bind_call_lease", "PT403", "gateway", "SELECT enter(1); SELECT bind_call_lease(2, 'x', 'y')"),
    ("bind_call_lease", "PT409", "gateway",
     "SELECT bind_call_lease(1, 'x', 'y'); SELECT bind_call_lease(2, 'x', 'y')"),
    ("release_call_lease", "PT404", "gateway", "SELECT release_call_lease(9, 'x')"),
    ("release_call_lease", "PT403", "gateway", "SELECT enter(1); SELECT release_call_lease(2, 'x')"),
    ("call_lease_stats", "PT403", "app", "SELECT call_lease_stats()"),
    ("finish_function_call", "PT404", "gateway", "SELECT finish_function_call(1, 'new', '{}')"),
    ("finish_function_call", "PT409", "gateway", "SELECT finish_function_call(1, 'key', '[]')"),
    ("rate_test_stop", "22023", "postgres", "SELECT rate_test_stop('nowhere')"),
    ("stats_reset", "22004", "admin", "SELECT stats_reset(NULL)"),
    ("stats_reset", "22023", "admin", "SELECT stats_reset('weather')"),
    ("grant_app", "42704", "postgres", "SELECT grant_app('nobody at all')"),
    ("grant_app", "0LP01", "postgres", "SELECT grant_app('postgres')"),
]

# {"alg":"HS256","kid":"k"} . {} . 32 bytes of 0
TOKEN = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsifQ.e30." + 43 * "A"

# These need a server of their own, without a key file.
KEYLESS = {
    "enter_token": ("app", f"SELECT enter_token('{TOKEN}')"),
    "sign_token": ("gateway", "SELECT sign_token(1, NULL, '1 minute')"),
    "set_credential": ("admin", "SELECT set_credential('name', 'secret', 'https://api.cal.com')"),
    "set_webhook_key": ("admin", "SELECT set_webhook_key('retell', 'new', 'secret')"),
}


def qualified(statement):
    """A statement with the functions of the reference in their schema."""
    names = "|".join({name for name, *_ in documented_functions()})
    return re.sub(rf"\b({names})\(", r"tenantcall.\1(", statement)


def state_of(connection, statement):
    """The SQLSTATE with which a statement fails, without which a test goes on."""
    try:
        connection.execute(qualified(statement))
    except psycopg.Error as error:
        return error.sqlstate
    finally:
        connection.rollback()
    return None


def documented():
    """(function, SQLSTATE) of each error that the reference names."""
    for row in cells(REFERENCE.read_text()):
        name = re.match(r"`(\w+)\(", row[0])
        if name and len(row) > 3:
            for state in STATE.findall(row[3]):
                yield name[1], state


def test_every_error_has_a_case():
    """What the reference names is tried here, and what is tried is in the reference."""
    tried = {case[:2] for case in CASES} | {(name, "F0000") for name in KEYLESS} | ELSEWHERE
    tried.add(("enter", "25P01"))
    assert tried == set(documented())


def test_errors(db, role):
    """Each error is raised where the reference says."""
    roles = {kind: role(f"errors_{kind}") for kind in KINDS}
    db.sql("".join(f"SELECT tenantcall.grant_{kind}('{name}');" for kind, name in roles.items()))
    db.sql(COMPANIES)
    connections = {kind: db.connect(role=name) for kind, name in roles.items()}
    connections["postgres"] = db.connect()
    wrong = []
    for name, state, kind, statement in CASES:
        actual = state_of(connections[kind], statement)
        if actual != state:
            wrong.append(f"{name}: {statement}: {actual} instead of {state}")
    for connection in connections.values():
        connection.close()
    with db.connect(role=roles["gateway"], autocommit=True) as connection:
        with pytest.raises(psycopg.errors.NoActiveSqlTransaction):
            connection.execute("SELECT tenantcall.enter(1)")
    assert not wrong, "\n".join(wrong)


def test_errors_without_keys(make_cluster):
    """What needs the key file says so."""
    server = make_cluster(**{"tenantcall.key_file": ""})
    server.sql("CREATE DATABASE keyless TEMPLATE tc_template")
    for kind in KINDS:
        server.sql(f"CREATE ROLE {kind} LOGIN; SELECT tenantcall.grant_{kind}('{kind}')", dbname="keyless")
    server.sql("SELECT tenantcall.create_company('A', 'DE', 'UTC')", dbname="keyless")
    for kind, statement in KEYLESS.values():
        with server.connect(role=kind, dbname="keyless") as connection:
            assert state_of(connection, statement) == "F0000", statement
