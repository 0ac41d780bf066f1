"""make demo: every check that it shows holds."""
import subprocess
import sys

import pytest

from pgserver import REPO, environment


@pytest.mark.limit(240)
def test_demo(install):
    """It plays to its end, and says how many checks held."""
    done = subprocess.run([sys.executable, REPO / "test/demo/run"], text=True, capture_output=True,
                          env=environment(TC_INSTALL=install.root), check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " checks held, 0 did not" in done.stdout
