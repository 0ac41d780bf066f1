"""The directory's caches: right at once in every session, in every way a change can arrive."""
import psycopg
import pytest

from calls import SECRET, House, ingest, message, now_ms, sign
from test_key import reload

RESOLVE = "SELECT company_id, branch_id, company_status FROM tenantcall.resolve_phone(%s)"


@pytest.fixture
def house(db, role):
    """Two companies and a gateway."""
    made = House(db, role("gateway"))
    made.company()
    made.company()
    return made


def resolve(conn, number):
    """To whom a number belongs."""
    return conn.execute(RESOLVE, [number]).fetchone()


def places(house):
    """What resolving gives for the first branches of the two companies."""
    return [(c, house.branches[c][0], "active") for c in house.companies]


def test_changes_act_at_commit(house):
    """Assigned, moved, released, rolled back: another session sees it at commit, not before."""
    one, two = places(house)
    new = "+493099999"
    with house.connect() as reader, house.connect() as snapshot, house.db.connect() as admin:
        snapshot.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        assert snapshot.execute("SELECT count(*) FROM telephony.phone_numbers").fetchone() == (0,)

        def change(statement, *values, before, after):
            """Changes first in vain, then for good."""
            for end in (admin.rollback, admin.commit):
                admin.execute(f"SELECT tenantcall.{statement}", values)
                assert resolve(admin, new) == after, "the changing session sees its own change"
                assert [resolve(c, new) for c in (reader, snapshot)] == [before, before]
                end()
                expected = before if end == admin.rollback else after
                assert [resolve(c, new) for c in (admin, reader, snapshot)] == [expected] * 3
                admin.rollback()

        change("assign_number(%s, %s, %s)", new, *one[:2], before=None, after=one)
        change("move_number(%s, %s, %s)", new, *two[:2], before=one, after=two)
        change("set_company_status(%s, 'suspended', 'test')", two[0],
               before=two, after=(*two[:2], "suspended"))
        change("set_company_status(%s, 'active', 'test')", two[0],
               before=(*two[:2], "suspended"), after=two)
        change("release_number(%s)", new, before=two, after=None)


def test_savepoints(house):
    """What is rolled back to a savepoint is forgotten by the changing session as well."""
    one, two = places(house)
    number = house.numbers[one[0]][0]
    with house.db.connect() as admin:
        assert resolve(admin, number) == one
        admin.execute("SAVEPOINT a")
        admin.execute("SELECT tenantcall.move_number(%s, %s, %s)", [number, *two[:2]])
        assert resolve(admin, number) == two
        admin.execute("ROLLBACK TO a")
        assert resolve(admin, number) == one


def test_two_phase_commit(house):
    """A prepared move acts at COMMIT PREPARED."""
    one, two = places(house)
    number = house.numbers[one[0]][0]
    with house.connect() as reader, house.db.connect(autocommit=True) as admin:
        for end, expected in (("ROLLBACK", one), ("COMMIT", two)):
            admin.execute("BEGIN")
            admin.execute("SELECT tenantcall.move_number(%s, %s, %s)", [number, *two[:2]])
            admin.execute("PREPARE TRANSACTION 'tc_directory'")
            assert resolve(reader, number) == one
            admin.execute(f"{end} PREPARED 'tc_directory'")
            assert resolve(reader, number) == expected
            assert resolve(admin, number) == expected


def truncate_numbers(admin):
    """Empties the table of numbers, and what refers to it: first without the guards of the audit trail."""
    for (trail,) in admin.execute("SELECT tgrelid::regclass::text FROM pg_trigger "
                                  "WHERE tgname = 'tenantcall_trail_truncate'").fetchall():
        admin.execute(f"ALTER TABLE {trail} DISABLE TRIGGER tenantcall_trail_truncate")
    admin.execute("TRUNCATE telephony.phone_numbers CASCADE")


def test_direct_changes_by_a_superuser(house):
    """Whoever writes past the functions is seen as well."""
    one, two = places(house)
    first, second = (house.numbers[c][0] for c in house.companies)
    with house.connect() as reader, house.db.connect(autocommit=True) as admin:
        assert [resolve(reader, n) for n in (first, second)] == [one, two]
        admin.execute("UPDATE telephony.companies SET status = 'suspended' WHERE company_id = %s",
                      [one[0]])
        assert resolve(reader, first) == (*one[:2], "suspended")
        admin.execute("SET session_replication_role = replica")
        admin.execute("DELETE FROM telephony.phone_numbers WHERE number = %s", [first])
        assert [resolve(reader, n) for n in (first, second)] == [None, two]
        admin.execute("RESET session_replication_role")
        truncate_numbers(admin)
        assert resolve(reader, second) is None
        admin.execute("ALTER SCHEMA telephony RENAME TO moved")
        with pytest.raises(psycopg.Error) as raised:
            resolve(reader, first)
        assert raised.value.sqlstate == "55000"
        admin.execute("ALTER SCHEMA moved RENAME TO telephony")
        assert resolve(reader, first) is None


