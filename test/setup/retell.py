"""retell: messages as Retell AI sends them, for the demo and the system tests.

The shapes are those of test/fixtures/retell; times are moved to now, because a call belongs to
whom its number was assigned to when it began.  Bodies are signed here, by the vendor's rule and
with nothing but the standard library, so that nothing rests on our own signer:

    x-retell-signature: v=<unix ms>,d=<hex of HMAC-SHA256(key, body + decimal ms)>
"""
import copy
import hashlib
import hmac
import json
import pathlib
import time

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "retell"


def now_ms():
    """The time as the platform writes it."""
    return time.time_ns() // 1_000_000


def fixture(name):
    """The message of a fixture file."""
    return json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))


def encode(message):
    """A message as the bytes of a body."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def sign(body, key, at_ms=None):
    """The value of the header x-retell-signature."""
    at_ms = now_ms() if at_ms is None else at_ms
    body = body if isinstance(body, bytes) else body.encode()
    digest = hmac.new(key.encode(), body + str(at_ms).encode(), hashlib.sha256).hexdigest()
    return f"v={at_ms},d={digest}"


class Call:
    """A call, and the messages that the platform sends about it.

    call = Call("call_1", to="+4930111111")
    call.started(), call.ended(), call.analyzed(), call.function("t1")      bodies, as bytes
    """

    def __init__(self, call_id, to="+12137771235", caller="+12137771234", agent="agent_demo",
                 seconds=60, at_ms=None, outbound=False, web=False):
        self.call_id = call_id
        self.start_ms = now_ms() if at_ms is None else at_ms
        self.end_ms = self.start_ms + seconds * 1000
        self.common = {"call_id": call_id, "agent_id": agent, "start_timestamp": self.start_ms}
        if not web:
            company, other = to, caller
            self.common.update(
                call_type="phone_call", direction="outbound" if outbound else "inbound",
                from_number=company if outbound else other,
                to_number=other if outbound else company)

    def event(self, name, **changes):
        """The body of an event, after the fixture of that name."""
        message = fixture(name)
        message["call"].update(copy.deepcopy(self.common))
        if "end_timestamp" in message["call"]:
            message["call"]["end_timestamp"] = self.end_ms
        if "duration_ms" in message["call"]:
            message["call"]["duration_ms"] = self.end_ms - self.start_ms
        message["call"].update(changes)
        return encode(message)

    def started(self, **changes):
        """call_started"""
        return self.event("call_started", **changes)

    def started_web(self, **changes):
        """call_started of a call from a web page: no numbers, no direction"""
        return self.event("call_started_web", **changes)

    def ended(self, **changes):
        """call_ended"""
        return self.event("call_ended", **changes)

    def ended_web(self, **changes):
        """call_ended of a call from a web page"""
        message = fixture("call_ended")
        for absent in ("from_number", "to_number", "direction"):
            del message["call"][absent]
        message["call"].update(self.common, call_type="web_call", end_timestamp=self.end_ms,
                               **changes)
        return encode(message)

    def not_connected(self, **changes):
        """call_ended of a call that nobody answered"""
        return self.event("call_ended_not_connected", **changes)

    def analyzed(self, **changes):
        """call_analyzed"""
        return self.event("call_analyzed", **changes)

    def function(self, tool_call_id, arguments=None, name="check_availability"):
        """A custom function's request."""
        message = fixture("function_check_availability")
        arguments = message["args"] if arguments is None else arguments
        message["name"] = name
        message["args"] = arguments
        message["call"].update(copy.deepcopy(self.common))
        message["call"]["transcript_with_tool_calls"][0].update(
            tool_call_id=tool_call_id, name=name, arguments=json.dumps(arguments))
        return encode(message)


def inbound(to, caller="+12137771234", agent="agent_demo"):
    """The inbound webhook's body: the phone rings."""
    message = fixture("call_inbound")
    message["event_timestamp"] = now_ms()
    message["call_inbound"].update(to_number=to, from_number=caller, agent_id=agent)
    return encode(message)


def arguments_at_root(**changes):
    """A custom function's request that has the arguments alone."""
    return encode({**fixture("function_args_at_root"), **changes})


class Gateway:
    """What a web server does with a request: hands body and signature over to the database.

    It holds a connection in autocommit mode, of a role that was given grant_gateway().
    """

    def __init__(self, connection, key):
        self.connection = connection
        self.key = key

    def ask(self, function, body, signature=None, **named):
        """Calls one of the functions that take a body; returns its one row, as a dict."""
        signature = sign(body, self.key) if signature is None else signature
        extra = "".join(f", {name} => %({name})s" for name in named)
        cursor = self.connection.execute(
            f"SELECT * FROM tenantcall.{function}(%(body)s::bytea, %(signature)s{extra})",
            {"body": body, "signature": signature, **named})
        row = cursor.fetchone()
        return row if isinstance(row, dict) else \
            dict(zip([column.name for column in cursor.description], row))

    def ring(self, body, signature=None):
        """The inbound webhook."""
        return self.ask("answer_inbound_call", body, signature)

    def event(self, body, signature=None, **named):
        """A webhook event."""
        return self.ask("ingest_retell", body, signature, **named)

    def function(self, body, signature=None, **named):
        """A function call."""
        return self.ask("accept_function_call", body, signature, **named)

    def finish(self, accepted, answer):
        """Records the answer of an accepted function call."""
        self.connection.execute(
            "SELECT tenantcall.finish_function_call(%s, %s, %s::jsonb)",
            [accepted["company_id"], accepted["idempotency_key"], json.dumps(answer)])
