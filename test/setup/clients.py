"""clients: what programs in other languages need to run: their packages, and how they are started.

    path = node_modules(directory)      npm's packages of test/clients; Unavailable if there are none
    argv = program("js", text, directory)            a command line that runs a program's text
"""
import os
import shutil
import subprocess

import pgserver

SOURCES = pgserver.REPO / "test" / "clients"
NPM = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]


class Unavailable(Exception):
    """Something cannot be had here; its text says why."""


def node_modules(directory):
    """npm's packages, in a directory of the test's own; checked against the hashes of the lock file."""
    if not shutil.which("npm") or not shutil.which("node"):
        raise Unavailable("node and npm are not installed")
    target = directory / "npm"
    if not (target / "node_modules").exists():
        target.mkdir(exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SOURCES / name, target)
        done = subprocess.run(["timeout", "120", *NPM, f"--cache={target}/cache"], cwd=target, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode != 0:
            shutil.rmtree(target)
            if "EINTEGRITY" in done.stdout:
                raise pgserver.Failure("npm has other packages than the lock file names:\n" + done.stdout)
            raise Unavailable("npm cannot fetch its packages: " + done.stdout.strip()[-300:])
    return target / "node_modules"


def php_ready():
    """Is there a PHP that speaks to PostgreSQL?"""
    return shutil.which("php") is not None and "pdo_pgsql" in subprocess.run(
        ["php", "-m"], capture_output=True, text=True, check=False).stdout


def compiled(source, directory):
    """A C program that uses libpq, compiled."""
    target = directory / source.stem
    config = pgserver.Install.pg_config
    pgserver.run([os.environ.get("TC_CC") or "gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", source,
                  "-o", target, "-I" + config("includedir"), "-L" + config("libdir"), "-lpq"], "compiling a client")
    return target


def program(language, text, directory):
    """Writes a program down; returns the command line that runs it."""
    directory.mkdir(exist_ok=True)
    if language == "php" and not php_ready():
        raise Unavailable("php-cli and php-pgsql are not installed")
    if language == "js" and not (directory / "node_modules").exists():
        (directory / "node_modules").symlink_to(node_modules(directory.parent))
    source = directory / f"client.{'py' if language == 'python' else language}"
    same = source.exists() and source.read_text() == text
    source.write_text(text)
    if language == "c":
        return [directory / source.stem if same else compiled(source, directory)]
    return [{"js": "node", "php": "php", "python": "/usr/bin/python3"}[language], source]
