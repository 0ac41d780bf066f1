"""What is handed out: PGXN's metadata, the archives, make install and uninstall, the Debian package.

The package is built as "make deb" does, but without its bitcode and its own check of all SQL tests:
here it is unpacked into a private tree, and "make installcheck" runs a few tests against it.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import tarfile
import zipfile

import pytest

from pgserver import REPO, Cluster, Failure, Install, environment, run

META = json.loads((REPO / "META.json").read_text())
VERSION = re.search(r"^default_version = '(.*)'", (REPO / "tenantcall.control").read_text(), re.M)[1]
SEMVER = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?")
RANGE = re.compile(rf"((==|!=|>=|<=|>|<)?\s*{SEMVER.pattern}|0)(,\s*(==|!=|>=|<=|>|<)\s*{SEMVER.pattern})*")

# The meta specification 1.0.0 of PGXN.
REQUIRED = {"abstract", "license", "maintainer", "meta-spec", "name", "provides", "version"}
OPTIONAL = {"description", "generated_by", "no_index", "prereqs", "release_status", "resources", "tags"}
LICENSES = {"agpl_3", "apache_1_1", "apache_2_0", "artistic_1", "artistic_2", "bsd", "freebsd", "gfdl_1_2",
            "gfdl_1_3", "gpl_1", "gpl_2", "gpl_3", "lgpl_2_1", "lgpl_3_0", "mit", "mozilla_1_0",
            "mozilla_1_1", "openssl", "perl_5", "postgresql", "qpl_1_0", "ssleay", "sun", "zlib",
            "open_source", "restricted", "unrestricted", "unknown"}


def is_term(text):
    """May it be the name of a distribution or an extension, or a tag?"""
    return 2 <= len(text) <= 255 and not re.search(r"[\x00-\x1f\x7f/\\]", text)


def test_meta_keys():
    """META.json has the keys that it must have, and none that the specification does not know."""
    keys = {key for key in META if not key.lower().startswith("x_")}
    assert REQUIRED <= keys <= REQUIRED | OPTIONAL
    assert META["meta-spec"]["version"] == "1.0.0"
    assert META["abstract"] and META["description"]
    assert all(isinstance(person, str) and person for person in META["maintainer"]) and META["maintainer"]
    assert META["license"] in LICENSES
    assert META.get("release_status", "stable") in ("stable", "testing", "unstable")
    assert all(is_term(tag) for tag in META["tags"]) and len(set(META["tags"])) == len(META["tags"])


def test_meta_provides():
    """The extension that it provides is there, in the version of the control file."""
    assert is_term(META["name"]) and META["version"] == VERSION and SEMVER.fullmatch(VERSION)
    for name, extension in META["provides"].items():
        assert is_term(name) and set(extension) <= {"file", "version", "abstract", "docfile"}
        assert extension["version"] == VERSION
        assert (REPO / extension["file"]).is_file() and (REPO / extension["docfile"]).is_file()
    assert (REPO / f"{META['name']}.control").is_file()


def test_meta_prereqs():
    """What it requires is said in phases and relations that exist, as ranges of versions."""
    for phase, relations in META["prereqs"].items():
        assert phase in ("configure", "build", "test", "runtime", "develop")
        for relation, packages in relations.items():
            assert relation in ("requires", "recommends", "suggests", "conflicts")
            assert all(RANGE.fullmatch(wanted) for wanted in packages.values())


def test_versions():
    """The changelog and the Debian package are about the control file's version."""
    changes = (REPO / "CHANGELOG.md").read_text()
    assert re.search(r"^## (\S+)", changes, re.M)[1] == VERSION
    debian = (REPO / "debian/changelog").read_text()
    assert re.match(r"tenantcall \((.*)-[^-]+\) ", debian)[1] == VERSION


def test_licence():
    """The licence is PostgreSQL's, and the Debian package says the same."""
    text = " ".join((REPO / "LICENSE").read_text().split())
    assert text.startswith("PostgreSQL License Copyright (c) ")
    debian = (REPO / "debian/copyright").read_text().split("License: PostgreSQL\n")[-1]
    assert " ".join(re.sub(r"^ \.$", "", debian, flags=re.M).split()) in text
    for sentence in ("without fee, and without a written agreement is hereby granted",
                     "BE LIABLE TO ANY PARTY FOR DIRECT, INDIRECT", "HAVE NO OBLIGATIONS TO PROVIDE"):
        assert sentence in text


