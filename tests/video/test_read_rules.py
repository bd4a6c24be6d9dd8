"""What a query gets: closed forms, and what reference code got wrong."""

import pytest
import torch

from torchbank import video

READS = [
    video.Attention(),
    video.Attention(scale=3.0),
    video.Attention(top_k=2),
    video.Average(),
    video.Maximum(),
    video.Nearest(),
    video.Nearest(k=3),
]


def filled(rows, capacity=8, **options):
    memory = video.TemporalMemory(rows.shape[1], capacity, metric="dot", **options)
    memory.write(rows, torch.arange(len(rows), dtype=torch.float64))
    return memory


@pytest.fixture
def rows():
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def queries():
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(1))


def test_attention__is_that_of_torch(rows, queries):
    expected = torch.nn.functional.scaled_dot_product_attention(queries[None], rows[None], rows[None])[0]
    torch.testing.assert_close(filled(rows).read(queries).value, expected)


def test_attention__under_cosine_is_that_of_unit_vectors_times_the_root_of_dim(rows, queries):
    memory = video.TemporalMemory(4, 8)
    memory.write(rows, 0.0)
    unit, asked = (torch.nn.functional.normalize(part, dim=1) for part in (rows, queries))
    expected = torch.nn.functional.scaled_dot_product_attention(asked[None], unit[None], unit[None], scale=2.0)[0]
    torch.testing.assert_close(memory.read(queries).value, expected)


def test_attention__top_k_is_the_softmax_of_the_largest(rows, queries):
    context = filled(rows, read=video.Attention(scale=2.0, top_k=3)).read(queries)
    scores, chosen = (queries @ rows.T * 2).topk(3, dim=1)
    expected = torch.zeros(6, 8).scatter(1, chosen, scores.softmax(dim=1))
    torch.testing.assert_close(context.weights, expected)


def test_attention__top_k_keeps_exactly_k_of_equals():
    memory = filled(torch.ones(6, 4), read=video.Attention(top_k=2))
    weights = memory.read(torch.ones(1, 4)).weights
    assert sorted(weights[0].tolist()) == [0, 0, 0, 0, 0, 0, 0.5, 0.5]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_attention__of_huge_similarities_does_not_overflow(dtype):
    # Exponentials without the largest score subtracted are infinite from 89 on, in float16 from 12 on.
    memory = filled(torch.eye(4) * 200, dtype=dtype, read=video.Attention(scale=100.0, top_k=3))
    context = memory.read(torch.eye(4, dtype=dtype) * 200)
    torch.testing.assert_close(context.value, torch.eye(4) * 200)
    torch.testing.assert_close(context.weights.sum(dim=1), torch.ones(4))


def test_average_maximum_nearest__closed_forms(rows, queries):
    memory = filled(rows)
    torch.testing.assert_close(memory.read(queries, read=video.Average()).value, rows.mean(dim=0).expand(6, 4))
    torch.testing.assert_close(memory.read(queries, read=video.Maximum()).value, rows.amax(dim=0).expand(6, 4))
    best = (queries @ rows.T).topk(2, dim=1).indices
    torch.testing.assert_close(memory.read(queries, read=video.Nearest(k=2)).value, rows[best].mean(dim=1))


def test_average__after_merging_is_the_mean_of_all_that_was_written():
    rows = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    memory = filled(rows, compress=video.MergeNeighbours(), read=video.Average())
    torch.testing.assert_close(memory.read(torch.ones(1, 4)).value[0], rows.mean(dim=0))


@pytest.mark.parametrize("read", READS, ids=repr)
def test_reads__are_the_same_however_many_slots_are_empty(read, rows, queries):
    # Attention over zero padding loses a part of its softmax to slots that hold nothing.
    tight, wide = (filled(rows, capacity=capacity).read(queries, read=read) for capacity in (5, 64))
    torch.testing.assert_close(wide.value, tight.value)
    torch.testing.assert_close(wide.weights[:, :5], tight.weights)
    assert not wide.weights[:, 5:].any()


@pytest.mark.parametrize("read", READS, ids=repr)
def test_reads__of_nothing_give_zeros_and_their_gradient_is_zero(read):
    memory = video.TemporalMemory(4, 8, streams=2, metric="dot")
    memory.write(torch.ones(1, 4), 0.0, stream_ids=[1])
    queries = torch.randn(2, 4, requires_grad=True)
    context = memory.read(queries, read=read)
    assert not context.value[0].any()
    assert not context.weights[0].any()
    assert context.valid.sum(dim=1).tolist() == [0, 1]
    (context.value.sum() + queries.sum()).backward()
    assert queries.grad[0].tolist() == [1, 1, 1, 1]
    assert queries.grad.isfinite().all()


@pytest.mark.parametrize("read", READS, ids=repr)
def test_weights__sum_to_one_and_lie_on_what_is_seen(read, rows, queries):
    context = filled(rows).read(queries, read=read, time=3.0, window=2.0)
    torch.testing.assert_close(context.weights.sum(dim=1), torch.ones(6))
    assert not context.weights[~context.valid].any()
    assert context.times[context.valid].unique().tolist() == [1, 2, 3]
    assert context.slots.tolist() == [list(range(8))] * 6


def test_attention__gradient_in_the_queries(rows):
    memory = filled(rows)
    queries = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    for read in (video.Attention(), video.Attention(top_k=3)):
        torch.autograd.gradcheck(lambda asked, read=read: memory.read(asked, read=read, time=3.0).value, (queries,))


@pytest.mark.parametrize("streams", [1, 2])
def test_reads__may_be_followed_by_writes_before_backward(streams):
    memory = video.TemporalMemory(4, 2, streams=streams)
    encoder = torch.nn.Linear(4, 4)
    loss = torch.zeros(())
    for second in range(5):
        features = encoder(torch.randn(streams, 4))
        loss = loss + memory.step(features, float(second)).value.sum()
    loss.backward()
    assert encoder.weight.grad.isfinite().all()


def test_window__causal_and_centred(rows):
    memory = filled(rows)
    query = torch.ones(1, 4)
    seen = {
        "all so far": memory.read(query, time=2.0),
        "before": memory.read(query, time=2.0, window=1.0),
        "around": memory.read(query, time=2.0, window=2.0, causal=False),
        "all": memory.read(query, time=2.0, causal=False),
        "now": memory.read(query),
    }
    times = {name: context.times[context.valid].tolist() for name, context in seen.items()}
    assert times == {
        "all so far": [0, 1, 2],
        "before": [1, 2],
        "around": [1, 2, 3],
        "all": [0, 1, 2, 3, 4],
        "now": [0, 1, 2, 3, 4],
    }
    window = memory.window(2.0, seconds=1.0)
    assert window.times[window.valid].tolist() == [1, 2]
    torch.testing.assert_close(window.rows[0], torch.cat([torch.zeros(1, 4), rows[1:3], torch.zeros(5, 4)]))


def test_autocast__does_not_round_what_is_read(rows, queries):
    memory = filled(rows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = memory.read(queries).value
    assert torch.equal(value, memory.read(queries).value)
