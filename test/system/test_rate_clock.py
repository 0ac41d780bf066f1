"""Steps of the wall clock, another boot of the machine, copies and moves of the data directory.

The server runs with a library before libc's that shifts the clocks (clock_shim.c)."""
import os
import pathlib
import shutil
import struct
import subprocess
import threading
import time

import pytest

import pgserver
from test_rate_save import SPEND, left, prepared

HOUR, YEAR = 3600, 366 * 86400
STEPS = (HOUR, -HOUR, 10 * YEAR, -10 * YEAR, 0)
DAY = 86400
CC = os.environ.get("TC_CC") or "gcc"


class Clock:
    """The clocks of a server."""

    def __init__(self, directory, library):
        self.library = library
        self.file = directory / "clock"
        self.set()

    def set(self, wall=0, boot=0):
        """Shifts wall clock and time since boot, by seconds."""
        data = struct.pack("qq", wall * 1000000, int(boot * 1000000000))
        with open(self.file, "r+b" if self.file.exists() else "wb") as file:
            file.write(data)
        self.file.chmod(0o644)

    def reboot(self, name, wall=0):
        """As if the machine had been started 100 s ago."""
        boot_id = pathlib.Path(str(self.file) + ".boot_id")
        boot_id.write_text(f"{name}-0000-4000-8000-000000000000\n")
        boot_id.chmod(0o644)
        up = float(pathlib.Path("/proc/uptime").read_text().split()[0])
        self.set(wall, 100 - up)


@pytest.fixture
def clock(workspace, monkeypatch):
    """Servers that are started within the test go by this clock."""
    directory = workspace.dir / "clock"
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)
    library = directory / "clock_shim.so"
    source = pathlib.Path(__file__).with_name("clock_shim.c")
    pgserver.run([CC, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source, "-ldl"], "compiling")
    clock = Clock(directory, library)
    before = pgserver.environment
    monkeypatch.setattr(pgserver.Cluster, "start", with_clock(pgserver.Cluster.start, monkeypatch, clock, before))
    yield clock
    for path in directory.glob("clock*"):
        if path.suffix != ".so":
            path.unlink()


def with_clock(start, monkeypatch, clock, environment):
    """Cluster.start() with the library, which client programs go without."""
    def started(self, *args, **options):
        with monkeypatch.context() as patch:
            patch.setattr(pgserver, "environment", lambda **extra: environment(
                LD_PRELOAD=clock.library, TC_CLOCK_FILE=clock.file, **extra))
            return start(self, *args, **options)
    return started


def year_of(server):
    """What the server takes for the year."""
    return int(server.sql("SELECT extract(year FROM clock_timestamp())"))


def test_steps_of_the_wall_clock(make_cluster, clock):
    """They change nothing, neither for buckets nor for those who wait nor for a change of policy."""
    server = prepared(make_cluster, rate_save_interval=0)
    now = year_of(server)
    company = int(server.sql("SELECT tenantcall.create_company('c', 'DE', 'Europe/Berlin')", dbname="app"))
    server.sql("SELECT tenantcall.set_rate_policy('second', 1, '3 s', 1)", dbname="app")
    remaining = 4
    for step in STEPS:
        clock.set(step)
        assert abs(year_of(server) - now - step / YEAR) <= 1
        assert left(server) == (remaining := remaining - 1) if remaining else True
        reset = "SELECT reset_after BETWEEN '100 days' AND '300 days' FROM tenantcall.take_for(1, 'hard')"
        assert server.sql(reset, dbname="app") == "t"
        remaining = max(remaining - 1, 0)
    # who waits is not let go early, nor held for years
    waiter = server.connect(dbname="app")
    waiter.execute("SELECT tenantcall.enter(%s)", (company,))
    waiter.execute("SELECT tenantcall.take('second')")
    began = int(server.sql("SELECT tenantcall.rate_test_clock(0)", dbname="app"))
    thread = threading.Thread(target=lambda: waiter.execute("SELECT tenantcall.take('second', 1, '10 s')"))
    thread.start()
    for step in STEPS:
        clock.set(step)
        thread.join(0.2)
    thread.join()
    assert int(server.sql("SELECT tenantcall.rate_test_clock(0)", dbname="app")) - began > 2.5e9


