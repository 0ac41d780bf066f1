"""citus_stage: a coordinator and two workers with Citus, on loopback.

Citus is not among Debian's packages.  It is taken from the tree that the variable TC_CITUS names
(a directory below which citus.so and citus.control are), or from the server's own library
directory; where() says where, or why not.
"""
import os
import pathlib
import socket

import pgserver
from pgserver import Cluster, Install

CONF = {
    "shared_preload_libraries": "citus,tenantcall",
    "listen_addresses": "127.0.0.1",
    "wal_level": "logical",
    "max_prepared_transactions": 100,
    "max_connections": 100,
    "max_worker_processes": 20,
    "citus.node_conninfo": "sslmode=prefer",
    "citus.enable_statistics_collection": None,
    "citus.shard_count": 8,
}


def where():
    """The directories of libraries and of control files with Citus, and why there are none."""
    tree = os.environ.get("TC_CITUS")
    roots = [pathlib.Path(tree)] if tree else [pathlib.Path(Install.pg_config("pkglibdir")),
                                               pathlib.Path(Install.pg_config("sharedir"))]
    found = {}
    for root in roots:
        for name in ("citus.so", "citus.control"):
            for path in root.rglob(name):
                found.setdefault(name, path.parent)
    if len(found) == 2:
        return (found["citus.so"], found["citus.control"]), None
    place = f"in {tree} (TC_CITUS)" if tree else "on this server, and TC_CITUS is not set"
    return None, f"the extension citus is not available {place}"


def add_to(install):
    """Links Citus into a private installation."""
    (libraries, controls), _ = where()
    for source, what, target in ((libraries, "pkglibdir", ""), (controls, "sharedir", "extension")):
        place = pathlib.Path(str(install.root) + Install.pg_config(what)) / target
        for entry in source.iterdir():
            if entry.name.startswith("citus") and not (place / entry.name).exists():
                (place / entry.name).symlink_to(entry)


def free_port():
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Node(Cluster):
    """A server that the others reach by loopback."""

    def start(self, timeout=60, **changes):
        """Starts it on a port that is free."""
        if self.process is None and not getattr(self, "placed", False):
            self.port = free_port()
            self.placed = True
        return super().start(timeout, **changes)


class Stage:
    """Three servers: a coordinator, which holds no shards, and two workers."""

    def __init__(self, work, install, attached=True, **settings):
        add_to(install)
        conf = {name: value for name, value in CONF.items() if value is not None}
        conf.update({f"tenantcall.{name}": value for name, value in settings.items()})
        self.coordinator = Node(work, install, "coordinator", conf, attached=attached)
        self.workers = [Node(work, install, f"worker{i}", conf, attached=attached)
                        for i in (1, 2)]
        self.nodes = [self.coordinator, *self.workers]
        for node in self.nodes:
            node.key_file.write_text(self.coordinator.key_file.read_text(encoding="utf-8"),
                                     encoding="utf-8")
            node.start()

    def create_database(self, name):
        """A database on all of them, with both extensions, joined; not distributed yet."""
        for node in self.nodes:
            node.sql(f'CREATE DATABASE "{name}"')
            node.sql("CREATE EXTENSION citus", dbname=name)
        self.coordinator.sql(
            f"SELECT citus_set_coordinator_host('127.0.0.1', {self.coordinator.port});"
            + "".join(f"SELECT citus_add_node('127.0.0.1', {worker.port});"
                      for worker in self.workers), dbname=name)
        self.coordinator.sql("CREATE EXTENSION tenantcall", dbname=name)
        self.coordinator.sql(pgserver.CREATE_TABLES, dbname=name)
        return name

    def stop(self):
        """Stops all of them."""
        for node in reversed(self.nodes):
            node.stop("immediate")
