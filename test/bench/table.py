#!/usr/bin/python3
"""The figures of a run of test/bench/run, beside those of an earlier one, as a Markdown table.

    test/bench/table.py FILE [EARLIER]     default: the latest file before it in the same directory

A figure is the median of the rounds, and in brackets the least and the greatest.  Two runs agree on
it if these ranges meet; what does not is named.  Times stand apart: the rounds of a run share one
server, and where its memory came to lie moves them by more than the rounds show.
"""
import pathlib
import sys

TIME = "ns over a C no-op"


def read(path):
    """(benchmark, what) -> median, least, greatest, budget, verdict."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        bench, what, *numbers, budget, verdict = line.split("\t")
        found[bench, what] = [float(number) for number in numbers] + [budget, verdict]
    return found


def form(values):
    """Median, least and greatest."""
    digits = 0 if values[0] >= 50 else 3 if values[0] < 2 else 2
    return "{:.{d}f} ({:.{d}f}–{:.{d}f})".format(*values[:3], d=digits)


def agree(one, other):
    """Do the ranges meet?"""
    return one[1] <= other[2] and other[1] <= one[2]


def earlier_than(path):
    """The file before this one, or None."""
    before = [other for other in path.parent.glob("*.tsv") if other.name < path.name]
    return max(before, default=None)


def main():
    """Prints the table; what it says of agreement is for the reader, not a verdict."""
    path = pathlib.Path(sys.argv[1])
    if not path.exists():
        return
    before = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else earlier_than(path)
    now, then = read(path), read(before) if before else {}
    title = f" {before.stem} |" if before else ""
    print(f"\n| benchmark | what | {path.stem} |{title} budget | |\n|---|---|---:|{'---:|' if before else ''}---:|---|")
    for key, values in now.items():
        other = f" {form(then[key]) if key in then else ''} |" if before else ""
        verdict = "" if not values[3] else values[4] if values[4] == "kept" else "**missed**"
        print(f"| {key[0]} | {key[1]} | {form(values)} |{other} {values[3]} | {verdict} |")
    both = [key for key in now if key in then]
    for what, keys in (("ratios", [key for key in both if not key[1].endswith(TIME)]),
                       ("times", [key for key in both if key[1].endswith(TIME)])):
        if not keys:
            continue
        differ = [f"{bench}: {name}" for bench, name in keys if not agree(now[bench, name], then[bench, name])]
        print(f"\n{len(keys) - len(differ)} of {len(keys)} {what} agree with {before.name} within their spreads"
              + (f"; not: {'; '.join(differ)}" if differ else ""))


main()