def test_a_policy_changed_before_a_step(make_cluster, clock):
    """What was refilled before the change counts at the old rate, what comes after it at the new one."""
    server = prepared(make_cluster, rate_save_interval=0)
    with server.connect(dbname="app", autocommit=True) as connection:
        run = connection.execute
        start, = run("SELECT tenantcall.rate_test_clock(tenantcall.rate_test_clock(0))").fetchone()
        for step in STEPS[:4]:
            clock.set()
            start += 10000 * 10**9
            run("SELECT tenantcall.rate_test_clock(%s)", (start,))
            run("SELECT tenantcall.set_rate_policy('p', 10, '30 days', change_mode => 'reset')")
            run("SELECT tenantcall.take_for(1, 'p', 10)")
            run("SELECT tenantcall.rate_test_clock(%s)", (start + 1000 * 10**9,))
            run("SELECT tenantcall.set_rate_policy('p', 10, '10 s')")
            clock.set(step)
            run("SELECT tenantcall.rate_test_clock(%s)", (start + 1003 * 10**9,))
            assert run("SELECT remaining FROM tenantcall.take_for(1, 'p', 2)").fetchone()[0] == 1, step


def test_restart_after_a_step(make_cluster, clock):
    """Within one boot of the machine the time since then counts, whatever the wall clock says."""
    server = prepared(make_cluster, rate_save_interval=0)
    for step, rest in zip(STEPS[:4], (3, 2, 1, 0)):
        server.stop("immediate" if step < 0 else "fast")
        clock.set(step)
        server.start()
        assert left(server) == rest


def test_another_boot(make_cluster, clock):
    """Then the wall clock says how much time has passed: never less than none, never more than a year."""
    server = prepared(make_cluster, rate_save_interval=0)
    server.stop()
    clock.reboot("11111111", 150 * DAY)
    server.start()
    assert left(server) == 8  # 4, and 5 refilled, less one
    server.stop()
    clock.reboot("22222222", -10 * YEAR)
    server.start()
    assert left(server) == 7
    server.stop()
    clock.reboot("33333333", 10 * YEAR)
    server.start()
    assert left(server) == 9
    assert "not taken over" not in server.log()


def copied(server, workspace, install):
    """A server from a copy of a running server's files, as a snapshot would give."""
    copy = pgserver.Cluster(workspace, install, "copy", server.conf, init=False)
    subprocess.run(["cp", "-a", str(server.data), str(copy.data)], check=True)
    (copy.data / "postmaster.pid").unlink()
    shutil.copy(server.key_file, copy.key_file)
    copy._own(copy.key_file)
    return copy


def test_a_snapshot_does_not_replay(make_cluster, workspace, install):
    """A copy of the files of a running server recovers, and starts with full buckets; so does a moved one."""
    server = prepared(make_cluster, rate_save_interval=1)
    saved = server.data / "pg_stat" / "tenantcall_rate"
    now = time.time()
    server.wait_until(lambda: saved.exists() and saved.stat().st_mtime > now + 1, "a save")
    copy = copied(server, workspace, install)
    try:
        copy.start()
        assert left(copy) == 9
        assert "It is a copy." in copy.log()
        copy.sql(SPEND, dbname="app")
        copy.stop()
        moved = copy.data.rename(copy.data.with_name("moved"))
        copy.data = moved
        copy.start()
        assert left(copy) == 9
        assert "at another place" in copy.log()
        copy.restart()
        assert left(copy) == 8
    finally:
        copy.stop("immediate")
    assert left(server) == 3
