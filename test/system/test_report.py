"""report(): one page of HTML, opened in a real browser."""
import html.parser
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import psycopg
import pytest

import pgserver
from calcom_standin import CalcomStandIn
from desk import DATABASE, Desk, monday
from retell import Call

HOSTILE = "<script>document.title = 'taken over'</script><img src=x onerror=\"document.title='taken over'\">&'"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
KEEP = os.environ.get("TC_REPORT")  # a directory for page and pictures, to look at


class Page(html.parser.HTMLParser):
    """What is in a page: tags with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data):
        self.words.append(data)

    def count(self, tag):
        """How many tags there are of a kind."""
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture(scope="module", name="desk")
def make_desk(workspace, install, certificates):
    """A day of some companies, with a calendar."""
    with CalcomStandIn(tls=certificates) as calcom:
        cluster = pgserver.Cluster(workspace, install, "report", {
            "tenantcall.worker_databases": DATABASE, "tenantcall.http_local_hosts": "127.0.0.1"}).start()
        cluster.create_template()
        yield Desk(cluster, calcom)
        cluster.stop("immediate")


def report(desk):
    """The page, as an administrator gets it."""
    return desk.admin.execute("SELECT tenantcall.report()").fetchone()[0]


def play_a_day(desk):
    """Calls, function calls, refusals and slots of some companies."""
    gateway = desk.gateway()
    for number, (name, calls) in enumerate([(HOSTILE, 40), ("Salon Anna", 90), ("Zahnärzte am Park", 60),
                                            ("Barber & Sons", 25), ("Physio Nord", 3)]):
        phone = f"+493020000{number:02}"
        credential = desk.credential(f"account{number % 2}") if number < 4 else None
        company = desk.company(name, credential, Mitte=phone)
        desk.admin.execute("SELECT tenantcall.set_rate_policy('function_call', %s, '1 hour', company_id => %s)",
                           [20 * (number + 1), company.id])
        for index in range(calls):
            call = Call(f"call_{number}_{index}", to=phone)
            gateway.event(call.started())
            gateway.function(call.function(f"t{number}_{index}"))
            if index % 9:
                gateway.event(call.ended())
        desk.db.sql("UPDATE telephony.calls SET created_at = now() - interval '23 hours' * "
                    f"power(random(), 1.4) WHERE company_id = {company.id}")
        if credential:
            service = desk.service(company, "Haircut", 501 + number)
            for day in range(6 * number + 2):
                desk.slots(company, service, day=monday(1 + day // 5))


def check_page(text):
    """Well-formed, and complete in itself; returns it."""
    page = Page(text)
    assert page.open == []
    assert page.count("script") == page.count("img") == page.count("link") == page.count("iframe") == 0
    assert not [attrs for _, attrs in page.tags if {"src", "href", "style"} & set(attrs)
                or any(name.startswith("on") for name in attrs)]
    assert "url(" not in text and "@import" not in text
    assert [attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv")] == [
        "default-src 'none'; style-src 'unsafe-inline'"]
    return page


def browse(path, *options):
    """Opens the page in a browser; returns its document, and what it complained about."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no Chromium is installed: the page was not opened in a browser")
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
             "--no-first-run", f"--user-data-dir={home}", "--enable-logging=stderr", *options, path.as_uri()],
            capture_output=True, text=True, timeout=80, check=True, env={**os.environ, "HOME": home})
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_nothing_yet(desk):
    """With nothing to show it says so, and is a page nevertheless; apps may not have it."""
    page = check_page(report(desk))
    assert {"There are no companies.", "Nothing was delivered yet.", "No calendar was asked yet."} <= set(page.words)
    with desk.connect("app") as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("SELECT tenantcall.report()")


@pytest.mark.limit(180)
def test_in_a_browser(desk, tmp_path):
    """A day's data: the browser draws it and complains of nothing; a hostile name is a name."""
    play_a_day(desk)
    text = report(desk)
    page = check_page(text)
    assert any(HOSTILE in word for word in page.words)
    assert [row[1:] for row in re.findall(r"<td>(\d) Salon Anna</td><td class=\"n\">(\d+)</td>", text)] == [("90",)]
    place = pathlib.Path(KEEP) if KEEP else tmp_path
    path = place / "report.html"
    path.write_text(text, encoding="utf-8")
    document, complaints = browse(path, "--dump-dom")
    assert complaints == []
    seen = Page(document)
    assert "<title>tenantcall: " in document and "taken over</title>" not in document
    assert seen.count("script") == seen.count("img") == 0
    assert seen.count("svg") >= 3 and seen.count("rect") > 40
    for name, options in (("light", ()), ("dark", ("--force-dark-mode", "--enable-features=WebContentsForceDark:image_behavior/none")))[:2 if KEEP else 1]:
        picture = place / f"{name}.png"
        browse(path, f"--screenshot={picture}", "--window-size=1180,2600", *options)
        assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and picture.stat().st_size > 10000


def test_many_companies(desk):
    """The page does not grow with the number of companies."""
    desk.db.sql("SELECT tenantcall.create_company('Company ' || g, 'DE', 'Europe/Berlin') FROM generate_series(1, 300) AS g")
    text = report(desk)
    assert len(text) < 100000
    assert re.search(r"and \d+ more: see view stat_companies", text)
    check_page(text)
