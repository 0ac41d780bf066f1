"""calcom_control: the stand-in's control over HTTP, for those who cannot call its methods.

    GET    /_control                what happened: counters, bookings, most_in_window, faults, …
    POST   /_control/accounts       {key, name, webhook_secret, webhook_target}
    POST   /_control/event_types    {key, number, length, time_zone, hours, …}
    POST   /_control/faults         a rule, or a list of rules (calcom_faults.py)
    DELETE /_control/faults
    POST   /_control/limit          {limit, window, block}; limit null: none
    POST   /_control/webhooks       {hold: true}, {release: "reversed", copies: 2}, {copies: 2},
                                    {emit: trigger, key, uid}, {repeat: -1}
    POST   /_control/book           {key, number, start}: somebody else books
    POST   /_control/forget         forgets requests, counters and faults

Answers are JSON; 400 with the reason for what is not understood.
"""
import json

from calcom_model import Refusal


def encode(answer):
    """JSON, short."""
    return json.dumps(answer, separators=(",", ":"), ensure_ascii=False).encode()


def state(standin):
    """What happened."""
    return {
        "counters": {f"{method} {path}": n for (method, path), n in standin.counters.items()},
        "requests": standin.arrivals.count(),
        "most_in_window": {key: standin.most_in_window(key) for key in standin.arrivals.times},
        "refused_by_limit": standin.limit.refused,
        "bookings": standin.bookings(),
        "faults": [{**rule.options, "met": rule.met} for rule in standin.faults.rules],
        "webhooks": [{"headers": headers, "body": body.decode()}
                     for _, headers, body in standin.webhooks.sent],
        "connections": standin.connections(),
        "errors": standin.errors,
    }


def webhooks(standin, body):
    """Commands about webhooks."""
    if body.get("hold"):
        standin.webhooks.hold()
    elif "release" in body:
        standin.webhooks.release(body["release"], body.get("copies", 1))
    elif "emit" in body:
        standin.emit(body["key"], body["emit"], body["uid"])
    elif "repeat" in body:
        standin.webhooks.repeat(body["repeat"])
    else:
        standin.webhooks.copies = body["copies"]


def faults(standin, body):
    """Arms one fault or several."""
    for rule in body if isinstance(body, list) else [body]:
        standin.fault(**rule)


COMMANDS = {
    "accounts": lambda standin, body: standin.account(**body),
    "event_types": lambda standin, body: standin.event_type(**body),
    "faults": faults,
    "limit": lambda standin, body: standin.limit.set(**body),
    "webhooks": webhooks,
    "book": lambda standin, body: standin.book_elsewhere(**body),
    "forget": lambda standin, body: standin.forget(),
}


def answer(standin, request):
    """Obeys; returns (status, body)."""
    command = request.path.removeprefix("/_control").strip("/")
    with standin.lock:
        try:
            if request.method == "GET" and not command:
                return 200, encode(state(standin))
            if request.method == "DELETE" and command == "faults":
                standin.clear_faults()
            elif request.method == "POST" and command in COMMANDS:
                result = COMMANDS[command](standin, json.loads(request.body or b"{}"))
                if isinstance(result, str):
                    return 200, encode({"ok": True, "result": result})
            else:
                return 404, encode({"error": f"no {request.method} {request.path}"})
        except (Refusal, KeyError, TypeError, ValueError, AttributeError, IndexError) as failure:
            return 400, encode({"error": f"{type(failure).__name__}: {failure}"})
    return 200, encode({"ok": True})
