"""The phone library: loaded when a number needs it and not before; clear about its absence."""
import random

import psycopg
import pytest

LIBRARY = "tenantcall_phone.so"
ALPHABET = "0123456789" * 3 + "+- ./()" * 2 + ";:@#,x*=%abcEXTäé０–\t"
STEMS = ("030 12 34 56", "+49 (0)30 123456", "tel:030123456;phone-context=+49", "0049 30 123456",
         "sip:030123456@example.com", "(212) 555-0123 ext. 4", "+4930123456")
REGIONS = (None, "DE", "US", "IT", "AQ", "ZZ", "de")


def libraries(conn):
    """The libraries that the session's process has mapped."""
    with open(f"/proc/{conn.info.backend_pid}/maps", encoding="utf-8") as maps:
        return {line.rstrip().rsplit("/", 1)[-1] for line in maps if "/" in line}


def is_loaded(conn):
    """Has the session loaded the phone library, or anything of C++ that it needs?"""
    return any(name.startswith((LIBRARY, "libphonenumber")) for name in libraries(conn))


def test_canonical_input_never_loads_it(db):
    """Whatever needs no numbering plan is read without it, also through the directory."""
    with db.connect(autocommit=True) as conn:
        company = conn.execute("SELECT tenantcall.create_company('c', 'DE', 'UTC')").fetchone()[0]
        with conn.transaction():
            conn.execute("SELECT tenantcall.enter(%s)", [company])
            branch = conn.execute("INSERT INTO telephony.branches (name) VALUES ('b') "
                                  "RETURNING branch_id").fetchone()[0]
        conn.execute("SELECT tenantcall.assign_number('+49 30 123456', %s, %s)", [company, branch])
        assert conn.execute("SELECT company_id FROM tenantcall.resolve_phone('+4930123456')"
                            ).fetchone() == (company,)
        for text in ("+4930123456", "+49 30/123456", "tel:+4930123456;ext=1",
                     "sip:+4930123456@example.com", "+4930123456x12"):
            conn.execute("SELECT tenantcall.parse_phone(%s, 'DE')", [text])
        conn.execute("SELECT tenantcall.caller_number('anonymous', 'DE')")
        for text in ("030 123456", "sip:anna@example.com", "", "call_1", "+49"):
            with pytest.raises(psycopg.errors.InvalidTextRepresentation):
                conn.execute("SELECT tenantcall.parse_phone(%s)", [text])
        assert "tenantcall.so" in libraries(conn)
        assert not is_loaded(conn)


def test_national_input_loads_it(db):
    """The first number that needs a plan loads it, in this session alone."""
    with db.connect(autocommit=True) as conn, db.connect(autocommit=True) as other:
        assert conn.execute("SELECT tenantcall.parse_phone('030 / 12 34 56', 'DE')::text"
                            ).fetchone() == ("+4930123456",)
        assert is_loaded(conn)
        assert not is_loaded(other)


def test_company_region_is_the_default(db):
    """assign_number() and move_number() read national numbers as those of the company's country."""
    with db.connect(autocommit=True) as conn:
        for region, number in (("DE", "+4930123456"), ("US", "+12125550123")):
            company = conn.execute("SELECT tenantcall.create_company(%s, %s, 'UTC')",
                                   [region, region]).fetchone()[0]
            with conn.transaction():
                conn.execute("SELECT tenantcall.enter(%s)", [company])
                branch = conn.execute("INSERT INTO telephony.branches (name) VALUES ('b') "
                                      "RETURNING branch_id").fetchone()[0]
            text = {"DE": "030 / 12 34 56", "US": "(212) 555-0123"}[region]
            conn.execute("SELECT tenantcall.assign_number(%s, %s, %s)", [text, company, branch])
            assert conn.execute("SELECT company_id FROM tenantcall.resolve_phone(%s)",
                                [number]).fetchone() == (company,)


@pytest.mark.parametrize("fault", ["absent", "broken"])
def test_missing_library(make_cluster, fault):
    """Without it canonical numbers work, and others are refused with the package to install."""
    server = make_cluster()
    place = next(server.install.root.rglob(LIBRARY))
    aside = place.with_suffix(".aside")
    place.rename(aside)
    try:
        if fault == "broken":
            place.write_bytes(b"\x7fELF")
            place.chmod(0o755)
        with server.connect(dbname="tc_template", autocommit=True) as conn:
            for query in ("SELECT tenantcall.parse_phone('030 123456', 'DE')",
                          "SELECT tenantcall.phone_region('+4930123456')"):
                with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
                    conn.execute(query)
                assert "libphonenumber-dev" in caught.value.diag.message_hint
                assert LIBRARY.split(".", maxsplit=1)[0] in caught.value.diag.message_detail
            assert conn.execute("SELECT tenantcall.parse_phone('+49 30 123456')::text"
                                ).fetchone() == ("+4930123456",)
            aside.rename(place)
            assert conn.execute("SELECT tenantcall.parse_phone('030 123456', 'DE')::text"
                                ).fetchone() == ("+4930123456",)
    finally:
        if aside.exists():
            aside.rename(place)


def mutate(rng):
    """A text that looks somewhat like a number."""
    text = list(rng.choice(STEMS))
    for _ in range(rng.randrange(6)):
        place = rng.randrange(len(text) + 1)
        text[place:place + rng.randrange(2)] = [rng.choice(ALPHABET)]
    return "".join(text) * rng.choice((1,) * 20 + (2, 40))


def test_fuzz(db):
    """20,000 mutated texts: each is a number that reads back, or one clear error."""
    rng = random.Random(49)
    texts = [mutate(rng) for _ in range(20000)]
    regions = [rng.choice(REGIONS) for _ in texts]
    with db.connect() as conn:
        conn.execute("""
            CREATE FUNCTION pg_temp.try(t text, r text) RETURNS text LANGUAGE plpgsql AS $$
            DECLARE p tenantcall.phone;
            BEGIN
                p := tenantcall.parse_phone(t, r);
                IF tenantcall.parse_phone(p::text)::text <> p::text OR tenantcall.phone_is_valid(p) IS NULL THEN
                    RETURN 'wrong';
                END IF;
                PERFORM tenantcall.phone_region(p), tenantcall.phone_national(p);
                RETURN 'number';
            EXCEPTION WHEN invalid_text_representation THEN
                RETURN CASE WHEN sqlerrm LIKE 'invalid phone number: %' THEN 'refused' ELSE sqlerrm END;
            END $$""")
        counts = dict(conn.execute(
            "SELECT pg_temp.try(t, r), count(*) FROM unnest(%s::text[], %s::text[]) AS x (t, r) "
            "GROUP BY 1", [texts, regions]).fetchall())
        assert set(counts) == {"number", "refused"}
        assert min(counts.values()) > 2000
        assert conn.execute(
            "SELECT count(*) FROM unnest(%s::text[], %s::text[]) AS x (t, r), "
            "tenantcall.caller_number(t, r) AS c WHERE (c.number IS NULL) = (c.reason IS NULL)",
            [texts, regions]).fetchone() == (0,)
