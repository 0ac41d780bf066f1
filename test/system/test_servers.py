"""The test servers themselves: they restart, crash, and stream to a standby that takes over."""


def test_restart_and_crash(make_cluster):
    """Data outlives a restart and a crash of the server."""
    server = make_cluster()
    server.sql("CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
    server.restart()
    server.sql("INSERT INTO t VALUES (2)")
    server.kill9()
    assert not server.running()
    server.start()
    assert server.sql("SELECT sum(n) FROM t") == "3"


def test_standby(make_cluster):
    """A standby replays, has the extension, and can be promoted."""
    server = make_cluster()
    server.create_database("app")
    copy = server.standby()
    server.sql("CREATE TABLE t (n int); INSERT INTO t VALUES (7)", dbname="app")
    server.wait_for_replay(copy)
    assert copy.sql("SELECT n, tenantcall.current_company_id() IS NULL FROM t",
                    dbname="app") == "7|t"
    server.discard()
    copy.promote()
    copy.sql("INSERT INTO t VALUES (8)", dbname="app")
    assert copy.sql("SELECT count(*) FROM t", dbname="app") == "2"
