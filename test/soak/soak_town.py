"""soak_town: the server, the calendar and the companies of a soak.

    with Town(work, companies=200) as town:        # town.cluster, town.calcom, town.journal
        town.build()
"""
import queue
import random
import threading

from soak_journal import Firm, Journal, Number, mark
from soak_line import Line, Signer

from calcom_standin import CalcomStandIn
from pgserver import Cluster, Install

DATABASE = "soak"
RETELL_KEY = "key_of_the_soak"
CALCOM_SECRET = "whsec_of_the_soak"
ACCOUNTS = 8
NOBODYS = 6  # numbers that belong to nobody at first
HOT = 10  # companies that use up what they have
TOKENS, PER = 50, 10  # of policy soak: burst, and seconds in which it refills
MAX_CALLS = 3  # of hot companies that dial
CONF = {
    "tenantcall.worker_databases": DATABASE,
    "tenantcall.http_local_hosts": "127.0.0.1",
    "tenantcall.http_breaker_pause": "5 s",
    "tenantcall.http_poll_interval": "1 s",
    "tenantcall.http_timeout": "3 s",
    "tenantcall.outbox_timeout": "3 s",
    "tenantcall.outbox_settle": "5 s",
    "tenantcall.outbox_max_attempts": 100,
    "tenantcall.calls_function_lease": "10 s",
    "tenantcall.maintenance_interval": "20 s",
    "shared_buffers": "256MB",
    "max_connections": 60,
    "max_wal_size": "2GB",
    "autovacuum_naptime": "5 s",
    "log_min_messages": "warning",
}


class Town:
    """A server with a database of companies, and a calendar that they use."""

    def __init__(self, work, companies=200, seed=1, install=None, **conf):
        self.database, self.size, self.random = DATABASE, companies, random.Random(seed)
        self.install = install or Install.given() or Install.build(work)
        self.cluster = Cluster(work, self.install, "soak", {**CONF, **conf})
        self.calcom = CalcomStandIn(tls=False)
        self.journal, self.hooks = Journal(), queue.Queue()
        self.stopping = threading.Event()
        self.signer = Signer(self.cluster.key_file, DATABASE)
        self.nobodys, self.serial = [], 0
        self.serial_lock = threading.Lock()
        self.hot = []

    def __enter__(self):
        self.calcom.start()
        self.cluster.start()
        self.cluster.create_template()
        self.cluster.create_database(DATABASE)
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.cluster.stop("immediate")
        self.calcom.stop()

    def sql(self, statements):
        """Runs statements as superuser."""
        return self.cluster.sql(statements, dbname=DATABASE)

    def connect(self, **options):
        """A connection of the superuser."""
        return self.cluster.connect(dbname=DATABASE, autocommit=True, **options)

    def up(self):
        """Does the server take connections?"""
        return self.cluster.psql("-c", "SELECT 1", dbname=DATABASE).returncode == 0

    def checkpointer(self):
        """The process that is another after a crash, or None while nobody can ask."""
        found = self.cluster.psql("-Atc", "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'", dbname=DATABASE)
        return int(found.stdout) if found.returncode == 0 and found.stdout.strip() else None

    def pid(self, kind):
        """The process of a background worker, or None."""
        pid = self.sql(f"SELECT min(pid) FROM pg_stat_activity WHERE backend_type = 'tenantcall {kind}'")
        return int(pid) if pid else None

    def next(self):
        """A number that is not used twice."""
        with self.serial_lock:
            self.serial += 1
            return self.serial

    def build(self):
        """Makes roles, policies, accounts and companies."""
        for kind in ("app", "gateway", "admin"):
            self.sql(f"CREATE ROLE {kind} LOGIN; SELECT tenantcall.grant_{kind}('{kind}')")
        self.sql("CREATE EXTENSION pgstattuple")
        admin = Line(self, "admin")
        for query, params in (
                ("SELECT tenantcall.set_webhook_key('retell', 'k1', %s)", [RETELL_KEY]),
                ("SELECT tenantcall.set_webhook_key('calcom', 'c1', %s)", [CALCOM_SECRET]),
                ("SELECT tenantcall.set_rate_policy('soak', %s, %s::interval)", [TOKENS, f"{PER} s"])):
            admin.rows("setting up", query, params)
        for number in range(ACCOUNTS):
            key = self.calcom.account(f"cal_account_{number}", webhook_secret=CALCOM_SECRET,
                                      webhook_target=self.hooks)
            admin.rows("setting up", "SELECT tenantcall.set_credential(%s, %s, %s)", [key, key, self.calcom.url])
        for _ in range(self.size):
            self.found(admin)
        self.hot = self.journal.living()[:HOT]
        for firm in self.hot:
            admin.rows("setting up", "SELECT tenantcall.set_concurrency_policy(%s, 0, 1000, company_id => %s)",
                       [MAX_CALLS, firm.id])
        self.nobodys = [self.number(None) for _ in range(NOBODYS)]
        admin.close()

    def number(self, owner):
        """A new phone number."""
        number = Number(f"+4930{1000000 + self.next()}", owner)
        with self.journal.lock:
            self.journal.numbers[number.text] = number
        return number

    def found(self, admin):
        """Makes a company with all that belongs to it; it counts when it is complete."""
        company = admin.rows("create_company", "SELECT tenantcall.create_company('soak', 'DE', 'Europe/Berlin') AS id")[0]["id"]
        firm = Firm(company, f"cal_account_{company % ACCOUNTS}", 100000 + company)
        name = mark(company)
        self.calcom.event_type(firm.account, firm.event_type, time_zone="Europe/Berlin")
        admin.rows("assign_credential", "SELECT tenantcall.assign_credential(%s, %s)", [company, firm.account])
        made = admin.inside(firm, None, "furnishing", [
            ("INSERT INTO telephony.branches (name) VALUES (%s), (%s) RETURNING branch_id", [f"{name} one", f"{name} two"]),
            ("INSERT INTO telephony.services (name, calcom_event_type_id) VALUES (%s, %s) RETURNING service_id",
             [f"{name} service", firm.event_type])])
        firm.branches = [row["branch_id"] for row in made[0]]
        firm.services = [row["service_id"] for row in made[1]]
        for branch in firm.branches:
            number = self.number(company)
            admin.rows("assign_number", "SELECT tenantcall.assign_number(%s, %s, %s)", [number.text, company, branch])
            firm.numbers.append(number)
        self.journal.add_firm(firm)
        return firm
