"""The Triton kernels against the float64 truth: on a GPU where there is one, else in Triton's interpreter."""

import os
import subprocess
import sys

import pytest
import torch
from read_oracles import KINDS, assert_as_good_as_reference, selections, unit
from torch import Tensor

import torchbank as tb
from torchbank.reads import SCORE, PairFunction, Selection, attend, nearest, pair_sum

triton = pytest.importorskip("triton")

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
pytestmark = [pytest.mark.gpu] if ON_GPU else []

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
# Each kernel is compiled once for every width, dtype and form of selection: few cases, each unlike the others.
CASES = [(1, 1, 1, FP32), (1, 507, 17, BF16), (3, 17, 252, FP16), (17, 252, 33, BF16), (5, 260, 40, FP32)]
if ON_GPU:
    CASES += [(300, 5003, 128, dtype) for dtype in (BF16, FP16, FP32)]
    CASES += [(65, 5003, 256, dtype) for dtype in (BF16, FP32)]
KIND_CASE = (6, 150, 17, BF16)

DISTANCE = PairFunction(
    "test_distance",
    value=lambda s, same: 1 - s,
    derivative=lambda s, same: -torch.ones_like(s),
    closed_form="distance",
)
EXCESS = PairFunction(
    "test_excess",
    value=lambda s, same, margin: (s - margin).clamp_min(0),
    derivative=lambda s, same, margin: (s > margin).to(s.dtype),
    closed_form="excess",
)

ALL_CASES = [(case, kind) for case in CASES for kind in ("all", "everything")] + [(KIND_CASE, kind) for kind in KINDS]
every_case = pytest.mark.parametrize(("case", "kind"), ALL_CASES, ids=lambda each: str(each).replace("torch.", ""))


def moved(selection: Selection, device: str = DEVICE) -> Selection:
    exclude, include = (
        tuple(tuple((query.to(device), row.to(device)) for query, row in clause) for clause in clauses)
        for clauses in (selection.exclude, selection.include)
    )
    bias, count = (None if each is None else each.to(device) for each in (selection.bias, selection.count))
    return Selection(exclude, include, bias, count)


def inputs(case: tuple, kind: str) -> tuple[Tensor, Tensor, Selection]:
    batch, rows, dim, dtype = case
    selection = moved(selections(batch, rows)[kind])
    return unit(batch, dim, 0).to(DEVICE), unit(rows, dim, 1).to(DEVICE, dtype), selection


@every_case
def test_attend__float64_truth(case: tuple, kind: str) -> None:
    queries, bank, selection = inputs(case, kind)
    truth = attend(queries.double(), bank.double(), scale=10.0, selection=selection, impl="reference")
    reference = attend(queries, bank, scale=10.0, selection=selection, impl="reference")
    given = attend(queries, bank, scale=10.0, selection=selection, impl="triton")
    assert given.lse.dtype == given.readout.dtype == torch.float32
    for name in ("lse", "readout"):
        assert_as_good_as_reference(
            getattr(given, name), getattr(reference, name), getattr(truth, name), tolerance=2e-6
        )


@every_case
def test_pair_sum__float64_truth(case: tuple, kind: str) -> None:
    queries, bank, selection = inputs(case, kind)
    margins = torch.linspace(-0.1, 0.3, len(queries), device=DEVICE)
    f = (SCORE, DISTANCE, EXCESS.with_parameters(0.1), EXCESS.with_parameters(margins))[(len(bank) + len(kind)) % 4]
    wide = queries.double().requires_grad_()
    truth = pair_sum(wide, bank.double(), f, selection=selection, impl="reference")
    reference = pair_sum(queries, bank, f, selection=selection, impl="reference")
    queries.requires_grad_()
    given = pair_sum(queries, bank, f, selection=selection, impl="triton")
    assert given.value.dtype == torch.float32
    assert_as_good_as_reference(given.value, reference.value, truth.value.detach(), tolerance=2e-6)
    # A score within rounding of the margin may count on one side and not on the other.
    assert (given.count - truth.count).abs().max() <= 1.01 * (f.closed_form == "excess") + 1e-5 * truth.count.max()
    (gradient,), (expected,) = (
        torch.autograd.grad(each.value.sum(), q) for each, q in ((given, queries), (truth, wide))
    )
    if f.closed_form != "excess":
        torch.testing.assert_close(
            gradient.double(), expected, rtol=1e-5, atol=2e-6 * max(1, float(expected.abs().max()))
        )