@pytest.mark.skipif(not (REPO / ".git").exists(), reason="not a git work tree")
def test_archives(tmp_path):
    """make dist: both archives hold what git holds, in one directory that PGXN expects."""
    git = ["git", "-c", "safe.directory=*", "-C", REPO]
    files = set(run([*git, "ls-tree", "-r", "--name-only", "HEAD"], "git ls-tree").split("\n")) - {""}
    stem = f"tenantcall-{VERSION}"
    config = {f"GIT_CONFIG_{k}_0": v for k, v in (("KEY", "safe.directory"), ("VALUE", "*"))}
    run(["make", "-C", REPO, "-s", "dist", f"DIST_DIR={tmp_path}"], "make dist",
        env=environment(GIT_CONFIG_COUNT=1, **config))
    with zipfile.ZipFile(tmp_path / f"{stem}.zip") as archive:
        zipped = {name for name in archive.namelist() if not name.endswith("/")}
    with tarfile.open(tmp_path / f"{stem}.tar.gz") as archive:
        tarred = {member.name for member in archive if member.isfile()}
    assert zipped == tarred == {f"{stem}/{name}" for name in files}
    assert {f"{stem}/{name}" for name in ("META.json", "Makefile", "LICENSE", "README.md",
                                          "tenantcall.control", "debian/rules")} <= zipped


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package for the server that is tested, built; skips where there is no Debian."""
    if not (shutil.which("pg_buildext") and shutil.which("dh")):
        pytest.skip("no debhelper, or no postgresql-server-dev-all")
    directory = tmp_path_factory.mktemp("deb")
    run([REPO / "test/deb", "--quick", directory], "building the package")
    major = re.search(r"\d+", Install.pg_config("version"))[0]
    found = list(directory.glob(f"postgresql-{major}-tenantcall_*.deb"))
    if not found:
        pytest.skip(f"this Debian release builds nothing for PostgreSQL {major}")
    return found[0]


@pytest.fixture(scope="module")
def unpacked(package, workspace):
    """A private server installation with the package unpacked beside it."""
    install = Install.bare(workspace.dir / "package")
    run(["dpkg-deb", "-x", package, install.root], "dpkg-deb")
    return install


@pytest.mark.limit(600)
def test_package_contents(package):
    """The package holds the libraries and the script, documents, and nothing else."""
    share, lib = Install.pg_config("sharedir"), Install.pg_config("pkglibdir")
    names = {line.split()[5].lstrip(".") for line in run(["dpkg-deb", "-c", package], "dpkg-deb").split("\n")
             if line and not line.startswith("d")}
    doc = f"/usr/share/doc/{package.name.split('_')[0]}/"
    assert {name for name in names if not name.startswith((doc, "/usr/share/lintian/"))} == {
        f"{lib}/tenantcall.so", f"{lib}/tenantcall_http.so", f"{lib}/tenantcall_phone.so",
        f"{share}/extension/tenantcall.control", f"{share}/extension/tenantcall--{VERSION}.sql"}
    assert {f"{doc}copyright", f"{doc}README.Debian", f"{doc}docs/adoption.md"} <= names
    depends = run(["dpkg-deb", "-f", package, "Depends"], "dpkg-deb")
    for wanted in (package.name.split("-tenantcall")[0], "libcurl4", "libphonenumber8"):
        assert re.search(rf"(^|, ){wanted}", depends), wanted


@pytest.mark.limit(600)
def test_package_hardening(unpacked):
    """Every library is linked and compiled as Debian wants it, and keeps no debug information."""
    libraries = sorted(pathlib.Path(str(unpacked.root) + Install.pg_config("pkglibdir")).glob("tenantcall*.so"))
    assert len(libraries) == 3
    for library in libraries:
        headers = run(["readelf", "-W", "-l", "-d", "-S", library], "readelf")
        assert "GNU_RELRO" in headers and "BIND_NOW" in headers, library
        assert ".debug_info" not in headers and "RUNPATH" not in headers, library
        assert "__stack_chk_fail" in run(["readelf", "-W", "--dyn-syms", library], "readelf"), library


@pytest.mark.limit(600)
def test_package_installcheck(unpacked, workspace, tmp_path):
    """make installcheck, from elsewhere, against a server with the package."""
    cluster = Cluster(workspace, unpacked, "package").start()
    try:
        tests = "setup phone context http"
        done = run(["make", "-f", REPO / "Makefile", "installcheck", f"REGRESS={tests}",
                    "ISOLATION=isolation_setup rate_policy"], "make installcheck", cwd=tmp_path,
                   env=environment(PGHOST=cluster.socket_dir, PGPORT=cluster.port, PGUSER="postgres"))
        assert len(re.findall(r"^(test \S+ +\.\.\. ok|ok \d+)", done, re.M)) == 6, done
    except Failure:
        for diffs in tmp_path.glob("**/regression.diffs"):
            print(diffs.read_text(errors="replace"))
        raise
    finally:
        cluster.stop()


def test_uninstall(tmp_path, install):
    """make uninstall takes away all that make install brought."""
    target = pathlib.Path(tmp_path) / "root"

    def make(goal):
        """Makes a goal as the installation that all tests use was made, so that nothing is compiled."""
        compiler = [f"CC={os.environ['TC_CC']}"] if os.environ.get("TC_CC") else []
        run(["make", "-C", REPO, "-s", "with_llvm=no", *compiler, goal, f"DESTDIR={target}",
             "PG_CONFIG=" + os.environ.get("PG_CONFIG", "pg_config")], f"make {goal}")

    make("install")
    there = {path.name for path in target.rglob("*") if path.is_file()}
    assert {"tenantcall.so", "tenantcall.control", f"tenantcall--{VERSION}.sql"} <= there
    assert all(name.startswith("tenantcall") for name in there)
    make("uninstall")
    assert [path for path in target.rglob("*") if path.is_file()] == []


def test_help():
    """make help names every target that stands in README.md."""
    text = subprocess.run(["make", "-C", REPO, "-s", "help"], capture_output=True, text=True, check=True,
                          env=environment()).stdout
    for target in re.findall(r"^(?:sudo )?make ([a-z-]+)", (REPO / "README.md").read_text(), re.M):
        assert re.search(rf"make {target}\b|\b{target}\b", text), target
