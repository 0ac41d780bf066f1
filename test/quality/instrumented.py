"""instrumented: a copy of the sources, built with other flags, in which test/run tests itself.

    with Workspace() as work:
        copy = Copy(work, "--coverage")              # copies what git knows of
        copy.test("regress", TC_SERVER="valgrind")   # builds there, and runs that part of the tests

Flags reach every compiler and linker call as COPT.  Servers are started through TC_SERVER.
"""
import pathlib
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "setup"))

import pgserver  # noqa: E402
from pgserver import REPO, Failure, say  # noqa: E402

QUALITY = REPO / "test" / "quality"
BUILD = REPO / "build" / "quality"


class Copy:
    """The copy, below a directory that the server's user can enter."""

    def __init__(self, work, flags):
        self.dir = work.dir / "source"
        self.flags = flags
        self.dir.mkdir()
        names = subprocess.run(["git", "-c", f"safe.directory={REPO}", "-C", REPO, "ls-files", "-z",
                                "--cached", "--others", "--exclude-standard"],
                               capture_output=True, check=True).stdout
        packed = subprocess.run(["tar", "--null", "--ignore-failed-read", "-C", REPO, "-cf", "-",
                                 "-T", "-"], input=names, stdout=subprocess.PIPE, check=True)
        subprocess.run(["tar", "-C", self.dir, "-xf", "-"], input=packed.stdout, check=True)

    def test(self, part, names=(), **env):
        """Builds, and runs a part of the tests; returns whether all passed."""
        argv = [self.dir / "test" / "run", "--only", part, *names]
        done = subprocess.run([str(a) for a in argv], cwd=self.dir, check=False,
                              env=pgserver.environment(COPT=self.flags, **env))
        return done.returncode == 0


def need(*packages):
    """Sees to it that Debian packages are installed."""
    done = subprocess.run([REPO / "test" / "setup" / "packages", *packages], check=False)
    if done.returncode != 0:
        raise Failure("packages are missing: " + " ".join(packages))


def write(name, text):
    """Writes a report, and says where."""
    BUILD.mkdir(parents=True, exist_ok=True)
    path = BUILD / name
    path.write_text(text, encoding="utf-8")
    say(f"see {path.relative_to(REPO)}")
