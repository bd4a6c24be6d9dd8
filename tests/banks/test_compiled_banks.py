"""Under torch.compile a push is one graph for every batch size, and does what it does without."""

import copy
import shutil

import pytest
import torch
from bank_cases import assert_same_state, snapshot
from torch._dynamo.testing import CompileCounterWithBackend

import torchbank as tb
from torchbank.errors import BankValueError

# The run-time checks of the suite are Python code, which dynamo would trace.
pytestmark = [
    pytest.mark.plain,
    # Inductor imports a module of torch that uses a deprecated decorator.
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
]

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
# Dynamo compiles for the first size, then once for all sizes, and for 0 and 1 alone.
SIZES = [16, 7, 31, 1, 0, 20, 16, 5, 40, 2]
FAMILIES = 4
DIM = 8


def ring(**options):
    return tb.MemoryBank(24, DIM, fields={"label": torch.int64}, **options)


def keyed(**options):
    return tb.KeyedMemoryBank(64, DIM, momentum=0.5, fields={"label": torch.int64}, **options)


def reservoir(**options):
    return tb.ReservoirMemoryBank(24, DIM, seed=3, fields={"label": torch.int64}, **options)


class Newest(tb.banks.Replacement):
    """Keeps the newest row of each label, and what it saw of stamps and counters."""

    def __init__(self):
        super().__init__()
        for name in ("step", "total"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    def slots(self, rows, stored, total):
        self.step.copy_(rows.steps.sum())
        self.total.copy_(total)
        return rows.fields["label"]


class NewestBank(tb.Bank):
    def __init__(self, capacity, dim, **storage):
        super().__init__(capacity, dim, replacement=Newest(), **storage)

    def options(self):
        return {}


def newest():
    return NewestBank(64, DIM, fields={"label": torch.int64})


def push(bank, embeddings, labels, **options):
    keys = {"keys": labels} if isinstance(bank, tb.KeyedMemoryBank) else {}
    return bank.push(embeddings, label=labels, **keys, **options)


def batches(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for number in range(count):
        size = SIZES[number % len(SIZES)]
        yield torch.randn(size, DIM, generator=generator), torch.randperm(64, generator=generator)[:size]


def compiled(function, backend):
    torch._dynamo.reset()
    counter = CompileCounterWithBackend(backend)
    return torch.compile(function, backend=counter, fullgraph=True), counter


MAKERS = {
    "ring": ring,
    "ring-dot-bfloat16": lambda: ring(metric="dot", dtype=torch.bfloat16),
    "keyed": keyed,
    "keyed-mean-float16": lambda: keyed(duplicates="mean", dtype=torch.float16),
    "reservoir": reservoir,
    "rule": newest,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_push__compiles_to_one_graph_a_family(kind):
    bank, expected = MAKERS[kind](), MAKERS[kind]()
    graph, counter = compiled(lambda *batch: push(bank, *batch), "aot_eager")
    for embeddings, labels in batches(20):
        assert torch.equal(graph(embeddings, labels), push(expected, embeddings, labels))
    assert counter.frame_count <= FAMILIES
    assert_same_state(bank, expected)


# The reservoir's products wrap around, and the rule copies counters that the push changes.
@needs_compiler
@pytest.mark.parametrize("kind", ["reservoir", "rule"])
def test_push__generated_code_writes_the_same_bits(kind):
    bank, expected = MAKERS[kind](), MAKERS[kind]()
    graph, counter = compiled(lambda *batch: push(bank, *batch), "inductor")
    for embeddings, labels in batches(40):
        # Sizes 0 and 1 would each be compiled on their own.
        if len(embeddings) > 1:
            for tensor in (embeddings, labels):
                torch._dynamo.mark_dynamic(tensor, 0)
            assert torch.equal(graph(embeddings, labels), push(expected, embeddings, labels))
    assert counter.frame_count == 1
    assert_same_state(bank, expected)


def test_push__a_thousand_times_without_recompiling():
    bank, expected = ring(), ring()
    graph, counter = compiled(lambda *batch: push(bank, *batch), "eager")
    for batch in batches(1000):
        graph(*batch)
        push(expected, *batch)
    assert counter.frame_count <= FAMILIES
    assert_same_state(bank, expected)


def test_push__given_steps_do_not_recompile():
    bank, expected = ring(), ring()
    graph, counter = compiled(lambda x, y, step: push(bank, x, y, step=step), "aot_eager")
    for number, batch in enumerate(batches(100)):
        graph(*batch, 7 * number)
        push(expected, *batch, step=7 * number)
    # The first step is a constant of its graph, and so it is compiled once more.
    assert counter.frame_count <= FAMILIES + 1
    assert_same_state(bank, expected)


@pytest.mark.parametrize(("make", "backend"), [(ring, "aot_eager"), (keyed, "eager")])
def test_training_step__push_and_reads_in_one_graph(make, backend):
    def step(bank, embeddings, labels):
        selection = {"exclude": {"label": labels}, "max_age": 5, "half_life": 2.0}
        push(bank, embeddings.detach(), labels)
        read = bank.attend(embeddings, scale=3.0, **selection)
        pairs = bank.pair_sum(embeddings, tb.reads.SCORE, labels=labels)
        near = bank.nearest(embeddings, 3)
        push(bank, -embeddings, labels)
        loss = torch.where(read.lse == -torch.inf, 0.0, read.lse).sum() + pairs.value.sum()
        return loss, near.slots

    bank, expected = make(), make()
    graph, counter = compiled(lambda *batch: step(bank, *batch), backend)
    for embeddings, labels in batches(10):
        queries, plain = (embeddings.clone().requires_grad_() for _ in range(2))
        loss, slots = graph(queries, labels)
        expected_loss, expected_slots = step(expected, plain, labels)
        loss.backward()
        expected_loss.backward()
        torch.testing.assert_close(loss, expected_loss)
        torch.testing.assert_close(queries.grad, plain.grad)
        assert torch.equal(slots, expected_slots)
    assert counter.frame_count <= FAMILIES
    assert_same_state(bank, expected)


def test_push__compiled_and_eager_take_turns_with_loading():
    bank, expected = ring(), ring()
    graph, counter = compiled(lambda *batch: push(bank, *batch), "aot_eager")
    for number, batch in enumerate(batches(30)):
        graph(*batch) if number % 3 else push(bank, *batch)
        push(expected, *batch)
        if number % 7 == 0:
            bank.load_state_dict(copy.deepcopy(bank.state_dict()))
    assert counter.frame_count <= FAMILIES
    assert_same_state(bank, expected)


def test_push__errors_come_out_of_the_graph_and_change_nothing():
    bank = keyed()
    graph, _ = compiled(lambda *batch: push(bank, *batch), "aot_eager")
    good, labels = torch.ones(3, DIM), torch.arange(3)
    graph(good, labels)
    before = snapshot(bank)
    bad = good.clone()
    bad[1] = torch.nan
    with pytest.raises(BankValueError, match="row 1 of embeddings is not finite"):
        graph(bad, labels)
    bad[1] = 0
    with pytest.raises(BankValueError, match="row 1 of embeddings is all zeros"):
        graph(bad, labels)
    with pytest.raises(BankValueError, match=r"keys\[0\] is 64; expected 0 to 63"):
        graph(good, labels + 64)
    with pytest.raises(BankValueError, match=r"keys\[0\] is 2, which the batch holds more than once"):
        graph(good, torch.full((3,), 2))
    assert_same_state(bank, before)


def test_update__compiles(tmp_path):
    # That some other bank lies in a file changes nothing for this one.
    elsewhere = tb.MemoryBank(4, 2, storage=tmp_path / "rows.bank")
    bank, expected = ring(), ring()
    graph, counter = compiled(lambda *arguments: bank.update(*arguments), "aot_eager")
    for embeddings, labels in batches(20):
        slots = labels % 24
        generations = bank.generations[slots] - labels % 2
        push(bank, embeddings, labels)
        push(expected, embeddings, labels)
        assert int(graph(slots, generations, 2 - embeddings)) == int(
            expected.update(slots, generations, 2 - embeddings)
        )
    assert len(elsewhere) == 0
    assert counter.frame_count <= FAMILIES
    assert_same_state(bank, expected)
