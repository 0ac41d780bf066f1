"""The reference against the catalog: complete, true, and nothing else in it."""
import re

import pytest

from readme_blocks import DOCUMENTS, OPERATORS, README, REFERENCE, all_blocks

# What serves the operators, classes, input and output of a type; trigger functions.
SUPPORT = """
    SELECT unnest(ARRAY[typinput, typoutput, typreceive, typsend]::oid[]) FROM pg_type
    UNION SELECT oprcode FROM pg_operator
    UNION SELECT amproc FROM pg_amproc
    UNION SELECT oid FROM pg_proc WHERE prorettype IN ('trigger'::regtype, 'event_trigger'::regtype)
"""

FUNCTIONS = f"""
    SELECT p.proname AS name, regexp_replace(pg_get_function_arguments(p.oid), '^IN ', '') AS arguments,
           coalesce(pg_get_function_result(p.oid), 'procedure') AS result, obj_description(p.oid, 'pg_proc') AS comment,
           has_function_privilege('public', p.oid, 'EXECUTE') AS everybody,
           ARRAY(SELECT k.kind FROM unnest(%s::text[], %s::name[]) AS k (kind, role)
                 WHERE has_function_privilege(k.role, p.oid, 'EXECUTE')) AS kinds,
           p.oid IN ({SUPPORT}) AS support
    FROM pg_proc AS p WHERE p.pronamespace = 'tenantcall'::regnamespace
"""

RELATIONS = """
    SELECT c.relname, c.relkind = 'v',
           (SELECT bool_or(a.grantee = 0) FROM aclexplode(c.relacl) AS a),
           ARRAY(SELECT k.kind FROM unnest(%s::text[], %s::name[]) AS k (kind, role)
                 WHERE has_table_privilege(k.role, c.oid, 'SELECT'))
    FROM pg_class AS c WHERE c.relnamespace = 'tenantcall'::regnamespace AND c.relkind IN ('r', 'v')
"""

KINDS = ["app", "gateway", "admin"]


def shorten(declaration):
    """A declaration of the catalog as the reference writes it."""
    text = declaration.replace("timestamp with time zone", "timestamptz").replace("tenantcall.", "")
    text = re.sub(r"::[a-z]+( [a-z]+)*(\[\])?", "", text)
    return text.replace("'00:00:00'", "'0'")


def cells(text):
    """The rows of all tables whose first cell is code: lists of cells."""
    for line in text.split("\n"):
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def section(title, path=REFERENCE):
    """A section of a document, without its heading."""
    text = path.read_text()
    start = text.index(f"\n{title}\n") + len(title) + 2
    level = title.split(" ")[0]
    end = re.search(rf"^#{{1,{len(level)}}} ", text[start:], re.M)
    return text[start:start + end.start()] if end else text[start:]


def documented_functions():
    """(name, arguments, result, who) of each function of the reference; overloads apart."""
    for row in cells(REFERENCE.read_text()):
        match = re.match(r"`(\w+)\((.*)\)`$", row[0])
        if match is None:
            continue
        result, who = row[1].strip("`"), row[2]
        for variant in ("text", "bytea") if "text/bytea" in match[2] else ("text",):
            yield match[1], match[2].replace("text/bytea", variant), result, who


def who_of(everybody, kinds):
    """Who may do something, as the reference writes it."""
    return "everybody" if everybody else ", ".join(kinds) or "superuser"


@pytest.fixture
def kinds(db, role):
    """A role of each kind."""
    names = []
    for kind in KINDS:
        names.append(role(f"reference_{kind}"))
        db.sql(f"SELECT tenantcall.grant_{kind}('{names[-1]}')")
    return names


@pytest.fixture
def catalog(db, kinds):
    """What the catalog knows of the functions."""
    from psycopg.rows import namedtuple_row
    with db.connect(row_factory=namedtuple_row) as conn:
        return conn.execute(FUNCTIONS, [KINDS, kinds]).fetchall()


def test_functions(catalog):
    """Every function for users is in the reference, with its arguments, result and privileges."""
    actual = set()
    for function in catalog:
        if function.support or function.comment.startswith("internal:"):
            continue
        arguments, result = shorten(function.arguments), shorten(function.result)
        if "OUT " in arguments:
            result = ("TABLE" if result.startswith("SETOF") else "record")
            result += "(" + arguments.replace("OUT ", "") + ")"
            arguments = ""
        actual.add((function.name, arguments, result, who_of(function.everybody, function.kinds)))
    assert sorted(documented_functions()) == sorted(actual)


