"""SECURITY.md names mechanisms and tests: each of them exists, and every guarantee has both."""
import re

from pgserver import REPO

DOCUMENT = (REPO / "SECURITY.md").read_text(encoding="utf-8")
REFERENCE = re.compile(r"`((?:src|sql|test|docs)/[\w./-]+)(?:::(\w+))?`")


def guarantees():
    """The rows of the tables of guarantees."""
    part = DOCUMENT.split("## What is guaranteed")[1].split("## What remains")[0]
    for line in part.split("\n"):
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and not line.startswith(("| guarantee", "| ---")):
            yield cells


def test_what_it_names_exists():
    """Every file, and every function in it, is there."""
    found = REFERENCE.findall(DOCUMENT)
    assert len(found) > 60
    for path, function in found:
        file = REPO / path
        assert file.is_file(), path
        if function:
            pattern = rf"^def {function}\(" if path.endswith(".py") else rf"^{function}\("
            assert re.search(pattern, file.read_text(encoding="utf-8"), re.M), f"{path}::{function}"


def test_every_guarantee_has_mechanism_and_test():
    """Three cells each, the last of which names tests that pytest or pg_regress run."""
    rows = list(guarantees())
    assert len(rows) > 25
    for row in rows:
        assert len(row) == 3 and all(row), row
        tests = REFERENCE.findall(row[2])
        assert tests and all(path.startswith("test/") for path, _ in tests), row
        for path, function in tests:
            assert function or not path.endswith(".py"), f"{path}: which test?"
