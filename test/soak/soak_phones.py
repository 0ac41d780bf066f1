"""soak_phones: gateways, through which calls, function calls and webhooks of calendars arrive.

Events come twice, late, out of order, in batches and through several connections at once; what was
not answered is sent again, as the platform does it, but for a few.
"""
import json
import queue
import random
import threading
import time

from soak_journal import CallNote, FunctionNote, mark
from soak_line import Line, Lost, Refused, Stopped
from soak_town import MAX_CALLS, RETELL_KEY

import retell

AT_ONCE = 12  # calls of a gateway
WORDS = "yes no please thank you tomorrow morning at ten or later than that in the afternoon "
ASK = "SELECT * FROM tenantcall.{}(%s::bytea, %s)"


def told_of(body):
    """What a webhook tells, for a finding."""
    told = json.loads(body)
    return f"{told['triggerEvent']} {told['payload']['status']}"


class Load(threading.Thread):
    """A thread that does one thing after the other until it is told to stop."""

    deeds = ()  # (weight, name of a method)

    def __init__(self, town, role, seed, pace=0.01):
        super().__init__(daemon=True)
        self.town, self.journal = town, town.journal
        self.random, self.pace = random.Random(seed), pace
        self.line = Line(town, role)
        self.names = [name for weight, name in self.deeds for _ in range(weight)]

    def run(self):
        """Until told to stop; what is not expected is a finding."""
        try:
            while not self.town.stopping.is_set():
                self.turn(self.random.choice(self.names))
                time.sleep(self.random.uniform(0, 2 * self.pace))
            self.finish()
        except Stopped:
            pass
        finally:
            self.line.close()

    def turn(self, name):
        """One deed."""
        try:
            getattr(self, name)()
        except (Lost, Refused):
            pass
        except Stopped:
            raise
        except Exception as error:  # of any kind: the soak is to go on, and to tell of it
            self.journal.violation("load", f"{name}: {type(error).__name__}: {error}")

    def finish(self):
        """What is left to be done in the end."""


