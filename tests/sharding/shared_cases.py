"""Banks of several ranks against the bank of one process that is given the batches of all ranks, one after another."""

import functools

import torch
from bank_cases import FIELDS, assert_same_state

import torchbank as tb
from torchbank.errors import BankStateError, BankValueError

KINDS = {
    "ring": tb.MemoryBank,
    "keyed": functools.partial(tb.KeyedMemoryBank, momentum=0.5, duplicates="mean"),
    "last": functools.partial(tb.KeyedMemoryBank, duplicates="last"),
    "once": tb.KeyedMemoryBank,
    "reservoir": functools.partial(tb.ReservoirMemoryBank, seed=7),
}
# Of these, batches may name a key twice.
REPEATING = tuple(kind for kind in KINDS if kind != "once")
SHARED = {"replicated": tb.replicate, "sharded": tb.shard}
# Queries are float64, so that only an error can be seen.
CLOSE = {"rtol": 1e-9, "atol": 1e-10}


def build(kind, capacity=23, dim=5, **options):
    return KINDS[kind](capacity, dim, **{"fields": FIELDS, **options})


def draw(generator, bank, rows):
    """A batch with everything that a push takes."""
    embeddings = torch.randn(rows, bank.dim, generator=generator)
    columns = {"label": torch.randint(3, (rows,), generator=generator), "box": torch.rand(rows, 2, generator=generator)}
    if isinstance(bank, tb.KeyedMemoryBank):
        columns["keys"] = torch.randint(bank.capacity, (rows,), generator=generator)
    return embeddings, columns


def batches(seed, bank, ranks, sizes):
    """The batch of each rank, and all of them as one."""
    generator = torch.Generator().manual_seed(seed)
    parts = [draw(generator, bank, sizes[rank]) for rank in range(ranks)]
    whole = torch.cat([rows for rows, _ in parts])
    columns = {name: torch.cat([part[name] for _, part in parts]) for name in parts[0][1]}
    return parts, (whole, columns)


def push_both(shared, alone, seed, rank, ranks, sizes):
    parts, (whole, columns) = batches(seed, alone, ranks, sizes)
    own, own_columns = parts[rank]
    slots = alone.push(whole, **columns)
    assert torch.equal(shared.push(own, **own_columns), slots.split(sizes)[rank])


def random_sizes(seed, ranks):
    generator = torch.Generator().manual_seed(1_000 + seed)
    return torch.randint(0, 12, (ranks,), generator=generator).tolist()


def pairs(ranks, *, steps=12, uneven=True, kinds=REPEATING, ways=tuple(SHARED), **options):
    """Banks shared in both ways, beside that of one process, after random steps."""
    rank = torch.distributed.get_rank()
    for way in ways:
        share = SHARED[way]
        for kind in kinds:
            shared, alone = share(build(kind, **options), uneven=uneven), build(kind, **options)
            for seed in range(steps):
                push_both(shared, alone, seed, rank, ranks, random_sizes(seed, ranks) if uneven else [3] * ranks)
            yield way, kind, shared, alone


def same(one, other):
    flat = [[view.embeddings, *view.fields.values(), view.steps, view.valid] for view in (one, other)]
    return all(torch.equal(a, b) for a, b in zip(*flat, strict=True))


def case_random_steps__the_bank_of_one_process(rank, ranks):
    for way, kind, shared, alone in pairs(ranks):
        if way == "replicated":
            assert_same_state(shared, alone)
        else:
            own = shared.own_slots()
            assert torch.equal(shared.embeddings[: len(own)], alone.embeddings[own]), kind
            assert torch.equal(shared.generations[: len(own)], alone.generations[own]), kind
        assert (len(shared), shared.total_pushed, shared.is_full) == (len(alone), alone.total_pushed, alone.is_full)
        assert same(shared.ordered(), alone.ordered()), (way, kind)
        assert torch.equal(shared.mean_age(50), alone.mean_age(50))
        tb.sharding.check_replicas(shared)


