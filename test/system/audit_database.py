"""A database for the tests of check_isolation(): telephony, and tables of a user's own, all scoped.

Roles are named tc_audit_<kind>; they are of the whole server, and are dropped with the database.
"""
import contextlib

COLUMNS = ("severity", "check_name", "object", "detail", "remedy")
ROLES = ("tc_audit_app", "tc_audit_gateway", "tc_audit_admin", "tc_audit_owner", "tc_audit_other")

SETUP = """
CREATE ROLE tc_audit_app LOGIN;
CREATE ROLE tc_audit_gateway LOGIN;
CREATE ROLE tc_audit_admin LOGIN;
CREATE ROLE tc_audit_owner NOLOGIN;
CREATE ROLE tc_audit_other LOGIN;
SELECT tenantcall.grant_app('tc_audit_app'), tenantcall.grant_gateway('tc_audit_gateway'),
       tenantcall.grant_admin('tc_audit_admin');
CREATE SCHEMA shop AUTHORIZATION tc_audit_owner;
GRANT USAGE ON SCHEMA shop TO tc_audit_app, tc_audit_gateway;
CREATE TABLE shop.orders (company_id bigint NOT NULL, id bigint, code text, note text,
                          PRIMARY KEY (company_id, id), UNIQUE (company_id, code));
CREATE TABLE shop.lines (company_id bigint NOT NULL, id bigint, order_id bigint,
                         PRIMARY KEY (company_id, id));
CREATE TABLE shop.notes (tenant uuid NOT NULL, body text);
CREATE TABLE shop.visits (company_id bigint NOT NULL, day date NOT NULL, what text) PARTITION BY RANGE (day);
CREATE TABLE shop.visits_1 PARTITION OF shop.visits FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE shop.prices (id bigint PRIMARY KEY, cents bigint);
ALTER TABLE shop.orders OWNER TO tc_audit_owner;
ALTER TABLE shop.lines OWNER TO tc_audit_owner;
ALTER TABLE shop.notes OWNER TO tc_audit_owner;
ALTER TABLE shop.visits OWNER TO tc_audit_owner;
ALTER TABLE shop.visits_1 OWNER TO tc_audit_owner;
SELECT tenantcall.scope_table('shop.orders'), tenantcall.scope_table('shop.lines'),
       tenantcall.scope_table('shop.notes', 'tenant'), tenantcall.scope_table('shop.visits');
SELECT tenantcall.scope_foreign_key('shop.lines', '{order_id}', 'shop.orders');
CREATE VIEW shop.order_codes WITH (security_invoker) AS SELECT company_id, code FROM shop.orders;
ALTER VIEW shop.order_codes OWNER TO tc_audit_owner;
GRANT SELECT, INSERT, UPDATE, DELETE ON shop.orders, shop.lines, shop.notes, shop.visits TO tc_audit_app;
GRANT SELECT ON shop.order_codes TO tc_audit_app;
"""


@contextlib.contextmanager
def audited_database(cluster, name):
    """The name of a new database that the audit finds clean."""
    cluster.create_database(name)
    cluster.sql(SETUP + f'REVOKE TEMPORARY ON DATABASE "{name}" FROM PUBLIC;', dbname=name)
    try:
        yield name
    finally:
        for role in ROLES:
            cluster.sql(f"DROP OWNED BY {role} CASCADE", dbname=name)
        cluster.drop_database(name)
        for role in ROLES:
            cluster.sql(f"DROP ROLE {role}")


def findings(conn, unclean_only=False):
    """What check_isolation() finds, as a list of dicts."""
    rows = conn.execute("SELECT * FROM tenantcall.check_isolation()").fetchall()
    found = [dict(zip(COLUMNS, row)) for row in rows]
    return [f for f in found if not unclean_only or f["severity"] != "info"]