class Gateway(Load):
    """One web server process."""

    deeds = ((50, "step"), (8, "again"), (4, "batch"), (14, "hook"), (6, "limit"), (4, "look"), (3, "dial"))

    def __init__(self, town, seed):
        super().__init__(town, "gateway", seed)
        self.live = []  # [note, steps]

    # --- calls ------------------------------------------------------------------------------

    def begin(self):
        """A new call, to a company or to a number that is nobody's."""
        firms = self.journal.living()
        if self.town.nobodys and self.random.random() < 0.02:
            number, name = self.random.choice(self.town.nobodys), "nobody"
        else:
            number = self.random.choice(self.random.choice(firms).numbers)
            owners = number.owners_at(retell.now_ms())
            name = mark(min(owners)) if owners and len(owners) == 1 else "somebody"
        serial = self.town.next()
        caller = f"+49151{10000000 + serial}"
        transcript = f"Agent: {name} here. User: this is call {serial}. " + WORDS * self.random.randrange(12)
        plan = self.random.choices(("whole", "unanswered", "cut"), (85, 10, 5))[0]
        call = retell.Call(f"{name}_call_{serial}", to=number.text, caller=caller,
                           seconds=self.random.randrange(1, 600))
        note = CallNote(call, number, caller, transcript, plan)
        self.journal.add_call(note)
        self.live.append((note, self.script(note)))

    def script(self, note):
        """The messages of a call, some of them out of order."""
        call, told = note.call, {"transcript": note.transcript}
        if note.plan == "unanswered":
            return [("event", "call_ended", call.not_connected())]
        steps = [("event", "call_started", call.started())]
        steps += [("function", f"tool_{number}", None) for number in range(self.random.randrange(4))]
        if note.plan == "whole":
            steps += [("event", "call_ended", call.ended(**told)), ("event", "call_analyzed", call.analyzed(**told))]
        if self.random.random() < 0.15:
            self.random.shuffle(steps)
        return [("ring", None, None), *steps] if self.random.random() < 0.5 else steps

    def step(self):
        """The next message of a call."""
        if len(self.live) < AT_ONCE:
            self.begin()
        place = self.random.randrange(len(self.live))
        note, steps = self.live[place]
        kind, name, body = steps[0]
        try:
            if kind == "event":
                self.deliver(note, name, body)
            elif kind == "ring":
                self.ring(note, steps)
            else:
                self.function(note, name)
        except Lost:
            if self.random.random() < 0.95:
                return  # it is sent again
            note.lost = True
        del steps[0]
        if not steps:
            del self.live[place]

    def deliver(self, note, event, body):
        """Sends an event."""
        with self.journal.lock:
            note.sent[event] += 1
        row, = self.line.rows("ingest_retell", ASK.format("ingest_retell"), [body, retell.sign(body, RETELL_KEY)])
        self.taken_in(note, event, row)
        self.journal.past.append((note, event, body))

    def taken_in(self, note, event, row):
        """An event was answered."""
        outcome, owners = row["outcome"], note.owners()
        if outcome in ("applied", "merged", "duplicate") or (outcome == "quarantined" and owners is None):
            with self.journal.lock:
                note.acked[event] += 1
                self.journal.counts["events"] += 1
            self.journal.placed(note, row["company_id"], event)
        elif not owners or not owners & self.journal.deleted:
            if note.number not in self.town.nobodys or outcome != "quarantined":
                self.journal.violation("outcome", f"{event}: {outcome} ({row['reason']})")
            else:
                with self.journal.lock:
                    note.acked[event] += 1

    def again(self):
        """The platform delivers something once more."""
        if self.journal.past:
            self.deliver(*self.random.choice(list(self.journal.past)))

    def batch(self):
        """Events of several calls in one statement."""
        chosen = [(note, steps) for note, steps in self.live if steps[0][0] == "event"]
        if not chosen:
            return
        with self.journal.lock:
            for note, steps in chosen:
                note.sent[steps[0][1]] += 1
        bodies = [steps[0][2] for _, steps in chosen]
        rows = self.line.rows("ingest_retell, many", """
            SELECT o.*, n FROM unnest(%s::bytea[], %s::text[]) WITH ORDINALITY AS m (body, signature, n),
            tenantcall.ingest_retell(m.body, m.signature) AS o""",
            [bodies, [retell.sign(body, RETELL_KEY) for body in bodies]])
        for row in rows:
            note, steps = chosen[row["n"] - 1]
            self.taken_in(note, steps[0][1], row)
            del steps[0]
        self.live = [pair for pair in self.live if pair[1]]

    def ring(self, note, steps):
        """The inbound webhook; the call bears the token that it hands out."""
        body = retell.inbound(note.number.text, note.caller)
        row, = self.line.rows("answer_inbound_call", ASK.format("answer_inbound_call"),
                              [body, retell.sign(body, RETELL_KEY)], may=("55P03",))
        if row["outcome"] not in ("accepted", "limited", "suspended", "unknown"):
            self.journal.violation("outcome", f"answer_inbound_call: {row['outcome']}")
        metadata = row["answer"]["call_inbound"].get("metadata")
        if row["outcome"] == "accepted" and metadata and not any(note.sent.values()):
            note.call.common["metadata"] = metadata
            told = {"transcript": note.transcript}
            fresh = {"call_started": note.call.started, "call_ended": lambda: note.call.ended(**told),
                     "call_analyzed": lambda: note.call.analyzed(**told)}
            steps[:] = [(kind, name, fresh[name]() if kind == "event" else body) for kind, name, body in steps]

    # --- function calls ---------------------------------------------------------------------

    def function(self, note, tool):
        """A function call: run it, and tell the answer; or get the answer that was told before."""
        call_id = note.call.call_id
        body = note.call.function(f"{call_id}_{tool}", {"who": call_id})
        sent = time.monotonic()
        row, = self.line.rows("accept_function_call", ASK.format("accept_function_call"),
                              [body, retell.sign(body, RETELL_KEY)], may=("55P03",))
        self.journal.placed(note, row["company_id"], "a function call")
        if row["outcome"] not in ("run", "replay", "busy", "limited", "suspended", "unknown"):
            self.journal.violation("outcome", f"accept_function_call: {row['outcome']} ({row['reason']})")
        if row["outcome"] == "unknown" and note.number not in self.town.nobodys and not note.owners() & self.journal.deleted:
            self.journal.violation("outcome", f"function call unknown ({row['reason']})")
        if row["outcome"] not in ("run", "replay"):
            return
        with self.journal.lock:
            done = self.journal.functions.setdefault(row["idempotency_key"],
                                                     FunctionNote(row["idempotency_key"], note))
        if row["outcome"] == "run":
            self.run_function(done, row, sent)
        elif json.dumps(row["answer"], sort_keys=True) not in done.answers:
            self.journal.violation("function", f"{done.key} was answered with what nobody has said")

    def run_function(self, done, row, sent):
        """Does the work, and finishes; sometimes the work is given up."""
        done.runs += 1
        if done.finished_at is not None and done.finished_at < sent:
            self.journal.violation("function", f"{done.key} was run again after it had been answered")
        if self.random.random() < 0.05:
            return
        answer = json.dumps({"who": done.note.call.call_id, "run": done.runs, "at": self.town.next()}, sort_keys=True)
        done.answers.add(answer)
        self.line.rows("finish_function_call", "SELECT tenantcall.finish_function_call(%s, %s, %s::jsonb)",
                       [row["company_id"], row["idempotency_key"], answer], may=("PT409", "PT404"))
        done.finished_at, done.answer = time.monotonic(), answer

    # --- the rest ---------------------------------------------------------------------------

    def hook(self):
        """A webhook of the calendar, perhaps not the oldest, perhaps twice."""
        try:
            hook = self.town.hooks.get_nowait()
        except queue.Empty:
            return
        if self.random.random() < 0.1:
            self.town.hooks.put(hook)  # later, and perhaps now as well
            if self.random.random() < 0.5:
                return
        try:
            self.take_hook(hook)
        except (Lost, Refused):
            self.town.hooks.put(hook)

    def take_hook(self, hook):
        """Hands a webhook over."""
        body, headers = hook
        told = json.loads(body)["payload"]
        row, = self.line.rows("ingest_calcom", ASK.format("ingest_calcom"),
                              [body, headers["X-Cal-Signature-256"]])
        company = told["eventTypeId"] - 100000
        if row["company_id"] not in (None, company):
            self.journal.violation("cross_tenant", f"a webhook for company {company} went to {row['company_id']}")
        if row["outcome"] in ("rejected", "quarantined") and company not in self.journal.deleted:
            self.journal.violation("outcome", f"{told_of(body)}: {row['outcome']} ({row['reason']})")
        elif told["uid"] in self.journal.elsewhere:
            self.journal.elsewhere[told["uid"]] = company

    def limit(self):
        """A company that wants more than it has, through several connections at once."""
        company, many = self.random.choice(self.town.hot).id, self.random.randrange(1, 40)
        sent = time.monotonic()
        row, = self.line.rows("take_for", "SELECT count(*) FILTER (WHERE (t).allowed) AS admitted FROM (SELECT "
                              "tenantcall.take_for(%s, 'soak', g / g) AS t FROM generate_series(1, %s) AS g OFFSET 0) AS x",
                              [company, many])
        self.journal.took(company, sent, time.monotonic(), row["admitted"])

    def look(self):
        """All about a call."""
        if not self.journal.past:
            return
        note = self.random.choice(list(self.journal.past))[0]
        rows = self.line.rows("call_context", "SELECT company_id FROM tenantcall.call_context(%s)",
                              [note.call.call_id], may=("PT404",))
        self.journal.placed(note, rows[0]["company_id"], "call_context()")
        self.line.rows("call_timeline", "SELECT count(*) FROM tenantcall.call_timeline(%s)", [note.call.call_id],
                       may=("PT404",))

    def dial(self):
        """An outbound call wants a lease; never more at once than the company may have."""
        firm = self.random.choice(self.town.hot)
        held = self.journal.leases[firm.id]
        if held and self.random.random() < 0.5:
            with self.journal.lock:
                holder = next(iter(held), None)
                held.pop(holder, None)
            self.line.rows("release_call_lease", "SELECT tenantcall.release_call_lease(%s, %s)", [firm.id, holder])
            return
        holder, asked = f"dial {self.town.next()}", time.monotonic()
        row, = self.line.rows("acquire_call_lease", "SELECT * FROM tenantcall.acquire_call_lease(%s, %s)",
                              [firm.id, holder], may=("55P03",))
        if row["outcome"] == "acquired":
            with self.journal.lock:
                held[holder] = asked
                # a lease ends by itself after two minutes
                at_once = sum(time.monotonic() - since < 100 for since in held.values())
            if at_once > MAX_CALLS:
                self.journal.violation("over_admission", f"{at_once} calls at once of {MAX_CALLS}")

    def finish(self):
        """Calls that are on come to their end."""
        for note, steps in self.live:
            for kind, name, body in steps:
                if kind == "event":
                    self.turn_deliver(note, name, body)

    def turn_deliver(self, note, name, body):
        """Delivers, until it is answered or refused."""
        for _ in range(20):
            try:
                self.deliver(note, name, body)
                return
            except Lost:
                continue
            except Refused as error:
                if error.sqlstate != "40P01":
                    return
        note.lost = True
