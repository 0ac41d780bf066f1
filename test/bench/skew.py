#!/usr/bin/python3
"""Skewed tenants on n nodes: how evenly does hashing spread them, and what does isolating the largest change?

    test/bench/skew.py        prints the table of docs/scale.md

A million companies, the r-th of which has 1/r of the first one's calls (Zipf, exponent 1: most have
a few calls a day and a handful thousands; with 0 all would be alike).  Companies are hashed to 32
shards a node, and shards dealt out to nodes in turn, as Citus does it by default.  Isolated
companies get a shard of their own, and these are placed from the largest on, each on the node with
the least load so far; then the ordinary shards likewise (a rebalancer by load).  Nothing is drawn at
random: the hash is a fixed one (splitmix64), so the table is always the same.
"""
import array
import heapq

COMPANIES = 1_000_000
SHARDS_PER_NODE = 32
EXPONENTS = (0.6, 1.0, 1.2)
NODES = (2, 4, 8, 16, 32, 64)
ISOLATED = (0, 1, 10, 100)
MASK = (1 << 64) - 1


def hashed(number):
    """splitmix64."""
    number = (number + 0x9E3779B97F4A7C15) & MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & MASK
    return number ^ (number >> 31)


def loads_of(exponent):
    """Each company's part of all calls, the largest first."""
    weights = array.array("d", (rank ** -exponent for rank in range(1, COMPANIES + 1)))
    total = sum(weights)
    return array.array("d", (weight / total for weight in weights))


def shards_of(loads, hashes, count, isolated):
    """The load of each shard, without the isolated companies."""
    shards = [0.0] * count
    for rank in range(isolated, COMPANIES):
        shards[hashes[rank] % count] += loads[rank]
    return shards


def dealt(shards, nodes):
    """Shards dealt out in turn: the greatest load of a node over the mean."""
    loads = [sum(shards[node::nodes]) for node in range(nodes)]
    return max(loads) * nodes


def balanced(shards, nodes):
    """Shards placed from the largest on, each where there is least so far."""
    loads = [0.0] * nodes
    heapq.heapify(loads)
    for shard in sorted(shards, reverse=True):
        heapq.heapreplace(loads, loads[0] + shard)
    return max(loads) * nodes


def table():
    """The rows, in Markdown."""
    hashes = array.array("Q", map(hashed, range(COMPANIES)))
    rows = ["| Zipf exponent | nodes | largest company, of all calls | of a node's fair share | shards dealt out in turn | "
            + " | ".join(f"placed by load, {k} isolated" if k else "placed by load" for k in ISOLATED) + " |",
            "|---:|---:|---:|---:|---:|" + "---:|" * len(ISOLATED)]
    for exponent in EXPONENTS:
        loads = loads_of(exponent)
        for nodes in NODES:
            count = nodes * SHARDS_PER_NODE
            cells = []
            for isolated in ISOLATED:
                shards = shards_of(loads, hashes, count, isolated)
                if isolated == 0:
                    cells.append(f"{dealt(shards, nodes):.2f}")
                cells.append(f"{balanced(shards + list(loads[:isolated]), nodes):.2f}")
            rows.append(f"| {exponent} | {nodes} | {loads[0]:.2%} | {loads[0] * nodes:.2f} | " + " | ".join(cells) + " |")
    return rows


if __name__ == "__main__":
    print("\n".join(table()))
