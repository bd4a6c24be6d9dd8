"""What users get wrong is told, and changes nothing."""

import pytest
import torch

from torchbank import video
from torchbank.errors import BankError, BankKeyError, BankTypeError, BankValueError

DIM = 4
NAN_BELOW, INF_BELOW = (torch.tensor([[1.0], [value]]) * torch.ones(DIM) for value in (torch.nan, torch.inf))


@pytest.fixture
def memory():
    memory = video.TemporalMemory(
        DIM, 3, streams=2, write=(video.EveryNth(1), video.Quality(0.5)), fields={"label": torch.int64}
    )
    memory.write(torch.ones(2, DIM), 5.0, quality=1.0, label=torch.arange(2))
    return memory


MISTAKES = {
    "time goes backwards": (BankValueError, "stream 0 was at 5.0 s", {"time": 4.0}),
    "within the batch": (
        BankValueError,
        "row 1 is 6.0 s, and its stream 1 was at 7.0 s",
        {"time": torch.tensor([7.0, 6.0]), "stream_ids": [1, 1]},
    ),
    "not a time": (BankValueError, "time is nan", {"time": float("nan")}),
    "not times": (BankValueError, "row 1 is not finite", {"time": torch.tensor([6.0, torch.nan])}),
    "times of another number": (BankValueError, r"shape \(3,\)", {"time": torch.ones(3)}),
    "unknown stream": (BankKeyError, "stream 2; this memory has streams 0 to 1", {"stream_ids": [0, 2]}),
    "negative stream": (BankKeyError, "stream -1", {"stream_ids": [0, -1]}),
    "ids of another number": (BankValueError, r"\(3,\); expected \(2,\)", {"stream_ids": [0, 1, 1]}),
    "wrong dim": (BankValueError, r"\(2, 5\); expected \(batch, 4\)", {"features": torch.ones(2, DIM + 1)}),
    "integers": (BankTypeError, "int64; expected a floating", {"features": torch.ones(2, DIM).long()}),
    "rows without streams": (BankValueError, "3 rows for 2 streams", {"features": torch.ones(3, DIM)}),
    "not finite": (
        BankValueError,
        "row 1 of embeddings",
        {"features": NAN_BELOW},
    ),
    "no direction": (BankValueError, "no direction", {"features": torch.zeros(2, DIM)}),
    "not finite, late in a batch": (
        BankValueError,
        "row 1 of embeddings",
        {"features": INF_BELOW, "stream_ids": [1, 1]},
    ),
    "no quality": (BankValueError, "give quality=", {"quality": None}),
    "quality of another number": (BankValueError, r"quality has shape \(3,\)", {"quality": torch.ones(3)}),
    "pins that are numbers": (BankTypeError, "pin has dtype torch.int64", {"pin": torch.ones(2).long()}),
    "missing field": (BankKeyError, r"misses \['label'\]", {"label": None}),
    "unknown field": (BankKeyError, r"has \['box'\]", {"box": torch.ones(2)}),
    "field of another number": (BankValueError, "field 'label' has shape", {"label": torch.arange(3)}),
}


@pytest.mark.plain
@pytest.mark.parametrize("kind", ["write", "step"])
@pytest.mark.parametrize(("error", "words", "given"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes__are_told_and_change_nothing(memory, kind, error, words, given):
    before = {name: value.clone() for name, value in memory.state_dict().items()}
    arguments = {"features": torch.ones(2, DIM), "time": 6.0, "quality": 1.0, "label": torch.arange(2)} | given
    if arguments["label"] is None:
        del arguments["label"]
    with pytest.raises(error, match=words) as caught:
        getattr(memory, kind)(**arguments)
    assert isinstance(caught.value, BankError)
    assert all(torch.equal(value, memory.state_dict()[name]) for name, value in before.items())


@pytest.mark.plain
@pytest.mark.parametrize(
    ("error", "words", "given"),
    [
        (BankValueError, "queries has shape", {"queries": torch.ones(2, 3)}),
        (BankValueError, "window is -1", {"window": -1.0}),
        (BankKeyError, "stream 7", {"stream_ids": [0, 7]}),
        (BankTypeError, "read is the class Average", {"read": video.Average}),
        (BankTypeError, "time is a str", {"time": "now"}),
    ],
)
def test_reads__tell_mistakes(memory, error, words, given):
    with pytest.raises(error, match=words):
        memory.read(**{"queries": torch.ones(2, DIM)} | given)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("error", "words", "given"),
    [
        (BankValueError, "capacity is 0", {"capacity": 0}),
        (BankTypeError, "dim is 2.0", {"dim": 2.0}),
        (BankValueError, "euclidean", {"metric": "euclidean"}),
        (BankTypeError, r"evict is the class Fifo; expected a EvictRule such as video.Fifo", {"evict": video.Fifo}),
        (BankTypeError, "write is Fifo", {"write": video.Fifo()}),
        (BankValueError, "cannot be named 'time'", {"fields": {"time": torch.float32}}),
        (BankValueError, "gradient_writes is -1", {"gradient_writes": -1}),
        (BankTypeError, "gradient_writes is 1.5", {"gradient_writes": 1.5}),
        (BankValueError, "recent is 4", {"evict": video.PinnedAnchors(recent=4)}),
        (BankValueError, "hysteresis is 4", {"evict": video.LeastUsed(hysteresis=4)}),
        (BankValueError, "candidates is 9", {"compress": video.Prototypes(1, 9)}),
    ],
)
def test_construction__tells_mistakes(error, words, given):
    with pytest.raises(error, match=words):
        video.TemporalMemory(**{"dim": DIM, "capacity": 4} | given)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("error", "make"),
    [
        (BankValueError, lambda: video.EveryNth(0)),
        (BankTypeError, lambda: video.EveryNth(1.5)),
        (BankValueError, lambda: video.Quality(float("nan"))),
        (BankValueError, lambda: video.Novelty(3.0)),
        (BankValueError, lambda: video.UniformOverLifetime(-1)),
        (BankTypeError, lambda: video.UniformOverLifetime("a")),
        (BankValueError, lambda: video.LeastUsed(-1)),
        (BankTypeError, lambda: video.LeastUsed(0.5)),
        (BankValueError, lambda: video.PinnedAnchors(0)),
        (BankValueError, lambda: video.Prototypes(4, 4)),
        (BankValueError, lambda: video.Prototypes(2, 4, scale=0.0)),
        (BankValueError, lambda: video.Attention(scale=-1.0)),
        (BankValueError, lambda: video.Attention(top_k=0)),
        (BankValueError, lambda: video.Nearest(k=0)),
    ],
)
def test_rules__tell_mistakes(error, make):
    with pytest.raises(error):
        make()


def test_view__of_an_unknown_stream(memory):
    with pytest.raises(BankKeyError, match="stream 5"):
        memory.view(5)


def test_state__of_other_sizes_is_refused_and_changes_nothing():
    # As many slots in all, and other streams.
    memory = video.TemporalMemory(DIM, 2, streams=4)
    other = video.TemporalMemory(DIM, 4, streams=2)
    other.write(torch.randn(2, DIM), 0.0)
    with pytest.raises(BankValueError, match="2 streams of 4 rows and this memory 4 of 2"):
        memory.load_state_dict(other.state_dict())
    with pytest.raises(BankKeyError, match="has no entries"):
        memory.load_state_dict(torch.nn.Linear(1, 1).state_dict())
    assert len(memory) == 0
