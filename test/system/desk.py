"""desk: a server whose HTTP worker speaks to a local Cal.com, and companies with calendars.

    def test_x(desk):
        acme = desk.company("Acme", "cal_a", Mitte=None)           # account, branches
        cut = desk.service(acme, "Haircut", 501)                   # event type of that account
        desk.slots(acme, cut, branch="Mitte")                      # what the app sees
"""
import datetime
import zoneinfo

from conftest import Database
from world import World

UTC = datetime.timezone.utc
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
DATABASE = "calendars"


def monday(weeks=1):
    """A Monday some weeks ahead, at midnight UTC, so that all of its day is in the future."""
    today = datetime.datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today + datetime.timedelta(days=7 * weeks - today.weekday() + 7)


class Desk(World):
    """Companies with calendars."""

    def __init__(self, cluster, calcom):
        self.cluster = cluster
        self.calcom = calcom

        def role(stem, options="LOGIN"):
            cluster.sql(f'CREATE ROLE "{stem}" {options}')
            return stem

        cluster.create_database(DATABASE)
        super().__init__(Database(cluster, DATABASE), role)
        cluster.wait_until(self.worker_runs, "the HTTP worker")

    def worker_runs(self):
        """Is there a worker for the database?"""
        return self.cluster.sql("SELECT count(*) FROM pg_stat_activity WHERE datname = "
                                f"'{DATABASE}' AND backend_type = 'tenantcall http worker'") != "0"

    def credential(self, name, key=None, url=None):
        """An account of the calendar, known to the database by a name."""
        self.calcom.account(key or f"cal_{name}")
        self.admin.execute("SELECT tenantcall.set_credential(%s, %s, %s)",
                           [name, key or f"cal_{name}", url or self.calcom.url])
        return name

    def company(self, name, credential=None, **branches):
        """Makes a company with branches and an account."""
        company = super().company(name, **branches)
        if credential is not None:
            company.credential = credential
            self.admin.execute("SELECT tenantcall.assign_credential(%s, %s)",
                               [company.id, credential])
        return company

    def service(self, company, name, event_type=None, **columns):
        """Makes a service, and the event type in the company's account where it is missing."""
        key = f"cal_{company.credential}"
        if event_type is not None and event_type not in self.calcom.accounts[key].event_types:
            self.calcom.event_type(key, event_type)
        return super().service(company, name, calcom_event_type_id=event_type, **columns)

    def slots(self, company, service, day=None, **options):
        """Starts of the free slots of a day, as the company's app sees them."""
        branch = options.pop("branch", next(iter(company.branches)))
        query, params = self.question(service, day, **options)
        return [start for start, in self.see(company, query, params, branch)]

    @staticmethod
    def question(service, day=None, days=1, **options):
        """The query that asks for the slots of a day, and its parameters."""
        day = day or monday()
        named = "".join(f", {name} => %s" for name in options)
        return (f"SELECT starts_at FROM tenantcall.available_slots(%s, %s, %s{named})",
                [service, day, day + datetime.timedelta(days=days), *options.values()])

    def asked(self):
        """How many questions for slots reached the calendar."""
        return self.calcom.count("/v2/slots")
