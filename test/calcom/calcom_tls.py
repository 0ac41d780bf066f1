"""calcom_tls: a certificate authority for tests, and certificates that are good or bad.

    good        for localhost and 127.0.0.1, by our authority
    wrong_name  for calendar.invalid, by our authority
    expired     for localhost, by our authority, until yesterday
    untrusted   for localhost, by itself

Made with the program openssl in a directory of the caller's; the authority is in ca.pem.
"""
import pathlib
import shutil
import ssl
import subprocess

KINDS = ("good", "wrong_name", "expired", "untrusted")

CONFIG = """
[ca]
default_ca = ours
[ours]
new_certs_dir = {dir}
database = {dir}/index.txt
serial = {dir}/serial
default_md = sha256
policy = any
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[localhost]
basicConstraints = CA:false
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
[elsewhere]
basicConstraints = CA:false
extendedKeyUsage = serverAuth
subjectAltName = DNS:calendar.invalid
"""


def available():
    """Is openssl there?"""
    return shutil.which("openssl") is not None


class Certificates:
    """The authority and its certificates, in a directory."""

    def __init__(self, directory):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.dir.chmod(0o755)
        self.ca = self.dir / "ca.pem"
        if not self.ca.exists():
            self._make()

    def _openssl(self, *arguments):
        done = subprocess.run(["openssl", *map(str, arguments)], cwd=self.dir, text=True,
                              capture_output=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")

    def _make(self):
        """Makes all of them."""
        (self.dir / "index.txt").write_text("")
        (self.dir / "index.txt.attr").write_text("unique_subject = no\n")
        (self.dir / "serial").write_text("1000\n")
        (self.dir / "openssl.conf").write_text(CONFIG.format(dir=self.dir))
        self._self_signed("authority", "tenantcall test authority", self.ca, "ca.key")
        self._self_signed("localhost", "localhost", "untrusted.pem", "untrusted.key")
        self._signed("good", "localhost", "localhost", "20200101000000Z", "20491231000000Z")
        self._signed("wrong_name", "calendar.invalid", "elsewhere", "20200101000000Z",
                     "20491231000000Z")
        self._signed("expired", "localhost", "localhost", "20200101000000Z", "20210101000000Z")
        for file in self.dir.iterdir():
            file.chmod(0o644)  # they guard nothing, and the server's user must be able to read them

    def _key(self, name):
        self._openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", name)

    def _self_signed(self, extensions, name, out, key):
        self._key(key)
        self._openssl("req", "-new", "-x509", "-key", key, "-subj", f"/CN={name}", "-days", "9000",
                      "-config", "openssl.conf", "-extensions", extensions, "-out", out)

    def _signed(self, kind, name, extensions, begins, ends):
        self._key(f"{kind}.key")
        self._openssl("req", "-new", "-key", f"{kind}.key", "-subj", f"/CN={name}",
                      "-config", "openssl.conf", "-out", f"{kind}.csr")
        self._openssl("ca", "-batch", "-notext", "-config", "openssl.conf", "-cert", "ca.pem",
                      "-keyfile", "ca.key", "-startdate", begins, "-enddate", ends,
                      "-extensions", extensions, "-in", f"{kind}.csr", "-out", f"{kind}.pem")

    def files(self, kind):
        """The certificate and key of a kind."""
        return self.dir / f"{kind}.pem", self.dir / f"{kind}.key"

    def context(self, kind):
        """What a server needs to show a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.files(kind))
        context.set_alpn_protocols(["http/1.1"])
        return context
