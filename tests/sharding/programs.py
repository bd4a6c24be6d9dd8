"""Programs that ranks run on a shared bank and on that of one process, which must agree after each step.

A program is ``{"kind", "capacity", "way", "steps"}``, a step ``[word, sizes, seed]``: what is done, with how many rows
or queries on each rank, drawn by which seed. Nothing is raised before the end, so that all ranks run all of it.
"""

import torch
from shared_cases import CLOSE, SHARED, batches, build, draw, same

import torchbank as tb
from torchbank.errors import BankValueError


def run(rank, ranks, program):
    """What first differs, or nothing."""
    alone = build(program["kind"], capacity=program["capacity"])
    shared = SHARED[program["way"]](build(program["kind"], capacity=program["capacity"]), uneven=True)
    complaints = []
    for number, (word, sizes, drawn) in enumerate(program["steps"]):
        # No row comes twice: of equal scores either may be first.
        seed = 10_000 * number + drawn
        agreed = _STEPS[word](shared, alone, rank, sizes, seed) and _same_state(shared, alone, rank, ranks)
        complaints += [] if agreed else [f"step {number}, {word} of {sizes} with seed {seed}"]
    whole = same(shared.ordered(), alone.ordered()) and len(shared) == len(alone)
    tb.sharding.check_replicas(shared)
    return next(iter(complaints), "" if whole else "the order at the end")


def _same_state(shared, alone, rank, ranks):
    """To the bit: of a sharded bank the rows of this rank, and all counters."""
    own = slice(rank, None, ranks) if isinstance(shared, tb.sharding.ShardedBank) else slice(None)
    state = {name.replace("replacement.rule.", "replacement."): each for name, each in shared.state_dict().items()}
    expected = {name: each[own] if each.ndim else each for name, each in alone.state_dict().items()}
    return state.keys() == expected.keys() and all(torch.equal(state[name], expected[name]) for name in expected)


def _outcome(action):
    """What a call gives, or what it says is wrong."""
    try:
        return action()
    except BankValueError as error:
        return str(error)


def _push(shared, alone, rank, sizes, seed):
    """Now and then with a row that is refused, on all ranks and in the same words."""
    parts, (whole, columns) = batches(seed, alone, len(sizes), sizes)
    if seed % 8 == 0 and len(whole):
        whole[seed % len(whole)] = torch.nan
    own, own_columns = whole.split(sizes)[rank], parts[rank][1]
    found, expected = _outcome(lambda: shared.push(own, **own_columns)), _outcome(lambda: alone.push(whole, **columns))
    if isinstance(expected, str):
        return found == expected
    return torch.equal(found, expected.split(sizes)[rank])


def _update(shared, alone, rank, sizes, seed):
    """Rows of any slots, some of them stale, some given twice, and some that never were."""
    generator = torch.Generator().manual_seed(seed)
    rows, _ = draw(generator, alone, sum(sizes))
    slots = torch.randint(-1, alone.capacity, (sum(sizes),), generator=generator)
    stale = torch.randint(5, (sum(sizes),), generator=generator) == 0
    generations = alone.generations[slots] + stale
    own = [column.split(sizes)[rank] for column in (slots, generations, rows)]
    return torch.equal(shared.update(*own, step=seed), alone.update(slots, generations, rows, step=seed))


def _read(shared, alone, rank, sizes, seed):
    """Queries of each rank's own; in float64, so that only an error can be seen."""
    generator = torch.Generator().manual_seed(seed + rank)
    queries = torch.randn(sizes[rank], alone.dim, generator=generator, dtype=torch.float64)
    chosen = {"include": {"label": torch.arange(sizes[rank]) % 3}} if seed % 2 else {"max_age": seed % 5}
    one, other = (bank.nearest(queries, 4, **chosen) for bank in (shared, alone))
    near = torch.equal(one.slots, other.slots) and torch.allclose(one.scores, other.scores, **CLOSE)
    one, other = (bank.attend(queries, scale=3.0, **chosen) for bank in (shared, alone))
    return near and all(torch.allclose(a, b, **CLOSE) for a, b in zip(one, other, strict=True))


def _gather(shared, alone, rank, sizes, seed):
    """Slots of each rank's own; and a random partition that all agree on."""
    generator = torch.Generator().manual_seed(seed + rank)
    wanted = torch.randint(-1, alone.capacity, (sizes[rank],), generator=generator)
    blocks = [bank.blocks(3, generator=torch.Generator().manual_seed(seed)) for bank in (shared, alone)]
    return same(shared.gather(wanted), alone.gather(wanted)) and torch.equal(*blocks)


_STEPS = {"push": _push, "update": _update, "read": _read, "gather": _gather}
