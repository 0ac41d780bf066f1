"""calcom_nginx: fast answers that never change, for measuring throughput.

    with NginxStandIn(directory) as fast:       # raises Unavailable with the reason
        ...  fast.url, fast.tls_url with fast.ca_file ...

nginx answers GET /v2/slots and POST /v2/bookings from its configuration: some 10,000 requests a
second and more, on one core, where the stand-in in Python answers some thousands.  It has no
calendar, no limits and no faults.  It runs in one process, as the caller or as argv_prefix says,
writes nothing outside of the directory, and listens on loopback; https speaks HTTP/2.
"""
import json
import pathlib
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

import calcom_tls

SLOTS = {"status": "success", "data": {"2050-09-05": [
    {"start": f"2050-09-05T{hour:02d}:{minute:02d}:00.000Z"}
    for hour in range(8, 16) for minute in (0, 30)]}}
BOOKING = {"status": "success", "data": {
    "id": 1, "uid": "fast_booking_uid", "status": "accepted", "start": "2050-09-05T09:00:00.000Z",
    "end": "2050-09-05T09:30:00.000Z", "duration": 30, "eventTypeId": 501, "metadata": {}}}

CONFIGURATION = """
daemon off;
master_process off;
worker_processes 1;
error_log {dir}/error.log warn;
pid {dir}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type application/json;
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
{tls}
        location = /v2/slots {{ return 200 '{slots}'; }}
        location = /v2/bookings {{ return 201 '{booking}'; }}
        location / {{ return 404 '{missing}'; }}
    }}
}}
"""
TLS = """        listen 127.0.0.1:{port} ssl http2 backlog=4096;
        ssl_certificate {certificate};
        ssl_certificate_key {key};"""
MISSING = {"status": "error", "error": {"code": "NotFoundException", "message": "Cannot GET"}}
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Unavailable(Exception):
    """nginx cannot be used; the text says why."""


def program():
    """The path of nginx; it is often not on the path of others than root."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise Unavailable("nginx is not installed (Debian: nginx-light)")
    return found


def free_port():
    """A port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def short(answer):
    """JSON for a quoted string of the configuration."""
    return json.dumps(answer, separators=(",", ":")).replace("'", "")


def configuration(directory, port, tls_port=None, certificates=None, slots=None):
    """The configuration file's text."""
    tls = ""
    if tls_port:
        certificate, key = certificates.files("good")
        tls = TLS.format(port=tls_port, certificate=certificate, key=key)
    return CONFIGURATION.format(dir=directory, port=port, tls=tls, slots=short(slots or SLOTS),
                                booking=short(BOOKING), missing=short(MISSING))


class NginxStandIn:
    """nginx in a directory that its user may write to; tls: true, or calcom_tls.Certificates."""

    def __init__(self, directory, argv_prefix=(), tls=False, slots=None):
        self.dir = pathlib.Path(directory)
        self.argv_prefix, self.slots = list(argv_prefix), slots
        self.certificates = tls
        if tls is True:
            self.certificates = calcom_tls.Certificates(self.dir / "tls")
        self.ca_file = self.certificates.ca if tls else None
        self.port = self.tls_port = self.process = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Runs nginx; tries again when another took the port first."""
        nginx = program()
        for _ in range(5):
            self.port, self.tls_port = free_port(), free_port() if self.certificates else None
            file = self.dir / "nginx.conf"
            file.write_text(configuration(self.dir, self.port, self.tls_port, self.certificates,
                                          self.slots))
            self.process = subprocess.Popen(
                [*self.argv_prefix, nginx, "-p", str(self.dir), "-e", f"{self.dir}/error.log",
                 "-c", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            if self._answers():
                return self
        raise Unavailable("nginx did not start: " +
                          self.process.stderr.read().decode(errors="replace").strip())

    def _answers(self, timeout=10):
        """Waits until it answers; false when it ended."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None:
            try:
                with DIRECT.open(f"{self.url}/v2/slots", timeout=1) as answer:
                    return answer.status == 200
            except OSError:
                if time.monotonic() > deadline:
                    self.stop()
                    raise Unavailable("nginx runs, and does not answer") from None
                time.sleep(0.02)
        return False

    def stop(self):
        """Ends it."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)

    @property
    def url(self):
        """The base URL without TLS."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_url(self):
        """The base URL with TLS and HTTP/2, of the authority in ca_file."""
        return f"https://localhost:{self.tls_port}"