def case_every_dtype_and_equal_batches(rank, ranks):
    for dtype in (torch.bfloat16, torch.float16):
        for way, kind, shared, alone in pairs(ranks, uneven=False, kinds=("ring", "keyed"), dtype=dtype, metric="dot"):
            assert same(shared.ordered(), alone.ordered()), (way, kind, dtype)


def case_larger_than_the_bank_and_empty(rank, ranks):
    for share in SHARED.values():
        for kind in ("ring", "reservoir", "keyed"):
            shared, alone = share(build(kind, capacity=7), uneven=True), build(kind, capacity=7)
            for seed, sizes in enumerate(([0] * ranks, [20, *[0] * (ranks - 1)], [0, *[9] * (ranks - 1)], [1] * ranks)):
                push_both(shared, alone, seed, rank, ranks, sizes)
                assert same(shared.ordered(), alone.ordered())


def case_gather_subset_blocks(rank, ranks):
    for way, kind, shared, alone in pairs(ranks):
        wanted = torch.randint(-1, 23, (2, 3 + rank), generator=torch.Generator().manual_seed(rank))
        assert same(shared.gather(wanted), alone.gather(wanted)), (way, kind)
        generator = [torch.Generator().manual_seed(5) for _ in range(3)]
        blocks = alone.blocks(4, generator=generator[0])
        assert torch.equal(shared.blocks(4, generator=generator[1]), blocks)
        assert torch.equal(shared.sample(3, generator=generator[2]), blocks.flatten()[:3])
        queries = torch.randn(3, 5, generator=torch.Generator().manual_seed(rank)).double()
        bias = torch.randn(23, generator=torch.Generator().manual_seed(9))
        for slots in blocks[:2]:
            one, other = shared.subset(slots), alone.subset(slots)
            more = {"include": {"label": torch.arange(3)}, "bias": bias[slots]}
            assert_same_reads(one, other, queries, more)


def assert_same_reads(one, other, queries, selection):
    """Values, and the gradients of a loss made of them."""
    found = [bank.nearest(queries, 6, **selection) for bank in (one, other)]
    torch.testing.assert_close(found[0].scores, found[1].scores, **CLOSE)
    assert torch.equal(found[0].slots, found[1].slots)
    assert torch.equal(found[0].valid, found[1].valid)
    if one.metric == "euclidean":
        return
    labels = torch.arange(len(queries)) % 3
    hinge = _HINGE.with_parameters(0.1, torch.linspace(0, 1, len(queries)))
    results = []
    for bank in (one, other):
        own, scale = queries.clone().requires_grad_(), torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
        lse, readout = bank.attend(own, scale=scale, **selection)
        scores = bank.pair_sum(own, tb.reads.SCORE, labels=labels, **selection)
        hinges = bank.pair_sum(own, hinge, labels=labels, **selection)
        triplets = [
            bank.triplet_sum(own, labels=labels, margin=0.3, mining=mining, **selection)
            for mining in ("all", "semi-hard", "hardest")
        ]
        sums = torch.stack([part.value for part in (scores, hinges, *triplets)])
        counts = torch.stack([part.count for part in (scores, hinges, *triplets)])
        loss = (lse.masked_fill(lse == -torch.inf, 0) * torch.arange(1, 1 + len(own))).sum() + sums.square().sum()
        loss.backward()
        results.append([lse, readout, sums, counts, own.grad, scale.grad])
    for value, expected in zip(*results, strict=True):
        torch.testing.assert_close(value, expected, **CLOSE)


_HINGE = tb.PairFunction(
    "sharding_case_hinge",
    value=lambda s, same, margin, shift: torch.where(same, 1 - s, (s - margin - shift).clamp_min(0)),
    derivative=lambda s, same, margin, shift: torch.where(same, -1.0, (s > margin + shift).to(s.dtype)),
)


