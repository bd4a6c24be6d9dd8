"""The memory as a whole: no future, streams on their own, bounded bytes, and state."""

import copy

import pytest
import torch
from memory_rules import RULES

import torchbank as tb
from torchbank import video

DIM = 4
every_rule = pytest.mark.parametrize("rules", RULES.values(), ids=RULES.keys())


def film(length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(length, DIM, generator=generator), torch.rand(length, generator=generator)


def run(memory, features, quality, start=0, **options):
    return [
        memory.step(row[None], float(second), quality=grade[None], pin=torch.tensor([second % 7 == 0]), **options)
        for second, (row, grade) in enumerate(zip(features, quality, strict=True), start=start)
    ]


@every_rule
def test_future__does_not_move_what_was_read_before(rules):
    (features, quality), (others, other_quality) = film(20), film(20, seed=1)
    changed = torch.cat([features[:13], others[13:]]), torch.cat([quality[:13], other_quality[13:]])
    one = run(video.TemporalMemory(DIM, 6, **rules), features, quality)
    other = run(video.TemporalMemory(DIM, 6, **rules), *changed)
    for second in range(13):
        assert all(torch.equal(*columns) for columns in zip(one[second], other[second], strict=True))
    assert not torch.equal(one[-1].value, other[-1].value)


@every_rule
def test_past__is_read_without_anything_newer(rules):
    # Rows that were merged or made into prototypes hold something of their newest member.
    features, quality = film(20)
    memory = video.TemporalMemory(DIM, 6, **rules)
    run(memory, features, quality)
    view = memory.view()
    for second in range(0, 20, 3):
        context = memory.read(features[:1], time=float(second))
        seen = context.slots[context.valid]
        assert set(seen.tolist()) == set(view.slots[view.latest <= second].tolist())


def test_past__of_a_memory_that_lost_nothing_does_not_know_the_future():
    (features, quality), (others, _) = film(20), film(20, seed=1)
    answers = []
    for later in (features[12:], others[12:]):
        memory = video.TemporalMemory(DIM, 50)
        run(memory, torch.cat([features[:12], later]), quality)
        answers.append(memory.read(features[:1], time=11.0).value)
    assert torch.equal(*answers)


def test_step__sees_nothing_of_its_own_moment():
    memory = video.TemporalMemory(DIM, 4, metric="dot")
    assert not memory.step(torch.ones(1, DIM), 1.0).valid.any()
    assert not memory.step(torch.ones(1, DIM), 1.0).valid.any()
    assert memory.step(torch.ones(1, DIM), 2.0).valid.sum() == 2


@every_rule
def test_streams__of_different_lengths_are_as_each_alone(rules):
    lengths = [16, 7, 12]
    films = [film(length, seed=length) for length in lengths]
    together = video.TemporalMemory(DIM, 5, streams=3, **rules)
    contexts = [[] for _ in lengths]
    for second in range(max(lengths)):
        ids = [stream for stream, length in enumerate(lengths) if second < length]
        # In any order.
        ids = ids[second % len(ids) :] + ids[: second % len(ids)]
        context = together.step(
            torch.stack([films[stream][0][second] for stream in ids]),
            float(second),
            stream_ids=ids,
            quality=torch.stack([films[stream][1][second] for stream in ids]),
            pin=torch.full((len(ids),), second % 7 == 0),
        )
        for row, stream in enumerate(ids):
            contexts[stream].append(context.value[row])
    for stream, (features, quality) in enumerate(films):
        alone = video.TemporalMemory(DIM, 5, **rules)
        values = [context.value[0] for context in run(alone, features, quality)]
        torch.testing.assert_close(torch.stack(contexts[stream]), torch.stack(values), atol=1e-6, rtol=1e-6)
        ours, own = together.view(stream), alone.view()
        torch.testing.assert_close(ours.embeddings, own.embeddings, atol=1e-6, rtol=1e-6)
        assert torch.equal(ours.times, own.times)
        assert torch.equal(ours.slots - stream * 5, own.slots)


@every_rule
@pytest.mark.parametrize("kind", ["write", "step"])
def test_rows__of_one_stream_in_a_batch_are_as_one_by_one(rules, kind):
    features, quality = film(12)
    ids = torch.tensor([0, 1, 0, 0, 0, 0]).repeat(2)
    times = torch.arange(12, dtype=torch.float64)
    whole, single = (video.TemporalMemory(DIM, 4, streams=2, **rules) for _ in range(2))
    at_once = getattr(whole, kind)(features, times, stream_ids=ids, quality=quality)
    parts = [
        getattr(single, kind)(row[None], time, stream_ids=stream[None], quality=grade[None])
        for row, time, stream, grade in zip(features, times, ids, quality, strict=True)
    ]
    if kind == "write":
        assert torch.equal(at_once, torch.cat(parts))
    else:
        torch.testing.assert_close(at_once.value, torch.cat([part.value for part in parts]), atol=1e-6, rtol=1e-6)
    for stream in (0, 1):
        torch.testing.assert_close(whole.view(stream)._asdict(), single.view(stream)._asdict(), atol=1e-6, rtol=1e-6)


def test_write__of_one_stream_needs_no_ids():
    chunk, _ = film(9)
    memory = video.TemporalMemory(DIM, 4)
    assert memory.write(chunk, torch.arange(9.0)).tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert memory.view().times.tolist() == [5, 6, 7, 8]


def test_write__of_nothing_changes_nothing():
    memory = video.TemporalMemory(DIM, 4, streams=3)
    assert memory.write(torch.zeros(0, DIM), 0.0).shape == (0,)
    assert memory.step(torch.zeros(0, DIM), torch.zeros(0), stream_ids=[]).value.shape == (0, DIM)
    assert memory.read(torch.zeros(0, DIM), stream_ids=[]).weights.shape == (0, 4)
    assert len(memory) == 0


@every_rule
def test_reset__makes_a_stream_new_and_leaves_the_others(rules):
    features, quality = film(30)
    memory, fresh = (video.TemporalMemory(DIM, 4, streams=2, **rules) for _ in range(2))
    for second in range(9):
        memory.step(features[second : second + 2], float(second), quality=quality[second : second + 2])
    other = memory.view(1)
    memory.reset([0])
    assert len(memory.view(0).times) == 0
    torch.testing.assert_close(memory.view(1)._asdict(), other._asdict())
    for second in range(9):
        arguments = {"stream_ids": [0], "quality": quality[second : second + 1]}
        ours, new = (each.step(features[second : second + 1], float(second), **arguments) for each in (memory, fresh))
        assert torch.equal(ours.value, new.value)
    memory.reset()
    assert len(memory) == 0


@every_rule
def test_state__goes_on_to_the_bit(rules, tmp_path):
    features, quality = film(24)
    memory = video.TemporalMemory(DIM, 5, fields={"box": (torch.float32, (2,))}, **rules)
    box = torch.ones(1, 2)
    run(memory, features[:12], quality[:12], box=box)
    memory.save(tmp_path / "memory.safetensors")
    copied = copy.deepcopy(memory)
    stated = video.TemporalMemory(DIM, 5, fields={"box": (torch.float32, (2,))}, **rules)
    stated.load_state_dict(memory.state_dict())
    loaded = video.load(tmp_path / "memory.safetensors")
    assert repr(loaded) == repr(memory)
    expected = run(memory, features[12:], quality[12:], start=12, box=box)
    for other in (copied, stated, loaded):
        found = run(other, features[12:], quality[12:], start=12, box=box)
        for one, two in zip(found, expected, strict=True):
            assert all(torch.equal(*columns) for columns in zip(one, two, strict=True))
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in memory.state_dict().items())