def test_internal_functions_are_closed(catalog):
    """What the reference leaves out as internal is not for any kind of role, but as a part of others."""
    parts = ("lifecycle_trigger_args", "require_state", "plain_name", "table_here", "arrive", "caller_calls",
             "rate_policy_names", "cluster_tables", "tables_schema")
    opened = [f.name for f in catalog if f.comment.startswith("internal:")
              and (f.kinds or f.everybody) and f.name not in parts
              and not (f.kinds == ["admin"] and f.name.startswith(("audit_", "library_")))]
    assert not opened


def test_comments(catalog):
    """Every function has a comment."""
    assert [function.name for function in catalog if not function.comment] == []


def test_relations(db, kinds):
    """Every view, and every table that others than superusers may read, is in the reference."""
    with db.connect() as conn:
        actual = {(name, who_of(everybody, able))
                  for name, view, everybody, able in conn.execute(RELATIONS, [KINDS, kinds])
                  if view or everybody or able}
    documented = {(row[0].strip("`"), row[1]) for row in cells(section("## Views and tables"))}
    assert documented == actual


def test_types(db):
    """Every type is in the reference, with the columns of composite ones."""
    types = db.sql("SELECT t.typname, (SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, -1), "
                   "',' ORDER BY a.attnum) FROM pg_attribute AS a WHERE a.attrelid = t.typrelid) "
                   "FROM pg_type AS t LEFT JOIN pg_class AS c ON c.oid = t.typrelid "
                   "WHERE t.typnamespace = 'tenantcall'::regnamespace AND t.typelem = 0 "
                   "AND (t.typtype = 'b' OR c.relkind = 'c')")
    actual = dict(line.split("|") for line in types.split("\n"))
    documented = {row[0].strip("`"): row[1] for row in cells(section("## Types"))}
    assert set(documented) == set(actual)
    for name, columns in actual.items():
        for column in columns.split(",") if columns else []:
            assert column in documented[name], name


def test_settings(db):
    """Every setting is in the table of settings, with its default, and nothing else is."""
    actual = dict(line.split("|") for line in db.sql(
        "SELECT name, coalesce(boot_val, '') || coalesce(' ' || unit, '') FROM pg_settings "
        "WHERE name LIKE 'tenantcall.%'").split("\n"))
    documented = {row[0].strip("`"): row[1].strip("`") for row in cells(section("## Settings", OPERATORS))}
    assert set(documented) == set(actual)
    written = {"4096 kB": "4 MB", "120 s": "2 min", "7200 s": "2 h", "86400 s": "1 d", "1000 ms": "1 s"}
    for name, value in actual.items():
        assert documented[name] in (written.get(value, value) or "empty", value or "none"), name


def test_examples():
    """Every function of the reference is called in a block that is run."""
    text = "".join(block.text for block in all_blocks() if block.language in ("sql", "python"))
    on_citus = {"distribute", "distribute_roles", "company_node", "call_at_home", "elect_node",
                "elected_node"}  # test_citus*.py
    missing = {name for name, *_ in documented_functions()
               if f"tenantcall.{name}(" not in text and name not in on_citus}
    assert missing == set()


def anchors(path):
    """What links may lead to within a document."""
    return {re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
            for line in path.read_text().split("\n") if line.startswith("#")}


@pytest.mark.parametrize("path", sorted({*DOCUMENTS, *(README.parent / "docs").glob("*.md")}), ids=lambda path: path.name)
def test_links(path):
    """Links within and between the documents lead somewhere."""
    for file, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", path.read_text()):
        target = path.parent / file if file else path
        assert target.exists(), file
        assert not anchor or anchor in anchors(target), f"{file}#{anchor}"


def test_changelog(catalog, db):
    """What the changelog names exists, and nothing that users may call was forgotten."""
    text = (README.parent / "CHANGELOG.md").read_text()
    named = set(re.findall(r"`(\w+)`", text))
    relations = set(db.sql("SELECT relname FROM pg_class WHERE relnamespace = 'tenantcall'::regnamespace "
                           "UNION SELECT typname FROM pg_type WHERE typnamespace = 'tenantcall'::regnamespace"
                           ).split("\n"))
    assert named <= {function.name for function in catalog} | relations
    small = {"version", "rate_buckets", "rate_table"}
    assert {name for name, *_ in documented_functions()} - named <= small
