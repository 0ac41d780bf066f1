"""A database with everything in it goes through pg_dump and back, in every way, and is the same."""
import pytest

import pgserver
from conftest import Database
from full_house import FullHouse, contents, differences


# Filled by releases, by jobs when they run, and by pg_cron: none of it is dumped.
EMPTY = {"tenantcall.table_upgrades", "tenantcall.maintenance_runs", "tenantcall.maintenance_schedule", "tenantcall.elected_nodes"}


@pytest.fixture(scope="module")
def house(cluster):
    """The full house, which the tests leave as it is."""
    def role(stem, options="LOGIN"):
        cluster.sql(f"CREATE ROLE dump_{stem} {options}")
        return f"dump_{stem}"

    database = Database(cluster, cluster.create_database("dump_house"))
    yield FullHouse(database, role).fill()
    cluster.drop_database(database.name)
    cluster.sql("DROP ROLE dump_app, dump_gateway, dump_admin")


@pytest.fixture
def target(cluster):
    """An empty database to restore into."""
    cluster.sql("CREATE DATABASE dump_target TEMPLATE template0; "
                "REVOKE TEMPORARY ON DATABASE dump_target FROM PUBLIC")
    yield Database(cluster, "dump_target")
    cluster.drop_database("dump_target")


def by_sections(cluster, source, file, into):
    """Tables, rows, and the rest, one after the other."""
    for section in ("pre-data", "data", "post-data"):
        cluster.client_program("pg_dump", f"--section={section}", "-f", file, source)
        cluster.client_program("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", file, into)


def plain(cluster, source, file, into):
    """One script, in one transaction."""
    cluster.client_program("pg_dump", "-f", file, source)
    cluster.client_program("psql", "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", file, into)


def custom(cluster, source, file, into):
    """An archive, restored by two at a time."""
    cluster.client_program("pg_dump", "-Fc", "-f", file, source)
    cluster.client_program("pg_restore", "--exit-on-error", "-j", "2", "-d", into, file)


def directory(cluster, source, file, into):
    """A directory, written and restored by two at a time."""
    cluster.client_program("pg_dump", "-Fd", "-j", "2", "-f", file, source)
    cluster.client_program("pg_restore", "--exit-on-error", "-j", "2", "-d", into, file)


def test_nothing_is_left_out(house):
    """Every table has rows, but for partitions of other months."""
    found = contents(house.db.cluster, house.db.name)
    assert {name for name, value in found.items() if name.count(".") == 1 and value[0] == 0
            and not name.endswith("_default") and not name[-7:].replace("_", "").isdigit()} == EMPTY
    assert {severity for severity, *_ in found["check_isolation"]} <= {"info"}


@pytest.mark.parametrize("way", [plain, custom, directory, by_sections])
def test_dump_and_restore(house, target, tmp_path, way):
    """The copy has the same rows, sequences, privileges, policies and triggers, and works."""
    before = contents(house.db.cluster, house.db.name)
    way(house.db.cluster, house.db.name, tmp_path / "dump", target.name)
    assert differences(before, contents(house.db.cluster, target.name)) == {}
    target.sql("SELECT tenantcall.create_tables()")
    assert target.sql("SELECT count(*) FROM tenantcall.outbox_home") == "0"  # its orders may have been sent elsewhere
    house.works(target)


def test_data_only(house, target, tmp_path):
    """Rows alone: refused by the triggers, which judge them as new, or let in with the triggers
    off, which loses that they fire always; check_isolation() says so, and its remedies mend it."""
    cluster, file = house.db.cluster, tmp_path / "dump"
    cluster.client_program("pg_dump", "--schema-only", "-f", file, house.db.name)
    cluster.client_program("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", file, target.name)
    assert target.sql("SELECT count(*) FROM telephony.calls") == "0"
    cluster.client_program("pg_dump", "--data-only", "-f", file, house.db.name)
    with pytest.raises(pgserver.Failure, match="cannot begin in state"):
        cluster.client_program("psql", "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", file, target.name)
    cluster.client_program("pg_dump", "--data-only", "--disable-triggers", "-f", file, house.db.name)
    cluster.client_program("psql", "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", file, target.name)
    before = contents(cluster, house.db.name)
    wrong = differences(before, contents(cluster, target.name))
    assert wrong.keys() == {"protection", "check_isolation"}
    with target.connect(autocommit=True) as conn:
        for remedy, in conn.execute("SELECT DISTINCT remedy FROM tenantcall.check_isolation() "
                                    "WHERE severity <> 'info'").fetchall():
            conn.execute(remedy)
    wrong = differences(before, contents(cluster, target.name))
    assert wrong == {}
