"""acts: the companies of the demo, and what happens to them."""
import time

import stage  # noqa: F401, finds the modules of test/setup
import retell

HAIR, DENTIST, GARAGE = "Haarwerk", "Zahnarzt Nord", "Autohaus Riem"
NOBODYS = "+4930999999"
KEY = "key_of_the_retell_account"
TOLD = ["message", "call", "note", "outcome", "reason", "company", "branch", "status"]


class Town:
    """What the demo knows of its companies, and the gateway through which messages arrive."""

    def __init__(self):
        self.gateway = None
        self.ids = {}  # company: id
        self.branches = {}  # (company, branch): id
        self.numbers = {}  # number: (company, branch)
        self.placed = {}  # call: the last that was told of it

    def id(self, company):
        """The id of a company."""
        return self.ids[company]

    def branch(self, company, branch):
        """The id of a branch."""
        return self.branches[company, branch]

    @staticmethod
    def call(call_id, to=None, **options):
        """A call that begins now."""
        return retell.Call(call_id, to, **options)

    def row(self, message, call, note, answer):
        """An answer of the gateway's functions, with names in place of ids."""
        companies = {number: name for name, number in self.ids.items()}
        branches = {number: name for (_, name), number in self.branches.items()}
        return {**answer, "message": message, "call": call, "note": note,
                "status": answer.get("status"), "company": companies.get(answer["company_id"]),
                "branch": branches.get(answer["branch_id"])}

    def tell(self, call, name, note=""):
        """An event of a call arrives."""
        body = getattr(call, name.replace("call_", ""))()
        name = {"not_connected": "call_ended", "started_web": "call_started"}.get(name, name)
        told = self.row(name, call.call_id, note, self.gateway.event(body))
        if told["call_id"] is not None:
            self.placed[call.call_id] = told
        return told

    def ring(self, number):
        """The inbound webhook arrives."""
        told = self.gateway.ring(retell.inbound(number))
        answer = told["answer"]["call_inbound"]
        names = answer.get("dynamic_variables", {})
        return {"message": "call_inbound", "number": number, "call": None, "note": "", **told,
                "reason": None, "company": names.get("company_name"), "status": None,
                "branch": names.get("branch_name"), "reject": answer.get("reject", False)}

    def ask(self, call, tool_call_id, note=""):
        """A function call arrives."""
        return self.row("function call", call.call_id, note,
                        self.gateway.function(call.function(tool_call_id)))

    def ask_at_root(self, agent, call_id, note=""):
        """A function call arrives whose body has the arguments alone."""
        return self.row("function call", call_id, note, self.gateway.function(
            retell.arguments_at_root(), agent=agent, call=call_id))


def in_company(demo, town, company, statement, params=None, role="admin"):
    """Runs a statement within a company."""
    with demo.transaction(role):
        demo.sql("SELECT tenantcall.enter(%s)", [town.id(company)], role=role)
        return demo.sql(statement, params, role=role)


def onboard(demo, town):
    """Makes the companies."""
    for name, base_url in (("shared", "https://api.cal.com"), ("garage", "https://api.cal.eu")):
        demo.sql("SELECT tenantcall.set_credential(%s, %s, %s)",
                 [name, f"cal_live_{name}", base_url], role="admin")
    demo.sql("SELECT tenantcall.set_webhook_key('retell', 'k1', %s)", [KEY], role="admin")
    town.gateway = retell.Gateway(demo.connection("gateway"), KEY)
    for company, account, branches in (
            (HAIR, "shared", {"Mitte": "+4930111101", "West": "+4930111102"}),
            (DENTIST, "shared", {"Altona": "+4940222201"}),
            (GARAGE, "garage", {"Riem": "+4989333301"})):
        town.ids[company] = demo.sql("SELECT tenantcall.create_company(%s, 'DE', 'Europe/Berlin')",
                                     [company], role="admin")[0]["create_company"]
        demo.sql("SELECT tenantcall.assign_credential(%s, %s)", [town.id(company), account], role="admin")
        for branch, number in branches.items():
            town.branches[company, branch] = in_company(
                demo, town, company, "INSERT INTO telephony.branches (name) VALUES (%s) "
                "RETURNING branch_id", [branch])[0]["branch_id"]
            demo.sql("SELECT tenantcall.assign_number(%s, %s, %s)",
                     [number, town.id(company), town.branch(company, branch)], role="admin")
            town.numbers[number] = company, branch
            demo.note(f"{company}: {number} rings in {branch}")
    offer_services(demo, town)
    demo.sql("SELECT tenantcall.assign_agent('agent_garage', %s, %s)",
             [town.id(GARAGE), town.branch(GARAGE, "Riem")], role="admin")


def offer_services(demo, town):
    """Services: the same event type in two companies; one branch has its own."""
    offer = ("INSERT INTO telephony.services (name, calcom_event_type_id, calcom_team_id, is_default) "
             "VALUES (%s, %s, %s, %s) RETURNING service_id")
    in_company(demo, town, HAIR, offer, ["Haircut", 501, 51, True])
    colour = in_company(demo, town, HAIR, offer, ["Colour", 502, 51, False])[0]["service_id"]
    in_company(demo, town, HAIR, "INSERT INTO telephony.branch_services (branch_id, service_id, "
               "calcom_event_type_id, is_default) VALUES (%s, %s, 599, true)",
               [town.branch(HAIR, "West"), colour])
    in_company(demo, town, DENTIST, offer, ["Checkup", 501, 52, True])
    in_company(demo, town, GARAGE, offer, ["Inspection", 701, 71, False])


