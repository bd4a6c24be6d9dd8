"""A temporal memory in plain Python: one list of rows for each stream, searched by hand, one row after the other."""

import math

import numpy as np

MASK = (1 << 64) - 1


def split_mix(seed, number):
    """Output ``number`` of SplitMix64 whose state starts at the hashed seed, without its sign."""

    def finish(word):
        word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
        return word ^ (word >> 31)

    return finish((finish(seed) + (number + 1) * 0x9E3779B97F4A7C15) & MASK) & ((1 << 63) - 1)


def cosine(one, other):
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def softmax(values):
    values = np.exp(np.array(values) - max(values))
    return values / values.sum()


def drop(rows, gone):
    """Take a row out: arrays in it cannot be compared."""
    rows[:] = [row for row in rows if row is not gone]


class PlainMemory:
    """Rules are named by a word and a number: ``evict=("least used", 2)``."""

    def __init__(self, dim, capacity, streams, *, write=(), evict=("fifo", 0), compress=None, metric="dot"):
        self.capacity, self.write_rules, self.evict, self.compress = capacity, write, evict, compress
        self.metric = metric
        self.scale = dim**-0.5 if metric == "dot" else dim**0.5
        self.rows = [[] for _ in range(streams)]
        self.offered, self.taken, self.anchors = [0] * streams, [0] * streams, [0] * streams

    def unit(self, vector):
        vector = np.asarray(vector, dtype=np.float64)
        return vector / np.linalg.norm(vector) if self.metric == "cosine" else vector

    def write(self, stream, vector, time, *, pin=False, quality=1.0, label=0):
        """The place that the row has, or None."""
        vector, rows = self.unit(vector), self.rows[stream]
        taken = pin or all(self.takes(rule, stream, vector, quality) for rule in self.write_rules)
        self.offered[stream] += 1
        if not taken:
            return None
        number, unpinned = self.taken[stream], self.taken[stream] - self.anchors[stream]
        self.taken[stream] += 1
        self.anchors[stream] += pin
        new = {"vector": vector, "time": time, "latest": time, "size": 1.0, "usage": 0.0, "life": 0, "label": label}
        new |= {"number": number, "pinned": pin, "mixed": False}
        full = len(rows) == self.capacity
        if not (full and self.compress and getattr(self, f"by_{self.compress[0]}")(rows, new)):
            for row in self.going(rows, new, full, unpinned):
                drop(rows, row)
        if new.get("absorbed") or len(rows) == self.capacity:
            return None
        new["place"] = min(set(range(self.capacity)) - {row["place"] for row in rows})
        rows.append(new)
        return new["place"]

    def takes(self, rule, stream, vector, quality):
        kind, number = rule
        if kind == "every":
            return self.offered[stream] % number == 0
        if kind == "quality":
            return quality >= number
        return all(1 - cosine(vector, row["vector"]) >= number for row in self.rows[stream])

    def going(self, rows, new, full, unpinned):
        """The rows that give way."""
        kind, number = self.evict
        if kind == "anchors":
            own = [row for row in rows if row["pinned"] == new["pinned"]]
            return own[:1] if len(own) >= (self.capacity - number if new["pinned"] else number) else []
        free = [row for row in rows if not row["pinned"]]
        among = free or (rows if new["pinned"] else [])
        if not full or not among:
            return []
        if kind == "fifo":
            return among[:1]
        if kind == "uniform":
            seen = len(among) if new["pinned"] else unpinned + 1
            drawn = split_mix(number, new["number"]) % max(seen, 1)
            by_place = sorted(among, key=lambda row: row["place"])
            return [by_place[drawn]] if drawn < len(among) else []
        order = sorted(among, key=lambda row: row["usage"] / row["life"] if row["life"] else math.inf)
        return order[: 1 + number]

    def by_merging(self, rows, new):
        line = [*rows, new]
        pairs = [at for at in range(len(rows)) if not line[at]["pinned"] and not line[at + 1]["pinned"]]
        if not pairs:
            return False
        first = max(pairs, key=lambda at: cosine(line[at]["vector"], line[at + 1]["vector"]))
        old, young = line[first], line[first + 1]
        total = old["size"] + young["size"]
        for what in ("vector", "time"):
            old[what] = (old["size"] * old[what] + young["size"] * young[what]) / total
        old |= {"size": total, "latest": max(old["latest"], young["latest"]), "mixed": True}
        old |= {"usage": old["usage"] + young["usage"], "life": max(old["life"], young["life"])}
        if young is new:
            new["absorbed"] = True
        else:
            drop(rows, young)
        return True

    def by_prototypes(self, rows, new):
        _, count, candidates = self.compress
        group = [row for row in rows if not row["pinned"] and not row["mixed"]][:candidates]
        if len(group) < candidates:
            return False
        chosen = sorted(group, key=lambda row: -row["usage"] / max(row["life"], 1))[:count]
        vectors = np.array([row["vector"] for row in group])
        alike = np.array([row["vector"] for row in chosen]) @ vectors.T * self.scale
        parts = np.array([softmax(column) for column in alike.T]).T @ [row["size"] for row in group]
        newest = max(row["latest"] for row in group)
        for row, scores, size in zip(chosen, alike, parts, strict=True):
            row |= {"vector": softmax(scores) @ vectors, "size": float(size), "latest": newest, "mixed": True}
        gone = {row["number"] for row in group} - {row["number"] for row in chosen}
        rows[:] = [row for row in rows if row["number"] not in gone]
        return True

    def read(self, stream, query, *, before=math.inf):
        """Softmax attention over rows that are older than ``before``, counted as use."""
        query, rows = self.unit(query), [row for row in self.rows[stream] if row["latest"] < before]
        if not rows:
            return np.zeros_like(query)
        weights = softmax([self.scale * float(query @ row["vector"]) for row in rows])
        for row, weight in zip(rows, weights, strict=True):
            row["usage"] += weight
            row["life"] += 1
        return sum(weight * row["vector"] for row, weight in zip(rows, weights, strict=True))

    def reset(self, stream):
        self.rows[stream], self.offered[stream], self.taken[stream], self.anchors[stream] = [], 0, 0, 0