@pytest.mark.parametrize("metric", ["dot", "euclidean"])
@every_case
def test_nearest__float64_truth(case: tuple, kind: str, metric: str) -> None:
    queries, bank, selection = inputs(case, kind)
    k = (1, 10, 40)[(len(bank) + len(kind)) % 3]
    truth = nearest(queries.double(), bank.double(), k, metric=metric, selection=selection, impl="reference")
    given = nearest(queries, bank, k, metric=metric, selection=selection, impl="triton")
    assert torch.equal(given.valid, truth.valid)
    assert torch.equal(given.slots == -1, ~given.valid)
    torch.testing.assert_close(given.scores.double(), truth.scores, atol=2e-6, rtol=1e-5)
    assert all(len(set(line)) == len(line) for line in (s[v].tolist() for s, v in zip(*given[1:], strict=True)))


@pytest.mark.parametrize(("dim", "dtype"), [(300, BF16), (507, FP32)])
def test_nearest__rows_wider_than_one_read(dim: int, dtype: torch.dtype) -> None:
    queries, bank, _ = inputs((3, 40, dim, dtype), "all")
    truth = nearest(queries.double(), bank.double(), 5, impl="reference")
    given = nearest(queries, bank, 5, impl="triton")
    torch.testing.assert_close(given.scores.double(), truth.scores, atol=2e-6, rtol=1e-5)


