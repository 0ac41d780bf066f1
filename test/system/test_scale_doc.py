"""The tables of docs/scale.md that are computed are those that the programs print."""
import subprocess

import pytest

from pgserver import REPO

PAGE = REPO / "docs" / "scale.md"


@pytest.mark.parametrize("program", ["skew", "growth"])
def test_tables(program):
    """Each row that a program prints stands in the page, in one piece."""
    done = subprocess.run([REPO / "test" / "bench" / f"{program}.py"], capture_output=True, text=True, check=True, timeout=80)
    assert done.stdout.count("\n") > 5
    assert done.stdout in PAGE.read_text(encoding="utf-8")
