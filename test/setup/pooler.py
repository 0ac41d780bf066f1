"""pooler: a PgBouncer of a test's own in front of a private server, on a socket beside it.

    pooler = Pooler(cluster, "shop", ["shop_app", "shop_gateway"])
    pooler.connect("shop_app")                          transaction mode: a client of its own
    pooler.connect("shop_app", dbname="shop_session")   session mode; shop_statement: statement mode
    pooler.stop()

Clients of any language find it by its directory (as host), its port and the name of the database.
"""
import pathlib
import shutil
import subprocess

import pgserver

# Beside transaction mode, each as a database of its own.  In session mode each connection of a
# client's own pool takes one of the server's for as long as it lives.
MODES = {"session": 12, "statement": 3}


class Pooler:
    """A PgBouncer in front of a cluster."""

    @staticmethod
    def program():
        """Where it is, or None."""
        return shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")

    def __init__(self, cluster, dbname, roles, size=3):
        self.dbname = dbname
        self.dir = cluster.dir / "pooler"
        self.dir.mkdir()
        self.port = cluster.port + 1
        server = f"host={cluster.socket_dir} port={cluster.port} dbname={dbname}"
        modes = "".join(f"{dbname}_{mode} = {server} pool_mode={mode} pool_size={connections}\n"
                        for mode, connections in MODES.items())
        users = self.dir / "users"
        users.write_text("".join(f'"{role}" ""\n' for role in roles))
        conf = self.dir / "pgbouncer.ini"
        conf.write_text(f"""[databases]
{dbname} = {server}
{modes}[pgbouncer]
listen_addr =
listen_port = {self.port}
unix_socket_dir = {self.dir}
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = {size}
ignore_startup_parameters = extra_float_digits
logfile = {self.dir}/log
pidfile = {self.dir}/pid
""")
        cluster._own(self.dir, conf, users)
        self.process = subprocess.Popen(
            pgserver.as_server_user([self.program(), str(conf)], die_with_us=True),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.dir,
            env=pgserver.environment(), start_new_session=True)
        cluster.wait_until((pathlib.Path(self.dir) / f".s.PGSQL.{self.port}").exists, "the pooler")

    def connect(self, role, dbname=None, **options):
        """A client connection, by psycopg."""
        import psycopg
        return psycopg.connect(host=str(self.dir), port=self.port, user=role,
                               dbname=dbname or self.dbname, **options)

    def stop(self):
        """Ends it."""
        self.process.terminate()
        self.process.wait(20)