def test_history_is_contiguous(house):
    """A move leaves no gap and no overlap, and calls belong to the owner at their start."""
    one, two = places(house)
    number = house.numbers[one[0]][0]
    with house.connect() as gateway, house.db.connect(autocommit=True) as admin:
        for place in (two, one, two):
            admin.execute("SELECT tenantcall.move_number(%s, %s, %s)", [number, *place[:2]])
        rows = admin.execute(
            "SELECT assigned_at, released_at, lead(assigned_at) OVER (ORDER BY phone_number_id) "
            "FROM telephony.phone_numbers WHERE number = %s ORDER BY phone_number_id", [number]).fetchall()
        assert len(rows) == 4
        for assigned, released, following in rows:
            assert released == following and (released is None or released >= assigned)
        got = ingest(gateway, message("call_started", "old call", to_number=number,
                                      start_timestamp=now_ms() - 3600000))
        assert got["company_id"] == one[0]
        got = ingest(gateway, message("call_started", "new call", to_number=number,
                                      start_timestamp=now_ms() + 1000))
        assert got["company_id"] == two[0]


def test_assigning_at_once(house):
    """Two sessions assign one number: the second waits, and is told."""
    one, two = places(house)
    new = "+493088888"
    with house.db.connect() as first, house.db.connect() as second:
        pid = second.execute("SELECT pg_backend_pid()").fetchone()[0]
        for statement, values in (("assign_number(%s, %s, %s)", (new, *one[:2])),
                                  ("assign_agent(%s, %s, %s)", ("agent at once", *one[:2])),
                                  ("create_company('at once', 'DE', 'UTC', %s)",
                                   ("7a3cf6a4-5d50-4d0e-9f43-0c2b1f3a9d99",))):
            first.execute(f"SELECT tenantcall.{statement}", values)
            error = wait_for_error(house, second, pid, f"SELECT tenantcall.{statement}", values, first)
            assert error.sqlstate == "PT409" and "meanwhile" in str(error)
            second.rollback()


def wait_for_error(house, conn, pid, statement, values, blocker):
    """Runs a statement that waits for another session, lets that commit; the error."""
    import threading
    errors = []

    def work():
        try:
            conn.execute(statement, values)
        except psycopg.Error as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    house.db.cluster.wait_until(
        lambda: house.db.sql(f"SELECT cardinality(pg_blocking_pids({pid}))") == "1", "the wait")
    blocker.commit()
    thread.join(30)
    return errors[0]


def test_memory_is_bounded(house):
    """A stream of made-up numbers costs time, not memory; the real ones are still right."""
    one, _two = places(house)
    number = house.numbers[one[0]][0]
    used = ("SELECT sum(used_bytes) FROM pg_backend_memory_contexts "
            "WHERE name LIKE 'tenantcall%'")
    total = "SELECT sum(total_bytes) FROM pg_backend_memory_contexts"
    stream = "SELECT count(*) FROM generate_series(%s, %s) n, tenantcall.resolve_phone('+49' || n)"
    with house.db.connect(autocommit=True) as conn:
        conn.execute("SET tenantcall.directory_cache_size = 16")
        assert resolve(conn, number) == one
        conn.execute(stream, [10000000, 10010000])
        before = [conn.execute(query).fetchone()[0] for query in (used, total)]
        assert conn.execute(stream, [20000000, 20100000]).fetchone()[0] == 0
        after = [conn.execute(query).fetchone()[0] for query in (used, total)]
        assert after[0] <= before[0] + 8192 and after[1] <= before[1] + 65536
        assert resolve(conn, number) == one
        conn.execute("RESET tenantcall.directory_cache_size")
        conn.execute(stream, [30000000, 30100000])
        assert conn.execute(used).fetchone()[0] < 4 * 1024 * 1024


def test_webhook_keys_act_at_once(house):
    """Set, replaced and dropped keys act in other sessions at commit."""
    body = message("call_started", "keys", to_number=house.numbers[house.companies[0]][0])

    def outcome(secret):
        return ingest(gateway, body, sign(body, secret))["outcome"]

    with house.connect() as gateway, house.db.connect() as admin:
        assert [outcome(SECRET), outcome("second")] == ["applied", "rejected"]
        admin.execute("SELECT tenantcall.set_webhook_key('retell', 'new', 'second')")
        assert outcome("second") == "rejected"
        admin.rollback()
        assert outcome("second") == "rejected"
        admin.execute("SELECT tenantcall.set_webhook_key('retell', 'new', 'second')")
        admin.commit()
        assert [outcome(SECRET), outcome("second")] == ["duplicate", "duplicate"]
        admin.execute("SELECT tenantcall.set_webhook_key('retell', 'new', 'third')")
        admin.commit()
        assert [outcome(SECRET), outcome("second"), outcome("third")] == \
            ["duplicate", "rejected", "duplicate"]
        admin.execute("SELECT tenantcall.drop_webhook_key('retell', 'account')")
        admin.commit()
        assert [outcome(SECRET), outcome("third")] == ["rejected", "duplicate"]