@every_rule
def test_bytes__are_those_of_its_tensors_and_never_change(rules):
    memory = video.TemporalMemory(DIM, 5, streams=2, **rules)
    before = memory.nbytes
    assert before == sum(tensor.nbytes for tensor in memory.state_dict().values())
    assert before == 2 * (5 * (4 * DIM + 66) + 32) + 40
    for second in range(10):
        memory.step(torch.randn(2, DIM), float(second), quality=1.0)
    assert memory.nbytes == before
    assert sum(tensor.nbytes for tensor in memory.state_dict().values()) == before


def test_memories__share_nothing():
    # Reference code kept its store in an attribute of the class; here rules are shared, and state is not.
    merging = video.MergeNeighbours()
    one, other = (video.TemporalMemory(DIM, 3, compress=merging) for _ in range(2))
    one.write(torch.randn(8, DIM), 0.0)
    assert len(one) == 3
    assert len(other) == 0
    one.reset()
    other.write(torch.randn(1, DIM), 0.0)
    assert len(one) == 0


def test_fields__go_with_their_rows():
    memory = video.TemporalMemory(DIM, 3, fields={"label": torch.int64, "box": (torch.float32, (2,))})
    memory.write(torch.randn(5, DIM), torch.arange(5.0), label=torch.arange(5), box=torch.arange(10.0).view(5, 2))
    view = memory.view()
    assert view.fields["label"].tolist() == [2, 3, 4]
    assert view.fields["box"].tolist() == [[4, 5], [6, 7], [8, 9]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@every_rule
def test_rows__may_be_kept_in_half_the_bytes(rules, dtype):
    features, quality = film(12)
    memory = video.TemporalMemory(DIM, 5, dtype=dtype, **rules).half()
    contexts = run(memory, features, quality)
    assert memory.view().embeddings.dtype == dtype
    assert memory.view().times.dtype == torch.float64
    assert all(context.value.dtype == torch.float32 and context.value.isfinite().all() for context in contexts)


def test_absent_frames__are_not_written_with_a_quality_rule():
    # SAM 2 writes frames where the object is not there, and forgets it for them.
    present = torch.tensor([True] * 4 + [False] * 8)
    features = torch.where(present[:, None], torch.tensor([1.0, 0, 0, 0]), torch.tensor([0, 1.0, 0, 0]))
    times = torch.arange(12.0)
    gated, open_ = (video.TemporalMemory(DIM, 4, write=rule) for rule in (video.Quality(0.5), video.EveryNth(1)))
    for memory in (gated, open_):
        memory.write(features, times, quality=present.float())
    query = torch.tensor([[1.0, 0, 0, 0]])
    assert gated.read(query).value[0, 0] == 1
    assert open_.read(query).value[0, 0] == 0


def test_least_used__lets_exactly_as_many_go_as_are_meant_to():
    # Keeping what is above the k-th smallest use drops all that are equal to it, such as all that were never used.
    memory = video.TemporalMemory(DIM, 8, evict=video.LeastUsed(hysteresis=2), metric="dot", read=video.Nearest())
    memory.write(torch.eye(DIM).repeat(2, 1), torch.arange(8.0))
    memory.read(torch.eye(DIM)[:1])
    memory.write(torch.ones(1, DIM), 8.0)
    assert len(memory) == 8 - 3 + 1
    assert memory.view().times.tolist() == [0, 4, 5, 6, 7, 8]


def test_merging__takes_the_most_similar_and_counts_sizes():
    # Reference code took the largest distance for the largest similarity, averaged without sizes, and let lists grow.
    rows = torch.tensor([[1.0, 0], [1.0, 0.3], [0, 1.0], [-1.0, 0]])
    memory = video.TemporalMemory(2, 3, metric="dot", compress=video.MergeNeighbours())
    memory.write(rows, torch.arange(4.0))
    view = memory.view()
    torch.testing.assert_close(view.embeddings, torch.tensor([[1.0, 0.15], [0, 1.0], [-1.0, 0]]))
    assert view.sizes.tolist() == [2, 1, 1]
    assert view.times.tolist() == [0.5, 2, 3]
    assert view.latest.tolist() == [1, 2, 3]
    memory.write(torch.tensor([[-1.0, 0.1], [-1.0, 0.4]]), torch.tensor([4.0, 5.0]))
    torch.testing.assert_close(memory.view().embeddings[2], torch.tensor([-1.0, 0.5 / 3]))
    assert memory.view().sizes.tolist() == [2, 1, 3]


def test_uniform__is_the_sample_of_a_reservoir():
    rows = torch.ones(25, 1)
    for seed in range(3):
        memory = video.TemporalMemory(1, 5, evict=video.UniformOverLifetime(seed), metric="dot")
        memory.write(rows, torch.arange(25.0))
        bank = tb.ReservoirMemoryBank(5, 1, seed=seed, fields={"number": torch.int64}, metric="dot")
        bank.push(rows, number=torch.arange(25))
        assert sorted(bank.view().fields["number"].tolist()) == memory.view().times.tolist()


def test_pins__stay_under_every_rule():
    for rules in RULES.values():
        memory = video.TemporalMemory(DIM, 5, **rules)
        memory.write(torch.randn(1, DIM), 0.0, pin=True, quality=0.0)
        memory.write(torch.randn(12, DIM), torch.arange(12.0), quality=1.0)
        view = memory.view()
        assert view.pinned.tolist() == [True] + [False] * (len(view.times) - 1)
        assert view.times[0] == 0
    # Where all are pinned, a new row is left out and a new pinned one takes the place of the oldest.
    memory = video.TemporalMemory(DIM, 2)
    memory.write(torch.randn(2, DIM), torch.arange(2.0), pin=True)
    assert memory.write(torch.randn(1, DIM), 2.0).tolist() == [-1]
    assert memory.write(torch.randn(1, DIM), 3.0, pin=True).tolist() == [0]
