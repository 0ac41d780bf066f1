"""The files of docs/monitoring say nothing that is not so: each query runs, each metric exists."""
import json
import re

import psycopg
import pytest

import pgserver

yaml = pytest.importorskip("yaml")

FILES = pgserver.REPO / "docs" / "monitoring"
NUMBERS = {20, 21, 23, 700, 701, 1700}  # int8, int2, int4, float4, float8, numeric
WORDS = {"sum", "by", "rate", "topk", "histogram_quantile"}  # of PromQL, as far as we use it


@pytest.fixture(name="watcher")
def make_watcher(world, role):
    """A connection of a role that has pg_monitor and nothing else, where something has happened."""
    name = role("watcher", "LOGIN IN ROLE pg_monitor")
    acme = world.company("Acme", Mitte="+4930111111")
    world.see(acme, "SELECT 1")
    return world.db.connect(role=name, autocommit=True)


def queries():
    """The exporter's queries, by name."""
    return yaml.safe_load((FILES / "postgres_exporter.yaml").read_text(encoding="utf-8"))


def metrics():
    """Names of metrics, with their labels."""
    found = {}
    for name, query in queries().items():
        columns = {column: about for metric in query["metrics"] for column, about in metric.items()}
        labels = {column for column, about in columns.items() if about["usage"] == "LABEL"}
        found.update({f"{name}_{column}": labels for column in columns.keys() - labels})
    return found


def panels():
    """The dashboard's panels."""
    return json.loads((FILES / "grafana.json").read_text(encoding="utf-8"))["panels"]


def test_exporter(watcher):
    """Each query runs as pg_monitor, and returns the columns that are named, of the right kind."""
    for name, query in queries().items():
        assert set(query) == {"query", "metrics"}, name
        columns = {column: about for metric in query["metrics"] for column, about in metric.items()}
        cursor = watcher.execute(query["query"])
        assert [column.name for column in cursor.description] == list(columns), name
        for column in cursor.description:
            about = columns[column.name]
            assert about["usage"] in ("LABEL", "COUNTER", "GAUGE") and about["description"]
            assert (column.type_code in NUMBERS) == (about["usage"] != "LABEL"), (name, column.name)
        rows = cursor.fetchall()
        numbers = [i for i, about in enumerate(columns.values()) if about["usage"] != "LABEL"]
        assert all(row[i] is not None for row in rows for i in numbers), name
        labels = [tuple(v for i, v in enumerate(row) if i not in numbers) for row in rows]
        assert len(labels) == len(set(labels)), f"{name} has rows of the same labels"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        watcher.execute("SELECT * FROM telephony.companies")


def test_dashboard_is_whole():
    """Panels have ids of their own, and do not lie on one another."""
    taken = {}
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids)) > 15
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
        refs = [target["refId"] for target in panel.get("targets", [])]
        assert len(refs) == len(set(refs)) and (refs or panel["type"] == "row")


def test_dashboard_asks_for_what_there_is(watcher):
    """Metrics and labels are those of the exporter's file; SQL runs as pg_monitor."""
    known, used = metrics(), set()
    for target in (target for panel in panels() for target in panel.get("targets", [])):
        if "rawSql" in target:
            assert watcher.execute(target["rawSql"]).description
            continue
        expression = re.sub(r'"[^"]*"', '""', target["expr"])
        names = set(re.findall(r"\btenantcall_\w+", expression))
        assert names and names <= known.keys(), target["expr"]
        used |= names
        labels = set.intersection(*(known[name] for name in names))
        asked = {word for group in re.findall(r"by \(([^)]*)\)|\{([^}]*)\}", expression)
                 for word in re.findall(r"[a-z_]+", " ".join(group))}
        asked |= set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert asked <= labels, (target["expr"], asked - labels)
        bare = re.sub(r"\[5m\]|by \([^)]*\)|\{[^}]*\}", "", expression)
        assert set(re.findall(r"[a-z_]{2,}", bare)) - WORDS <= names, target["expr"]
        assert expression.count("(") == expression.count(")")
    assert {name.split("_", 2)[1] for name in known} == {name.split("_", 2)[1] for name in used}