def case_reads_with_every_selection(rank, ranks):
    for metric in ("cosine", "dot", "euclidean"):
        # A replicated bank reads as any other.
        for *_, shared, alone in pairs(ranks, steps=5, kinds=("ring", "keyed"), ways=("sharded",), metric=metric):
            rows = 4 if metric == "dot" else 3 * rank
            queries = torch.randn(rows, 5, generator=torch.Generator().manual_seed(rank)).double()
            label = torch.arange(rows) % 3
            bias = torch.randn(23, generator=torch.Generator().manual_seed(9))
            bias[::4] = -torch.inf
            for selection in (
                {},
                {"exclude": {"label": label}},
                {"include": [{"label": label}, {"label": label + 1}], "max_age": 3},
                {"bias": bias, "half_life": 2.0, "step": 9, "exclude": [{"label": label}]},
                {"include": {"label": label + 99}},
            ):
                assert_same_reads(shared, alone, queries, selection)


def case_transformed__as_the_bank_of_one_process(rank, ranks):
    bias = torch.randn(23, generator=torch.Generator().manual_seed(9))
    for *_, shared, alone in pairs(ranks, kinds=("ring", "keyed")):
        queries = torch.randn(3, 5, generator=torch.Generator().manual_seed(rank)).double()
        one, other = (bank.transformed(lambda rows: rows.embeddings.flip(1)) for bank in (shared, alone))
        assert_same_reads(one, other, queries, {"max_age": 8, "bias": bias[: len(alone.view().steps)]})


def case_strided_columns__any_number_of_rows(rank, ranks):
    generator = torch.Generator().manual_seed(1)
    everyone, box = torch.randn(ranks, 6, 10, generator=generator), torch.rand(ranks, 6, 4, generator=generator)
    label = torch.arange(6 * ranks).view(ranks, 6)
    for share in SHARED.values():
        for every in (2, 3, 6):  # three rows, two, one
            shared, alone = share(build("ring")), build("ring")
            parts = everyone[:, ::every, ::2], label[:, ::every], box[:, ::every, ::2]
            own, own_label, own_box = (part[rank] for part in parts)
            shared.push(own, label=own_label, box=own_box)
            # What travelled is contiguous, and norms depend on that by a bit.
            rows, labels, boxes = (part.flatten(0, 1).contiguous() for part in parts)
            alone.push(rows, label=labels, box=boxes)
            assert same(shared.ordered(), alone.ordered())


def case_nothing_there__nothing_found(rank, ranks):
    bank = tb.shard(build("ring"))
    queries = torch.randn(2, 5)
    assert (bank.attend(queries, scale=1.0).lse == -torch.inf).all()
    assert (bank.nearest(queries, 3).slots == -1).all()
    assert bank.pair_sum(queries, tb.reads.SCORE).value.tolist() == [0, 0]


def case_rows_that_are_there_already_are_shared(rank, ranks):
    for kind in ("ring", "keyed", "reservoir"):
        bank = build(kind)
        _, (rows, columns) = batches(0, bank, 4, [9] * 4)
        bank.push(rows, **columns)
        alone = build(kind)
        alone.load_state_dict(bank.state_dict())
        for shared in (tb.shard(bank), tb.replicate(bank)):
            assert same(shared.ordered(), alone.ordered()), kind


def case_update__where_the_row_is_still_there(rank, ranks):
    for way, share in SHARED.items():
        shared, alone = share(build("ring")), build("ring")
        push_both(shared, alone, 0, rank, ranks, [4] * ranks)
        slots = torch.tensor([[0, 1], [2, 3], [4, 5], [6, 7]])[:ranks]
        generations = torch.tensor([1, 2]).expand(ranks, 2)
        rows = torch.randn(ranks, 2, 5, generator=torch.Generator().manual_seed(3))
        stale = alone.update(slots.flatten(), generations.flatten(), rows.flatten(0, 1), step=9)
        assert shared.update(slots[rank], generations[rank], rows[rank], step=9) == stale == ranks
        assert same(shared.ordered(), alone.ordered()), way


