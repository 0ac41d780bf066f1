"""soak_play: the run of a soak: load, trouble, calm, settling, and the check."""
import collections
import time

from soak_check import Check
from soak_desks import Admin, App
from soak_line import Line, Lost, Refused
from soak_phones import Gateway
from soak_town import Town
from soak_trouble import Storm, Weather
from soak_watch import Watch

GATEWAYS, APPS = 4, 3  # and one administrator
STORM = 0.6  # of the time; the rest is calm
SETTLE = 420  # seconds that orders may take to come to their end
UNFINISHED = "SELECT count(*) FROM tenantcall.outbox_due WHERE state <> 'dead'"


class Result:
    """What a soak has found."""

    def __init__(self, journal, rows, findings, minutes):
        self.journal, self.rows, self.findings, self.minutes = journal, rows, findings, minutes

    def report(self, say):
        """Prints it."""
        counts = collections.Counter(self.journal.counts)
        say(f"{len(self.journal.calls):,} calls, {counts.pop('events'):,} events acknowledged, {len(self.journal.bookings):,} "
            f"appointments, {sum(map(len, self.journal.takes.values())):,} times tokens were asked for")
        say("  " + ", ".join(f"{name} {number:,}" for name, number in counts.most_common()))
        kinds = collections.Counter(what for _, what in self.journal.happened)
        say("  " + (", ".join(f"{what} {number}" for what, number in kinds.most_common()) or "nothing was killed"))
        for kind, text in self.findings:
            say(f"FOUND {kind}: {text}")
        say(f"{len(self.findings)} findings")


def start_load(town, seed):
    """Starts the eight."""
    load = [Gateway(town, seed + number) for number in range(GATEWAYS)]
    load += [App(town, seed + 100 + number) for number in range(APPS)]
    load.append(Admin(town, seed + 200))
    for thread in load:
        thread.start()
    return load


def settle(town, load, patience=SETTLE):
    """Ends the load, and has everything that is under way come to its end."""
    town.stopping.set()
    for thread in load:
        thread.join(200)
        if thread.is_alive():
            town.journal.violation("load", f"{type(thread).__name__} does not end")
    town.calcom.clear_faults()
    town.stopping.clear()
    town.cluster.wait_until(lambda: town.up() and town.pid("http worker"), "the HTTP worker", 120)
    gateway, admin = Gateway(town, 1), Admin(town, 1)
    deadline = time.monotonic() + patience
    while True:
        town.calcom.webhooks.wait()
        while not town.hooks.empty():
            gateway.turn("hook")
        unfinished = int(town.sql(UNFINISHED))
        admin.turn("upkeep")
        again(lambda: admin.line.rows("replay_outbox", "SELECT tenantcall.replay_outbox()"))
        if unfinished == 0 and town.hooks.empty() and int(town.sql("SELECT count(*) FROM tenantcall.outbox_due")) == 0:
            break
        if time.monotonic() > deadline:
            town.journal.violation("booking", f"{unfinished} orders were not settled within {patience} s")
            break
        time.sleep(0.5)
    clear(town, admin)
    for thread in (gateway, admin):
        thread.line.close()
    town.stopping.set()


def clear(town, admin):
    """Deletions that were not answered are repeated; what waits for a number gets it."""
    for firm in list(town.journal.firms.values()):
        if firm.gone:
            again(lambda one=firm: admin.line.rows("set_company_status", "SELECT tenantcall.set_company_status(%s, 'suspended', 'soak')",
                                                   [one.id], may=("PT404",)))
            again(lambda one=firm: admin.remove(one))
    for number in town.nobodys:
        again(lambda one=number: admin.give(one, town.hot[0]))


def again(deed, times=5):
    """Does something until its outcome is known."""
    for _ in range(times):
        try:
            return deed()
        except Lost:
            continue
        except Refused:
            return None
    return None


def play(work, seconds, companies=200, seed=1, progress=lambda text: None, storm=(4, 25), weather=(0.5, 3), **options):
    """A soak; storm: seconds between disturbances, None: none."""
    with Town(work, companies, seed, **options) as town:
        journal = town.journal
        town.build()
        town.cluster.wait_until(lambda: town.pid("http worker"), "the HTTP worker")
        progress(f"{companies} companies are there after {journal.now():.0f} s")
        begun = journal.now()
        watch = Watch(town, min(5.0, max(0.25, seconds / 300)))
        others = [watch, Weather(town, seed + 300, weather)]
        trouble = Storm(town, seed + 400, storm) if storm else None
        for thread in others:
            thread.start()
        load = start_load(town, seed)
        calm_from = wait(town, begun, seconds, trouble, progress)
        rows = list(watch.rows)
        for thread in others:
            thread.over.set()
        for thread in others:
            thread.join(130)
        settle(town, load)
        progress(f"settled after {journal.now() - begun:.0f} s; checking")
        findings = Check(town, rows, calm_from, watch.content).run()
        return Result(journal, rows, findings, seconds / 60)


def wait(town, begun, seconds, trouble, progress):
    """Until the time is over, with trouble for a part of it; returns when the calm began."""
    journal, calm_from, told = town.journal, None, begun
    while journal.now() - begun < seconds:
        time.sleep(0.1)
        if calm_from is None and journal.now() - begun >= seconds * STORM:
            calm_from = journal.now()
        if trouble and calm_from is None:
            trouble.turn()
        if journal.now() - told >= 60:
            told = journal.now()
            progress(f"{(told - begun) / 60:4.0f} min: {journal.counts['events']:,} events, {len(journal.bookings):,} bookings, "
                     f"{len(journal.happened)} disturbances, {len(journal.wrong)} kinds of findings")
    return calm_from
