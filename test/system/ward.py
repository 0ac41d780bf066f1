"""ward: a server on which incidents are staged, to see what health() says of them.

    what, since, remedy = ward.finding("floods", "warning")
    ward.follow(remedy)                                      # runs it as it is printed
    assert ward.wrong() == []
"""
import datetime
import re

from desk import Desk


class Ward(Desk):
    """Where incidents are staged."""

    def query(self, statement, params=None):
        """Rows, as the admin sees them."""
        return self.admin.execute(statement, params).fetchall()

    def health(self):
        """What is wrong: what, since and remedy, by severity."""
        return self.query("SELECT severity, what, since, remedy FROM tenantcall.health()")

    def wrong(self):
        """What is wrong; where nothing is, a row says so."""
        rows = [row[:2] for row in self.health() if row[0] != "info"]
        return [] if [severity for severity, _ in rows] == ["ok"] else rows

    def finding(self, part, severity):
        """The one finding whose text contains that; since when and what to do."""
        rows = [row for row in self.health() if part in row[1]]
        assert [row[0] for row in rows] == [severity], self.health()
        return rows[0][1:]

    def why(self, company):
        """What view stat_companies says of a company."""
        return self.query("SELECT why FROM tenantcall.stat_companies WHERE company_id = %s", [company.id])[0][0]

    def follow(self, remedy, which=0):
        """Runs a statement of a remedy, as it is printed."""
        statements = re.findall(r"(?:SELECT|ALTER|INSERT|CALL)\b(?:(?! -- |; ).)*", remedy)
        return self.admin.execute(statements[which])

    def refresh(self):
        """Connects again, after a restart."""
        self.admin = self.connect("admin")
        self.signer = self.connect("gateway")
        self.cluster.wait_until(self.worker_runs, "the HTTP worker")


def recent(since):
    """Is it a time of this test?"""
    now = datetime.datetime.now(datetime.timezone.utc)
    return now - datetime.timedelta(minutes=30) < since <= now + datetime.timedelta(seconds=5)
