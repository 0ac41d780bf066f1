"""paired: comparisons of sides that run in turns.

Machines drift and are shared, so a ratio is taken within each round, between sides that ran one
after the other, and the median of these ratios is what is reported, with the least and the greatest
of them: another run of the same is to agree within that spread.
"""
import contextlib
import os
import pathlib
import statistics
import sys


def in_turns(sides, rounds):
    """Yields (round, side): each side once a round, forwards and backwards; round 0 warms up."""
    for number in range(rounds + 1):
        for side in sides if number % 2 else list(reversed(sides)):
            yield number, side


def ratios(ours, theirs):
    """The ratio of each round."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def shown(values, digits=2):
    """Median, and in brackets the least and the greatest."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def noted(what, values, at_least=None, at_most=None):
    """Notes a figure of each round for the table of test/bench/run; true if its budget is kept."""
    median = statistics.median(values)
    kept = (at_least is None or median >= at_least) and (at_most is None or median <= at_most)
    if os.environ.get("TC_BENCH_FIGURES"):
        budget = f"≥ {at_least}" if at_least is not None else f"≤ {at_most}" if at_most is not None else ""
        fields = (pathlib.Path(sys.argv[0]).stem, what, median, min(values), max(values), budget, "kept" if kept else "missed")
        with open(os.environ["TC_BENCH_FIGURES"], "a", encoding="utf-8") as out:
            print(*fields, sep="\t", file=out)
    return kept


@contextlib.contextmanager
def one_processor(*pids):
    """Has processes, and what they start meanwhile, run on one processor together with us.

    A client and its session take turns anyway.  On processors of their own they wake each other up,
    which takes longer than a short statement, and not every time.
    """
    pids = (os.getpid(), *pids)
    before = {pid: os.sched_getaffinity(pid) for pid in pids}
    try:
        for pid in pids:
            os.sched_setaffinity(pid, {max(before[pid])})
        yield
    finally:
        for pid, processors in before.items():
            os.sched_setaffinity(pid, processors)


def cpu(pid):
    """Microseconds of processor time that a process has had; others on the machine do not count."""
    return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1000