def test_nearest__super_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bank whose maxima are ranked in several parts: winners of all parts, also where the count ends in one."""
    from torchbank.reads import _triton_nearest

    monkeypatch.setattr(_triton_nearest, "_MAXIMA", 1)
    queries, bank, _ = inputs((2, 700, 8, FP32), "all")
    for count in (700, 300):
        selection = moved(Selection(count=torch.tensor(count)))
        truth = nearest(queries.double(), bank.double(), 20, selection=selection, impl="reference")
        given = nearest(queries, bank, 20, selection=selection, impl="triton")
        torch.testing.assert_close(given.scores.double(), truth.scores, atol=2e-6, rtol=1e-5)
        assert torch.equal(given.slots, truth.slots)


@pytest.mark.parametrize("bank", ["clustered", "duplicated", "all_equal", "one_huge"])
def test_nearest__adversarial_banks(bank: str) -> None:
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(400, 24, generator=generator)
    if bank == "clustered":
        rows = rows[:8].repeat(50, 1) + 1e-3 * rows
    elif bank == "duplicated":
        rows = rows[:40].repeat(10, 1)
    elif bank == "all_equal":
        rows = rows[:1].repeat(400, 1)
    elif bank == "one_huge":
        rows[17] *= 1e12
    rows, queries = rows.to(DEVICE), torch.randn(3, 24, generator=generator).to(DEVICE)
    truth = nearest(queries.double(), rows.double(), 12, impl="reference")
    given = nearest(queries, rows, 12, impl="triton")
    chosen = (queries.double()[:, None] * rows.double()[given.slots]).sum(dim=2)
    torch.testing.assert_close(chosen, truth.scores, rtol=1e-6, atol=float(truth.scores.abs().max()) * 1e-7)


def test_nearest__euclidean_far_from_the_origin() -> None:
    rows = (torch.randn(300, 16, generator=torch.Generator().manual_seed(3)) + 10_000).to(DEVICE)
    queries = rows[:5] + 0.01
    given = nearest(queries, rows, 3, metric="euclidean", impl="triton")
    truth = nearest(queries.double(), rows.double(), 3, metric="euclidean", impl="reference")
    assert torch.equal(given.slots, truth.slots)
    torch.testing.assert_close(given.scores.double(), truth.scores, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("query", "row"),
    [
        (torch.tensor([0.0, -0.0, torch.nan, 2.0]), torch.tensor([-0.0, torch.nan, 2.0, 1.0, 0.0])),
        (torch.tensor([0.0, -0.0, torch.nan, 2.0]).bfloat16(), torch.tensor([0, 1, 2, 3, 4])),
        (torch.tensor([True, False, True, False]), torch.tensor([True, True, False, True, False])),
        (torch.tensor([1, 0, 300, -1], dtype=torch.int16), torch.tensor([1, 255, 44, 0, 7], dtype=torch.uint8)),
        (torch.tensor([2**40, 0, 1, -1]), torch.tensor([0, 1, 2, -1, 7], dtype=torch.int32)),
        (torch.tensor([1, 0, 1, 0]), torch.tensor([True, True, False, True, False])),
    ],
    ids=["float32", "bfloat16", "bool", "int16-uint8", "int64-int32", "int64-bool"],
)
def test_fields__compared_as_pytorch_does(query: Tensor, row: Tensor) -> None:
    selection = moved(Selection(include=(((query, row),),)))
    queries, bank = unit(4, 4, 0).to(DEVICE), unit(5, 4, 1).to(DEVICE)
    truth = attend(queries, bank, scale=1.0, selection=selection, impl="reference")
    given = attend(queries, bank, scale=1.0, selection=selection, impl="triton")
    torch.testing.assert_close(given, truth)


def test_strides__rows_and_columns_of_a_larger_table() -> None:
    table = unit(120, 32, 1).to(DEVICE)
    queries, ids = unit(3, 16, 0).to(DEVICE), torch.arange(240, device=DEVICE).view(120, 2)
    seen = Selection(exclude=(((ids[:3, 0], ids[:60, 0]),),), bias=table[:60, 0])
    # The second has no step between its values that a kernel takes.
    for bank, selection in ((table[::2, 8:24], seen), (table[::2, ::2], Selection())):
        expected = attend(queries.T.contiguous().T, bank, scale=3.0, selection=selection, impl="reference")
        given = attend(queries.T.contiguous().T, bank, scale=3.0, selection=selection, impl="triton")
        torch.testing.assert_close(given, expected)


def test_range__float16_rows_with_queries_and_scales_that_float16_does_not_hold() -> None:
    queries, bank = 1e6 * unit(3, 16, 0).to(DEVICE), unit(90, 16, 1).to(DEVICE).half()
    for scale in (1e-5, 1e-9):
        truth = attend(queries.double(), bank.double(), scale=scale, impl="reference")
        for precision, tolerance in (("exact", 1e-6), ("fast", 1e-3)):
            given = attend(queries, bank, scale=scale, precision=precision, impl="triton")
            torch.testing.assert_close(given.lse.double(), truth.lse, rtol=tolerance, atol=tolerance)
            torch.testing.assert_close(given.readout.double(), truth.readout, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [BF16, FP16])
def test_precision__exact_rounds_only_the_storage(dtype: torch.dtype) -> None:
    queries, bank, _ = inputs((9, 400, 32, dtype), "all")
    truth = attend(queries.double(), bank.double(), scale=14.0, impl="reference").readout
    exact = attend(queries, bank, scale=14.0, impl="triton").readout
    fast = attend(queries, bank, scale=14.0, precision="fast", impl="triton").readout
    assert (exact - truth).abs().max() < 1e-6
    assert 1e-6 < (fast - truth).abs().max() < 1e-2


def test_gradients__queries_and_scale() -> None:
    bank = unit(200, 16, 1).to(DEVICE)
    upstream = torch.tensor([0.0, 1.0, -2.0], device=DEVICE)

    def gradients(impl: str) -> list[Tensor]:
        queries, scale = unit(3, 16, 0).to(DEVICE).requires_grad_(), torch.tensor(5.0, device=DEVICE).requires_grad_()
        (attend(queries, bank, scale=scale, impl=impl).lse * upstream).sum().backward()
        return [queries.grad, scale.grad]

    torch.testing.assert_close(gradients("triton"), gradients("reference"))


@pytest.mark.parametrize(("batch", "rows"), [(0, 5), (0, 0), (3, 0)])
def test_nothing_to_read__empty_batch_or_bank(batch: int, rows: int) -> None:
    queries, bank = torch.ones(batch, 4, device=DEVICE), torch.ones(rows, 4, device=DEVICE)
    lse, readout = attend(queries, bank, scale=2.0, impl="triton")
    scores, slots, _ = nearest(queries, bank, 2, impl="triton")
    value, _ = pair_sum(queries, bank, SCORE, impl="triton")
    assert (lse == -torch.inf).all()
    assert not readout.any()
    assert not value.any()
    assert (scores == -torch.inf).all()
    assert (slots == -1).all()


def test_what_no_kernel_serves__streams_in_blocks() -> None:
    squared = PairFunction("test_squared", value=lambda s, same: s * s, derivative=lambda s, same: 2 * s)
    queries, bank = unit(3, 300, 0).to(DEVICE), unit(40, 300, 1).to(DEVICE)
    for q in (queries, queries.double()):
        expected = attend(q, bank, scale=3.0, impl="reference")
        torch.testing.assert_close(attend(q, bank, scale=3.0, impl="triton"), expected)
    expected = pair_sum(queries, bank, squared, impl="reference")
    torch.testing.assert_close(pair_sum(queries, bank, squared, impl="triton"), expected)
    double = nearest(queries.double(), bank, 3, impl="triton")
    assert double.scores.dtype == torch.float64


def test_contrastive__uses_closed_forms_that_agree_with_their_functions() -> None:
    from torchbank.losses._contrastive import _DISTANCE, _EXCESS

    queries, bank = unit(3, 8, 0).to(DEVICE), unit(40, 8, 1).to(DEVICE)
    for f in (SCORE, _DISTANCE, _EXCESS.with_parameters(0.1)):
        assert f.closed_form is not None
        expected = pair_sum(queries, bank, f, impl="reference")
        torch.testing.assert_close(pair_sum(queries, bank, f, impl="triton"), expected)


@pytest.mark.plain
def test_compile__one_graph() -> None:
    queries, bank = unit(3, 8, 0).to(DEVICE).requires_grad_(), unit(40, 8, 1).to(DEVICE)

    def loss(queries: Tensor) -> Tensor:
        near = nearest(queries, bank, 3, impl="triton")
        total = pair_sum(queries, bank, SCORE, impl="triton").value
        return (attend(queries, bank, scale=2.0, impl="triton").lse + total + near.scores.sum(dim=1)).sum()

    given = torch.compile(loss, fullgraph=True, backend="aot_eager")(queries)
    torch.testing.assert_close(given, loss(queries))


@pytest.mark.plain
def test_unknown_closed_form__says_which_there_are() -> None:
    with pytest.raises(tb.errors.BankValueError, match="'score', 'distance', 'excess'"):
        PairFunction("test_wrong_form", SCORE.value, SCORE.derivative, closed_form="cube")


def in_new_process(script: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, timeout=200)


def test_no_gpu_and_no_interpreter__says_what_to_do() -> None:
    in_new_process("""
import sys, torch, torchbank as tb
assert "triton" not in sys.modules, "the import of torchbank leaves it alone"
rows = torch.ones(3, 4)
for read in (
    lambda: tb.reads.attend(rows, rows, scale=1.0, impl="triton"),
    lambda: tb.reads.nearest(rows, rows, 1, impl="triton"),
    lambda: tb.reads.pair_sum(rows, rows, tb.reads.SCORE, impl="triton"),
):
    try:
        read()
    except tb.errors.BankStateError as error:
        assert "queries are on cpu" in str(error) and "TRITON_INTERPRET=1" in str(error), error
    else:
        raise SystemExit("no error")
""")


def test_no_triton__says_what_to_do_and_auto_goes_on() -> None:
    in_new_process("""
import sys
sys.modules["triton"] = None  # as if it were not installed
import torch, torchbank as tb
rows = torch.ones(3, 4)
tb.reads.attend(rows, rows, scale=1.0)
try:
    tb.reads.attend(rows, rows, scale=1.0, impl="triton")
except tb.errors.BankStateError as error:
    assert "not installed" in str(error), error
else:
    raise SystemExit("no error")
""")