def case_meta__an_empty_part_of_what_no_rank_could_hold(rank, ranks):
    described = tb.ReservoirMemoryBank(10**12, 64, seed=3, device="meta")
    # A part of this one fits as well.
    small = tb.ReservoirMemoryBank(100, 5, seed=3, device="meta", fields=FIELDS)
    assert described.embeddings.is_meta
    shared, alone = tb.shard(small, device="cpu"), tb.ReservoirMemoryBank(100, 5, seed=3, fields=FIELDS)
    for seed in range(20):
        push_both(shared, alone, seed, rank, ranks, [9] * ranks)
    assert same(shared.ordered(), alone.ordered())
    assert shared.embeddings.shape[0] <= -(-100 // ranks)


def case_host_and_file__the_same(rank, ranks):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for storage in ("host", f"{folder}/rank-{rank}.rows"):
            shared, alone = tb.shard(build("ring"), storage=storage), build("ring")
            for seed in range(5):
                push_both(shared, alone, seed, rank, ranks, [4] * ranks)
            assert_same_reads(shared, alone, torch.randn(3, 5).double(), {"max_age": 2})


def raised(error, action):
    try:
        action()
    except error as caught:
        return str(caught)
    raise AssertionError(f"{error.__name__} was not raised")


def case_sizes_that_differ__an_error_on_every_rank(rank, ranks):
    for share in SHARED.values():
        bank = share(tb.MemoryBank(8, 2))
        message = raised(BankValueError, lambda bank=bank: bank.push(torch.ones(1 + rank, 2)))
        assert f"{', '.join(str(1 + r) for r in range(ranks))} rows" in message
        assert len(bank) == 0


def case_bad_row__an_error_on_every_rank(rank, ranks):
    for share in SHARED.values():
        bank = share(tb.MemoryBank(8, 2))
        rows = torch.full((1, 2), float("nan") if rank == 1 else 1.0)
        assert "1" in raised(BankValueError, lambda bank=bank, rows=rows: bank.push(rows))
        assert len(bank) == 0
        bank.push(torch.ones(1, 2))
        assert len(bank) == ranks


def case_another_bank__the_first_rank_that_differs(rank, ranks):
    for share in SHARED.values():
        odd = tb.MemoryBank(8 + (rank == 1), 2)
        assert "rank 1 has another bank" in raised(BankStateError, lambda share=share, odd=odd: share(odd))
        odd = tb.MemoryBank(8, 2)
        odd.push(torch.tensor([[1.0, rank == ranks - 1]]))
        assert f"rank {ranks - 1} holds other rows" in raised(BankStateError, lambda share=share, odd=odd: share(odd))
    bank = tb.replicate(tb.MemoryBank(8, 2))
    bank.push(torch.ones(1, 2), step=4)
    tb.sharding.check_replicas(bank)
    if rank == 1:
        bank.embeddings[0, 0] += 1e-6
    assert "rank 1 holds other rows" in raised(BankStateError, lambda: tb.sharding.check_replicas(bank))
    assert "already" in raised(BankStateError, lambda: tb.shard(bank))


def case_rule_that_looks_at_rows__replicated_only(rank, ranks):
    class Longest(tb.Replacement):
        def slots(self, rows, stored, total):
            return stored.embeddings.norm(dim=1).argsort()[: len(rows.steps)]

    class LongestBank(tb.Bank):
        def __init__(self, capacity, dim, **storage):
            super().__init__(capacity, dim, replacement=Longest(), **storage)

        def options(self):
            return {}

    bank, alone = tb.replicate(LongestBank(8, 2, metric="dot")), LongestBank(8, 2, metric="dot")
    everyone = torch.randn(ranks, 2, generator=torch.Generator().manual_seed(1))
    bank.push(everyone[rank : rank + 1])
    alone.push(everyone)
    assert_same_state(bank, alone)
    assert "looks_at_rows" in raised(BankStateError, lambda: tb.shard(LongestBank(8, 2)))


def case_more_ranks_than_slots__an_error(rank, ranks):
    assert "at least one" in raised(BankValueError, lambda: tb.shard(tb.MemoryBank(1, 2)))