def test_key_of_a_company(house):
    """A body verified by a company's own key touches that company only."""
    one, two = house.companies
    with house.connect() as gateway, house.db.connect(autocommit=True) as admin:
        admin.execute("SELECT tenantcall.set_webhook_key('retell', 'own', 'own secret', %s)", [one])

        def outcome(call_id, number, secret):
            body = message("call_started", call_id, to_number=number)
            got = ingest(gateway, body, sign(body, secret))
            return got["outcome"], got["reason"], got["company_id"]

        number_one, number_two = (house.numbers[c][0] for c in (one, two))
        assert outcome("k1", number_one, "own secret") == ("applied", None, one)
        assert outcome("k2", number_two, "own secret") == ("rejected", "forged", None)
        assert outcome("k3", number_two, SECRET) == ("applied", None, two)
        # bound to the second company: the number of the first does not open it
        assert outcome("k3", number_one, "own secret") == ("rejected", "forged", None)
        # bound to the first company, which is told of the conflict
        body = message("call_ended", "k1", to_number=number_two)
        got = ingest(gateway, body, sign(body, "own secret"))
        assert (got["outcome"], got["reason"], got["company_id"]) == \
            ("conflict", "names_another_tenant", one)
        admin.execute("SELECT tenantcall.drop_webhook_key('retell', 'account')")
        assert outcome("k4", number_two, "own secret") == ("rejected", "no_key_fits", None)
        assert admin.execute("SELECT count(*) FROM telephony.calls").fetchone() == (2,)


def test_a_secret_of_a_vanished_key(make_cluster):
    """Secrets can be read while the key file has their key; if not, the error says which."""
    server = make_cluster()
    server.create_database("keys")

    class Keys:
        """The database, as House wants it."""
        cluster = server

        @staticmethod
        def sql(text, role="postgres"):
            return server.sql(text, dbname="keys", role=role)

        @staticmethod
        def connect(role="postgres", **options):
            return server.connect(role=role, dbname="keys", **options)

    server.sql("CREATE ROLE gateway LOGIN IN ROLE pg_read_all_stats")
    lines = server.key_file.read_text().splitlines()
    house = House(Keys, "gateway")
    body = message("call_started", "vanished", to_number=house.numbers[house.company()][0])

    def write(*chosen):
        server.key_file.write_text("".join(line + "\n" for line in chosen))
        reload(server, gateway)

    with house.connect() as gateway:
        assert ingest(gateway, body)["outcome"] == "applied"
        write("k9 " + "9" * 64, *lines)
        assert ingest(gateway, body)["outcome"] == "duplicate"
        write("k9 " + "9" * 64)
        memory = ("SELECT total_bytes FROM pg_backend_memory_contexts "
                  "WHERE name = 'tenantcall webhook keys'")
        sizes = set()
        for _ in range(300):
            with pytest.raises(psycopg.Error) as raised:
                ingest(gateway, body)
            sizes.add(gateway.execute(memory.replace("total_bytes", "sum(total_bytes)")).fetchone())
        error = raised.value
        assert error.sqlstate == "F0000"
        assert error.diag.message_primary == "a stored secret needs a key that is not in the key file"
        assert lines[0].split()[0] in error.diag.message_detail and error.diag.message_hint
        assert len(sizes) == 1
        write("k9 " + "9" * 64, *lines)
        assert ingest(gateway, body)["outcome"] == "duplicate"


@pytest.mark.limit(180)
def test_on_a_standby(make_cluster):
    """A hot standby answers from memory too, and is right as soon as it has replayed."""
    primary = make_cluster()
    primary.create_database("standby")
    one, two = (int(x) for x in primary.sql(
        "SELECT tenantcall.create_company(n, 'DE', 'UTC') FROM unnest('{one,two}'::text[]) n",
        dbname="standby").split())
    for company in (one, two):
        primary.sql(f"BEGIN; SELECT tenantcall.enter({company}); INSERT INTO telephony.branches "
                    f"(branch_id, name) VALUES ({company}, 'b'); COMMIT", dbname="standby")
    copy = primary.standby()
    try:
        with copy.connect(dbname="standby", autocommit=True) as reader, \
                primary.connect(dbname="standby", autocommit=True) as admin:
            assert resolve(reader, "+4930777") is None
            for statement, values, expected in (
                    ("assign_number(%s, %s, %s)", ("+4930777", one, one), (one, one, "active")),
                    ("move_number(%s, %s, %s)", ("+4930777", two, two), (two, two, "active")),
                    ("set_company_status(%s, %s)", (two, "suspended"), (two, two, "suspended")),
                    ("release_number(%s)", ("+4930777",), None),
                    ("assign_number(%s, %s, %s)", ("+4930777", one, one), (one, one, "active"))):
                admin.execute(f"SELECT tenantcall.{statement}", values)
                primary.wait_for_replay(copy)
                assert resolve(reader, "+4930777") == expected
            reader.execute("BEGIN")
            reader.execute("SELECT tenantcall.enter_phone('+4930777')")
            assert reader.execute("SELECT tenantcall.current_company_id()").fetchone() == (one,)
            reader.execute("COMMIT")
            truncate_numbers(admin)
            primary.wait_for_replay(copy)
            assert resolve(reader, "+4930777") is None
    finally:
        copy.stop("immediate")
