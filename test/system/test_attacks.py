"""Attacks on the isolation of companies: each succeeds against a naive schema, none against ours.

The naive schema has row security, with policies on current_setting(), as tutorials show it.  Ours
has the same tables, views and functions, scoped.  The attacks stand in attack_list.py.
"""
import psycopg
import pytest

import attack_list
from attack_stage import PARALLEL, Side, Stage, perform
from pooler import Pooler

GENERIC = {"plan_cache_mode": "force_generic_plan"}
SETTINGS = ("default", "parallel", "generic", "pooled", "standby")
WHO = {"app": ("atk_app", "app"), "gateway": ("atk_gateway", "gateway"), "member": ("atk_member", "app")}


@pytest.fixture(scope="module")
def stage(workspace, install):
    """Server, schemas and roles."""
    made = Stage(workspace, install)
    yield made
    made.close()


def options_of(stage, setting):
    """Settings as a client's start options."""
    given = {"parallel": {**PARALLEL, stage.force_setting: "on"}, "generic": GENERIC}.get(setting, {})
    return " ".join(f"-c {name}={value}" for name, value in given.items())


def connector(stage, setting):
    """How to connect under a setting."""
    if setting == "pooled":
        if Pooler.program() is None:
            pytest.skip("pgbouncer is not installed")
        return lambda role, options: stage.pool().connect(role)
    server = stage.cluster
    if setting == "standby":
        if stage.standby is None:
            stage.standby = stage.cluster.standby("attacks_standby")
        server = stage.standby
        stage.cluster.wait_for_replay(server)
    fixed = options_of(stage, setting)
    return lambda role, options: server.connect(role=role, dbname="attacks",
                                                options=f"{fixed} {options}".strip())


@pytest.mark.parametrize("attack", attack_list.SHARED + attack_list.AS_OWNER, ids=lambda a: a.name)
def test_naive_schema_falls(stage, attack):
    """The attack is a real one: it works where tenantcall is not used."""
    owner = attack.by == "owner" or attack in attack_list.AS_OWNER
    side = Side(stage, "naive", "naive_owner" if owner else "naive_app", "app")
    how, failed = perform(stage, side, attack, connector(stage, "default"))
    assert how, f"the attack does not even work against a naive schema; {failed}"


READABLE = """
SELECT format('%I.%I', n.nspname, c.relname),
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'company_id' AND a.attnum > 0)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND has_schema_privilege(n.oid, 'USAGE')
  AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT') ELSE has_any_column_privilege(c.oid, 'SELECT') END
  AND n.nspname NOT IN ('naive', 'playground')
ORDER BY 1
"""
# the list of roles, databases and objects is open to everybody in PostgreSQL
CATALOGS = ("pg_catalog.", "information_schema.")


@pytest.mark.parametrize("who", WHO)
def test_sweep(stage, who):
    """Everything that may be read, read as company A: nothing of B's is in it."""
    seen = 0
    stage.cluster.sql("ANALYZE", dbname="attacks")  # or else autovacuum does, at some time
    with stage.cluster.connect(role=WHO[who][0], dbname="attacks", autocommit=True) as conn:
        relations = conn.execute(READABLE).fetchall()
        for relation, has_company in relations:
            conn.execute("BEGIN")
            conn.execute(Side(stage, "ours", *WHO[who]).words["enter_a"])
            try:
                rows = conn.execute(f"SELECT t.* FROM {relation} AS t").fetchall()
                if relation.startswith("pg_catalog.pg_stats"):
                    rows = [row for row in rows if row[0] != "naive"]  # its partitions are open to all
                seen += len(rows) > 0
                assert not any("BETA" in str(row) for row in rows) or relation.startswith(CATALOGS) \
                    and who == "gateway", relation
                if has_company:
                    of_others = conn.execute(f"SELECT count(*) FROM {relation} AS t "
                                             f"WHERE company_id = {stage.b}").fetchone()
                    assert of_others == (0,), relation
            except psycopg.errors.InsufficientPrivilege:
                pass
            finally:
                conn.execute("ROLLBACK")
    assert seen > 20, relations


@pytest.mark.limit(120)
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("who", WHO)
def test_ours_stands(stage, who, setting):
    """No attack works, by whomever, under whatever setting."""
    if who == "member" and setting == "pooled":
        pytest.skip("the owner's members are attacked with directly")
    role, kind = WHO[who]
    side = Side(stage, "ours", role, kind)
    connect = connector(stage, setting)
    attacks = [a for a in attack_list.SHARED + attack_list.OURS_ONLY
               if who != "gateway" or not a.not_gateway]
    if who == "member":
        attacks += attack_list.AS_OWNER + attack_list.OURS_AS_OWNER
    succeeded, broken = {}, {}
    for attack in attacks:
        how, failed = perform(stage, side, attack, connect)
        if how:
            succeeded[attack.name] = how
        if failed and setting != "standby":
            broken[attack.name] = failed
    assert succeeded == {}
    # what A and B do as they should must have worked, or the attacks have proved nothing
    assert broken == {}


@pytest.mark.parametrize("attribute", ["SUPERUSER", "BYPASSRLS", "REPLICATION", "CREATEROLE"])
def test_no_rights_for_roles_that_reach_beyond(stage, attribute):
    """A role that row security does not bind, or that can become one, is given nothing."""
    stage.su.execute(f"CREATE ROLE strong {attribute}; CREATE ROLE weak IN ROLE strong")
    try:
        for role in ("strong", "weak"):
            with pytest.raises(psycopg.errors.InvalidGrantOperation, match="cannot be held to one company"):
                stage.su.execute(f"SELECT tenantcall.grant_app('{role}')")
    finally:
        stage.su.execute("DROP ROLE weak, strong")


def test_large_objects_by_the_fast_path(stage, tmp_path):
    """psql's \\lo_import calls functions without a statement; an application role is refused."""
    file = tmp_path / "object"
    file.write_text("x")
    done = stage.cluster.psql("-c", f"\\lo_import {file}", dbname="attacks", role="naive_app")
    assert done.returncode == 0
    done = stage.cluster.psql("-c", f"\\lo_import {file}", dbname="attacks", role="atk_app")
    assert "application roles may not use lo_creat" in done.stderr
