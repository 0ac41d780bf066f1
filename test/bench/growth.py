#!/usr/bin/python3
"""What so many companies need, computed from what was measured and from an assumed day.

    test/bench/growth.py        prints the table of docs/scale.md

COSTS are measured, each by the command that stands beside it; DAY is assumed: put in your own.
Processor time is that of sessions on one core of the machine of docs/scale.md, and in batches of
events; clients, network and disk come on top.
"""
COMPANIES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
DAY = {
    "calls": 10,  # of a company
    "busy": 0.15,  # of them in the busiest hour
    "length": 150,  # seconds
    "functions": 2,  # function calls of a call
    "asked": 0.5,  # requests for slots that reach the calendar, of a call
    "booked": 0.3,  # bookings, of a call
    "latency": 0.3,  # seconds of the calendar's answer
    "numbers": 2,  # phone numbers of a company
    "kept": 90,  # days that events are kept (retention as shipped)
}
COSTS = {
    "call_us": 224, "call_disk": 7.8e3, "call_wal": 8.9e3, "call_xids": 3,  # test/bench/scale.py: three events
    "function_us": 225, "function_disk": 0.6e3, "function_wal": 0.8e3, "function_xids": 2,  # test/bench/scale.py
    "company_disk": 356, "number_disk": 239,  # test/bench/scale.py 1000000
    "bucket": 408,  # bytes: tenantcall.rate_max_buckets
    "policies": 2,  # function_call and webhook: buckets of a company whose phones ring
}
FREEZE_AGE = 200e6  # autovacuum_freeze_max_age as shipped
HEAD = ("companies", "calls a busy second", "messages a second", "cores of sessions", "WAL, MB/s", "disk a day, GB", "kept, TB",
        "directory, GB", "buckets in use, MB", "calls at once", "requests to calendars at once", "days to a freeze by age")


def row(companies):
    """One line, as numbers."""
    calls = companies * DAY["calls"]
    second = calls * DAY["busy"] / 3600
    us = COSTS["call_us"] + (DAY["functions"] + 1) * COSTS["function_us"]  # the inbound webhook as one more function call
    disk = COSTS["call_disk"] + DAY["functions"] * COSTS["function_disk"]
    log = COSTS["call_wal"] + DAY["functions"] * COSTS["function_wal"]
    xids = COSTS["call_xids"] + (DAY["functions"] + 1) * COSTS["function_xids"]
    ringing = min(companies, second * (DAY["length"] + 60))
    return (companies, second, second * (4 + DAY["functions"]), second * us / 1e6, second * log / 1e6, calls * disk / 1e9,
            calls * disk * DAY["kept"] / 1e12, companies * (COSTS["company_disk"] + DAY["numbers"] * COSTS["number_disk"]) / 1e9,
            ringing * COSTS["policies"] * COSTS["bucket"] / 1e6, second * DAY["length"],
            second * (DAY["asked"] + DAY["booked"]) * DAY["latency"], FREEZE_AGE / (calls * xids))


def shown(number):
    """Two digits are enough for what is assumed."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.2g}"


def table():
    """In Markdown, a line for each figure."""
    columns = [row(companies) for companies in COMPANIES]
    lines = ["| " + HEAD[0] + " | " + " | ".join(f"{column[0]:,}" for column in columns) + " |", "|---|" + "---:|" * len(columns)]
    for place, name in list(enumerate(HEAD))[1:]:
        lines.append(f"| {name} | " + " | ".join(shown(column[place]) for column in columns) + " |")
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
