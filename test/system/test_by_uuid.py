"""A token that names a company by its UUID alone, set as tenantcall.token, which looks nothing up.

The context has no company_id then.  That must not be taken for "all companies" anywhere.
"""
import base64
import hashlib
import hmac
import json
import time
import uuid

import psycopg
import pytest

from conftest import Database
from full_house import FullHouse

READABLE = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname IN ('telephony', 'tenantcall', 'own') AND c.relkind IN ('r', 'p', 'v')
AND has_any_column_privilege(c.oid, 'SELECT') AND EXISTS (SELECT FROM pg_attribute AS a
    WHERE a.attrelid = c.oid AND a.attname = 'company_id' AND a.attnum > 0)
ORDER BY 1"""
CALLABLE = """
SELECT p.oid::regproc::text || '()' FROM pg_proc AS p WHERE pronamespace = 'tenantcall'::regnamespace
AND proretset AND pronargs = pronargdefaults AND 'company_id' = ANY (proargnames)
AND has_function_privilege(p.oid, 'EXECUTE') AND proname NOT LIKE 'audit%'
ORDER BY 1"""


@pytest.fixture(scope="module")
def house(cluster):
    """Two companies with everything, orders that wait included."""
    def role(stem):
        cluster.sql(f"CREATE ROLE uuid_{stem} LOGIN")
        return f"uuid_{stem}"

    database = Database(cluster, cluster.create_database("by_uuid_house"))
    yield FullHouse(database, role).fill()
    cluster.drop_database(database.name)
    cluster.sql("DROP ROLE uuid_app, uuid_gateway, uuid_admin")


def token_of(house, company):
    """A token as any JWT library would sign it."""
    def encoded(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    kid, secret = house.db.cluster.key_file.read_text().split("\n")[0].split()
    claims = {"company_uuid": str(company), "aud": house.db.name, "exp": int(time.time()) + 60}
    text = b".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT", "kid": kid}, claims))
    return (text + b"." + encoded(hmac.new(secret.encode(), text, hashlib.sha256).digest())).decode()


def seen(house, kind, token, source):
    """The companies of the rows that a view or function shows; None: it is refused."""
    with house.connect(kind) as conn:
        conn.execute("BEGIN")
        if token:
            conn.execute(f"SET LOCAL tenantcall.token = '{token}'")
        try:
            return {row[0] for row in conn.execute(f"SELECT company_id FROM {source}")}
        except psycopg.errors.Error:
            return None
        finally:
            conn.execute("ROLLBACK")


@pytest.mark.parametrize("kind", ("app", "gateway"))
def test_no_company_is_not_every_company(house, kind):
    """Whatever shows rows of companies shows none of another to a context without a company_id."""
    with house.connect(kind) as conn:
        sources = [name for query in (READABLE, CALLABLE) for name, in conn.execute(query)]
    full = {source for source in sources if (seen(house, "admin", None, source) or set()) & {house.a.id, house.b.id}}
    assert {"tenantcall.outbox_counts()", "tenantcall.stat_outbox", "tenantcall.stat_companies"} <= full
    own = house.db.sql(f"SELECT external_id FROM telephony.companies WHERE company_id = {house.a.id}")
    for company in (uuid.uuid4(), own):
        token = token_of(house, company)
        with house.connect(kind) as conn, conn.transaction():
            conn.execute(f"SET LOCAL tenantcall.token = '{token}'")
            assert conn.execute("SELECT tenantcall.current_company_id(), tenantcall.current_company_uuid()").fetchone() \
                == (None, uuid.UUID(str(company)))
        for source in sources:
            assert not {one for one in seen(house, kind, token, source) or () if one in (house.a.id, house.b.id)}, source
