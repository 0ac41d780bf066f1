"""world: companies, and the roles that work for them; none is a superuser or owns a table.

    def test_x(world):
        acme = world.company("Acme", Mitte="+4930111111")     # branches with their numbers
        gateway = world.gateway()                             # a retell.Gateway: ring, event, ...
        gateway.event(Call("c1", to="+4930111111").started())
        world.see(acme, "SELECT status FROM telephony.calls") # as an app, by signed token
"""
import contextlib
import itertools
import threading

from retell import Gateway

KEY = "key_of_the_account"


class Company:
    """A company of the test: its ids by name."""

    def __init__(self, company_id, name):
        self.id = company_id
        self.name = name
        self.branches = {}
        self.numbers = {}


class World:
    """A database with an app, a gateway and an admin role, and a webhook key of the account."""

    def __init__(self, db, role):
        self.db = db
        self.roles = {kind: role(kind) for kind in ("app", "gateway", "admin")}
        with db.connect(autocommit=True) as conn:
            for kind, name in self.roles.items():
                conn.execute(f"SELECT tenantcall.grant_{kind}(%s)", [name])
        self.admin = self.connect("admin")
        self.signer = self.connect("gateway")
        self.admin.execute("SELECT tenantcall.set_webhook_key('retell', 'k1', %s)", [KEY])
        self.guard = threading.Lock()

    def connect(self, kind):
        """A connection of a kind of role, in autocommit mode."""
        return self.db.connect(role=self.roles[kind], autocommit=True)

    def gateway(self, key=KEY):
        """A gateway with a connection of its own."""
        return Gateway(self.connect("gateway"), key)

    @contextlib.contextmanager
    def as_admin(self, company):
        """The admin's connection, within a company."""
        with self.admin.transaction():
            self.admin.execute("SELECT tenantcall.enter(%s)", [company.id])
            yield self.admin

    def company(self, name, **branches):
        """Makes a company with branches, each with a number (or None)."""
        company_id, = self.admin.execute(
            "SELECT tenantcall.create_company(%s, 'DE', 'Europe/Berlin')", [name]).fetchone()
        company = Company(company_id, name)
        for branch, number in branches.items():
            with self.as_admin(company) as conn:
                company.branches[branch], = conn.execute(
                    "INSERT INTO telephony.branches (name) VALUES (%s) RETURNING branch_id",
                    [branch]).fetchone()
            if number is not None:
                self.assign(company, branch, number)
        return company

    def assign(self, company, branch, number, function="assign_number"):
        """Assigns a number to a branch."""
        self.admin.execute(f"SELECT tenantcall.{function}(%s, %s, %s)",
                           [number, company.id, company.branches[branch]])
        company.numbers[branch] = number

    def agent(self, company, agent, branch=None):
        """Assigns an agent of the voice platform."""
        self.admin.execute("SELECT tenantcall.assign_agent(%s, %s, %s)",
                           [agent, company.id, company.branches.get(branch)])

    def service(self, company, name, **columns):
        """Makes a service; returns its id."""
        return self.insert(company, "services", "service_id", name=name, **columns)

    def insert(self, company, table, returning, **columns):
        """Inserts a row of a company; returns a column of it."""
        with self.as_admin(company) as conn:
            return conn.execute(
                f"INSERT INTO telephony.{table} ({', '.join(columns)}) "
                f"VALUES ({', '.join(['%s'] * len(columns))}) RETURNING {returning}",
                list(columns.values())).fetchone()[0]

    def token(self, company, branch=None):
        """A token that admits the app to a company."""
        with self.guard:
            return self.signer.execute(
                "SELECT tenantcall.sign_token(%s, %s, '5 minutes', %s)",
                [company.id, company.branches.get(branch), self.roles["app"]]).fetchone()[0]

    @contextlib.contextmanager
    def as_app(self, company, branch=None):
        """A new connection of the app, within a transaction that entered a company."""
        with self.connect("app") as conn, conn.transaction():
            conn.execute("SELECT tenantcall.enter_token(%s)", [self.token(company, branch)])
            yield conn

    def see(self, company, query, params=None, branch=None):
        """What a query shows the app of a company."""
        with self.as_app(company, branch) as conn:
            return conn.execute(query, params).fetchall()

    def value(self, company, query, params=None, branch=None):
        """The same, of one value."""
        (value,), = self.see(company, query, params, branch)
        return value


def in_parallel(*jobs):
    """Runs functions in threads that start together; returns their results, raises their errors."""
    barrier = threading.Barrier(len(jobs))
    results = [None] * len(jobs)
    errors = []

    def work(index, job):
        """One thread."""
        try:
            barrier.wait(30)
            results[index] = job()
        except BaseException as error:  # of any kind: the test is to fail by it
            errors.append(error)

    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        if thread.is_alive():
            raise TimeoutError("a thread did not end")
    if errors:
        raise errors[0]
    return results


def interleave(*sequences):
    """One item of each sequence, then the next one of each."""
    return [item for row in itertools.zip_longest(*sequences) for item in row if item is not None]
