"""The blocks of README.md and of the pages that follow it: taken apart, and run on a server.

A fenced block is told how to run by an HTML comment on the line above it:

    <!-- role: desk_app -->                 as whom (default postgres)
    <!-- error: PT403 -->                   its last statement must fail with this SQLSTATE
    <!-- role: desk_app, error: PT403 -->   both
    <!-- run: yes -->                       a ```sh block that can be run as it stands

Each ```sql block is a psql session of its own; variables that \\gset sets go over to later ones.  A
```text block that follows it must be the end of what it printed.  ```python, ```js, ```php and ```c
blocks are programs, ```conf blocks settings of the server, ```sh blocks are looked at by test_readme.py.
"""
import collections
import os
import pathlib
import re
import subprocess

import clients
import pgserver

README = pgserver.REPO / "README.md"
OPERATORS = pgserver.REPO / "docs/operators.md"
REFERENCE = pgserver.REPO / "docs/reference.md"
DOCUMENTS = (README, OPERATORS, REFERENCE)  # in the order in which they are read
KEY_FILE = "/etc/postgresql/tenantcall.keys"  # as README.md has it
CALENDAR = "https://api.cal.com"  # likewise; the reader's is a local one
DATABASE = "frontdesk"

Block = collections.namedtuple("Block", "path line language attributes text output")


def all_blocks():
    """The fenced blocks of all documents, in order."""
    return [block for path in DOCUMENTS for block in blocks(path)]


def blocks(path):
    """The fenced blocks of a document in order; a text block belongs to the one before it."""
    found = []
    attributes, fence = {}, None
    for number, line in enumerate(path.read_text().split("\n"), 1):
        comment = re.match(r"<!-- (.*) -->$", line)
        if fence is not None and line == "```":
            language, start, lines, given = fence
            body = "\n".join(lines) + "\n"
            if language == "text" and found and found[-1].output is None:
                found[-1] = found[-1]._replace(output=body)
            elif language != "text":
                found.append(Block(path, start, language, given, body, None))
            fence, attributes = None, {}
        elif fence is not None:
            fence[2].append(line)
        elif comment:
            attributes = dict(pair.split(": ") for pair in comment[1].split(", "))
        elif line.startswith("```"):
            fence = (line[3:], number, [], attributes)
    return found


def tidy(output):
    """Output without blanks at the ends of lines, and without empty lines at its ends."""
    return "\n".join(line.rstrip() for line in output.split("\n")).strip("\n")


class Reader:
    """Somebody who tries every block in order."""

    def __init__(self, cluster, scratch, calendar=CALENDAR):
        self.cluster = cluster
        self.scratch = pathlib.Path(scratch)
        self.calendar = calendar
        self.variables = {}

    def environment(self, **extra):
        """The environment in which clients find the server and the database."""
        path = f"{self.cluster.install.bindir}:{os.environ['PATH']}"
        return pgserver.environment(PGHOST=self.cluster.socket_dir, PGPORT=self.cluster.port,
                                    PGDATABASE=DATABASE, PATH=path, **extra)

    def run(self, block):
        """Runs a block; returns (what it printed, None or what is wrong with that)."""
        printed, wrong = getattr(self, "run_" + block.language)(block)
        if wrong is None and block.output is not None:
            if not tidy(printed).endswith(tidy(block.output)):
                wrong = f"prints\n{tidy(printed)}\ninstead of\n{tidy(block.output)}"
        return printed, wrong

    def run_sql(self, block):
        """Runs a block through psql, as somebody would who pastes it."""
        error = block.attributes.get("error")
        role = block.attributes.get("role", "postgres")
        wanted = re.findall(r"AS (\w+) \\gset", block.text)
        options = ["-q"] + ([] if error else ["-v", "ON_ERROR_STOP=1"])
        options += ["-v", "SHOW_CONTEXT=never"]
        for name, value in self.variables.items():
            options += ["-v", f"{name}={value}"]
        script = block.text.replace(CALENDAR, self.calendar) + "".join(f"\n\\echo @{name}=:{name}" for name in wanted)
        script += "\n\\echo @@ :LAST_ERROR_SQLSTATE\n"
        argv = self.cluster.psql_argv(*options, dbname=DATABASE, role=role)
        done = subprocess.run(argv, input=script, stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.STDOUT, env=self.environment(), check=False)
        printed, _, state = done.stdout.replace(self.calendar, CALENDAR).partition("@@ ")
        for name in wanted:
            value = re.search(rf"^@{name}=(.*?)\n(?=@|\Z)", printed, re.M | re.S)
            if value is not None:
                self.variables[name] = value[1]
        printed = re.sub(r"^@\w+=.*\Z", "", printed, flags=re.M | re.S)
        return printed, self.sql_fault(error, done.returncode, printed, state.strip())

    @staticmethod
    def sql_fault(error, code, printed, state):
        """What is wrong with the end of a psql session, or None."""
        if error is None:
            if code != 0 or re.search(r"^(ERROR|WARNING|FATAL|invalid command)", printed, re.M):
                return "does not run:\n" + printed
            return None
        if state != error or len(re.findall(r"^ERROR: ", printed, re.M)) != 1:
            return f"must end with {error}, and with no other error, but: {state}\n{printed}"
        return None

    def run_program(self, block):
        """Runs a block as a program of its language."""
        text = block.text.replace(KEY_FILE, str(self.cluster.key_file))
        argv = clients.program(block.language, text, self.scratch / "program")
        done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, stderr=subprocess.STDOUT,
                              check=False, env=self.environment(PYTHONPATH=self.scratch))
        return done.stdout, None if done.returncode == 0 else "does not run:\n" + done.stdout

    run_python = run_js = run_php = run_c = run_program

    def run_sh(self, block):
        """Runs a block of client programs as superuser, in the scratch directory."""
        done = subprocess.run(["sh", "-euc", block.text], stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.STDOUT, check=False, cwd=self.scratch,
                              env=self.environment(PGUSER="postgres"))
        return done.stdout, None if done.returncode == 0 else "does not run:\n" + done.stdout