def choose(demo, town, company, branch):
    """The service that a caller of a branch gets."""
    row, = in_company(demo, town, company, """
        SELECT s.name AS service, s.reason AS "chosen by", s.calcom_event_type_id AS "event type",
               coalesce(b.credential, c.credential) AS "Cal.com account"
        FROM telephony.branches AS b JOIN telephony.companies AS c USING (company_id), tenantcall.select_service(NULL, b.branch_id) AS s
        WHERE b.branch_id = %s""", [town.branch(company, branch)])
    return row


def cache_key(demo, town, number):
    """The cache key of tomorrow's slots there."""
    company, branch = town.numbers[number]
    row, = in_company(demo, town, company, """
        SELECT tenantcall.slot_cache_key(calcom_team_id, calcom_event_type_id, current_date + 1)
        FROM tenantcall.select_service(NULL, %s)""", [town.branch(company, branch)])
    return row["slot_cache_key"]


def knock(town):
    """Messages that are not what they seem."""
    gateway = town.gateway
    call = town.call("call_forged", "+4930111101")
    body = call.started()
    old = retell.sign(body, KEY, retell.now_ms() - 600_000)
    stolen = retell.Call("call_hair_1", to="+4989333301").ended()
    nonsense = b'{"event": "call_ended", "call": {'
    return [town.row("call_started", "call_forged", note, gateway.event(sent, signature))
            for note, sent, signature in (
                ("signed with another key", body, retell.sign(body, "key_of_somebody_else")),
                ("one digit changed on the way", body.replace(b"111101", b"111102"),
                 retell.sign(body, KEY)),
                ("recorded ten minutes ago", body, old),
                ("not signed", body, ""),
                ("signature cut off", body, retell.sign(body, KEY)[:-1]))] + [
        town.row("call_ended", None, "authentic, but cut off", gateway.event(nonsense)),
        town.row("call_ended", "call_hair_1", f"names a number of {GARAGE}",
                 gateway.event(stolen))]


def replay(demo, town, since):
    """Replays the quarantine of the number; shows the rows with names."""
    statement = f"SELECT * FROM tenantcall.replay_quarantined('{NOBODYS}'{since})"
    rows = demo.sql(statement, role="admin")
    companies = {number: name for name, number in town.ids.items()}
    return demo.rows(statement, [{"outcome": row["outcome"], "reason": row["reason"],
                                  "company": companies.get(row["company_id"])} for row in rows])


def trespass(demo, town):
    """An app within one company tries to get at another; what it is told."""
    other = town.id(DENTIST)
    elsewhere = demo.token(town, DENTIST)
    forged = elsewhere[:-6] + ("AAAAAA" if elsewhere[-6:] != "AAAAAA" else "BBBBBB")
    tried = []
    for what, statement, params in (
            ("enter without a token", f"SELECT tenantcall.enter({other})", None),
            ("a second token", "SELECT tenantcall.enter_token(%s)", [elsewhere]),
            ("a forged token", "SELECT tenantcall.enter_token(%s)", [forged]),
            ("set the context", f"SET tenantcall.company_id = '{other}'", None),
            ("become somebody else", "SET ROLE admin", None),
            ("insert for another company", f"INSERT INTO telephony.customers (company_id, name) "
                                           f"VALUES ({other}, 'x')", None),
            ("move a row to another company", f"UPDATE telephony.services SET company_id = {other}",
             None),
            ("change a call", "UPDATE telephony.calls SET status = 'ongoing'", None),
            ("read the keys", "SELECT * FROM tenantcall.secrets", None),
            ("lift row security", "ALTER TABLE telephony.calls DISABLE ROW LEVEL SECURITY", None)):
        sqlstate, message = demo.refused_in(town, HAIR, statement, params) or (None, "allowed!")
        tried.append({"attempt": what, "SQLSTATE": sqlstate, "answer": message})
    return tried


def burst(town, many, few):
    """Function calls of the dentist's calls one after the other, and of some of the hairdresser's.

    A call asks five times: one that asks for more is another matter (wild_call).
    """
    loud = [retell.Call(f"call_loud_{number}", "+4940222201") for number in range(-(-many // 5))]
    quiet = [retell.Call(f"call_quiet_{number}", "+4930111102") for number in range(-(-few // 5))]
    answers = {DENTIST: [], HAIR: []}
    begun = time.monotonic()
    for number in range(many):
        answers[DENTIST].append(town.gateway.function(loud[number // 5].function(f"loud_{number}")))
        later = number - (many - few)
        if later >= 0:
            answers[HAIR].append(town.gateway.function(quiet[later // 5].function(f"quiet_{later}")))
    seconds = round(time.monotonic() - begun, 2)
    rows = []
    for company, told in answers.items():
        waits = [answer["retry_after"].total_seconds() for answer in told if answer["retry_after"]]
        rows.append({"company": company, "asked": len(told),
                     "run": sum(answer["outcome"] == "run" for answer in told),
                     "limited": sum(answer["outcome"] == "limited" for answer in told),
                     "free again in (s)": round(max(waits), 3) if waits else None,
                     "header Retry-After": told[-1]["headers"].get("Retry-After"),
                     "seconds": seconds})
    return rows


def wild_call(town, times):
    """One call whose agent asks the same thing again and again; the outcomes, counted."""
    wild = retell.Call("call_wild", "+4989333301")
    counts = {}
    for number in range(times):
        told = town.gateway.function(wild.function(f"wild_{number}"))
        key = told["outcome"], told["reason"]
        counts[key] = counts.get(key, 0) + 1
    return [{"outcome": outcome, "reason": reason, "function calls": count}
            for (outcome, reason), count in counts.items()]
