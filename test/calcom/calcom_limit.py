"""calcom_limit: the vendor's limit of requests per key, and the record of when requests came.

The limit is a fixed window: it opens with the first request, counts 120 in 60 s, and the next one
closes the key for 60 s.  The record keeps every arrival, so that a test can ask for the greatest
number in *any* window, which is the stricter question.
"""
import array
import math
import time


class Window:
    """One key's window."""

    def __init__(self):
        self.opened = self.blocked_until = -math.inf
        self.hits = 0


class Limit:
    """The limit; limit=None switches it off."""

    def __init__(self, limit=120, window=60.0, block=60.0):
        self.limit, self.window, self.block = limit, window, block
        self.windows = {}
        self.refused = 0

    def set(self, **changes):
        """Changes limit, window or block, and forgets what was counted."""
        for name, value in changes.items():
            if name not in ("limit", "window", "block"):
                raise TypeError(f"a limit has no {name}")
            setattr(self, name, value)
        self.windows.clear()

    def hit(self, key, now):
        """Counts a request; returns (allowed, headers)."""
        if self.limit is None:
            return True, {}
        slot = self.windows.setdefault(key, Window())
        if now >= slot.blocked_until and now >= slot.opened + self.window:
            slot.opened, slot.hits = now, 0
        slot.hits += 1
        if now >= slot.blocked_until and slot.hits > self.limit:
            slot.blocked_until = now + self.block
            slot.opened = -math.inf  # a new window opens with the first request after the block
        allowed = now >= slot.blocked_until
        self.refused += not allowed
        ends = slot.opened + self.window if allowed else slot.blocked_until
        return allowed, {
            "X-RateLimit-Limit-Default": self.limit,
            "X-RateLimit-Remaining-Default": max(0, self.limit - slot.hits) if allowed else 0,
            "X-RateLimit-Reset-Default": math.ceil(ends - now)}


class Arrivals:
    """When requests came, per key, on the monotonic clock."""

    def __init__(self):
        self.times = {}

    def add(self, key, now=None):
        """Notes a request."""
        now = time.monotonic() if now is None else now
        self.times.setdefault(key, array.array("d")).append(now)

    def count(self, key=None):
        """How many came, of one key or of all."""
        return len(self.times.get(key, ())) if key is not None else \
            sum(map(len, self.times.values()))

    def most(self, key=None, window=60.0):
        """The greatest number in any window of so many seconds, of one key or the worst key."""
        if key is None:
            return max((self.most(name, window) for name in list(self.times)), default=0)
        times, first, most = list(self.times.get(key, ())), 0, 0
        for last, at in enumerate(times):
            while at - times[first] >= window:
                first += 1
            most = max(most, last - first + 1)
        return most
