"""distribution_match against cross-entropies between whole float64 distributions, pair by pair and block by block."""

from functools import partial

import loss_oracles as oracle
import pytest
import torch

import torchbank as tb
from torchbank.losses import distribution_match, info_nce

STUDENT, TEACHER = 0.2, 0.1
VIEWS, TEACHER_VIEWS = 3, 2
match = partial(distribution_match, student_temperature=STUDENT, teacher_temperature=TEACHER)
CASES = {metric: oracle.make_case(metric) for metric in ("cosine", "dot")}
CASE = CASES["cosine"]
SETTINGS = [setting.name for setting in CASE.settings()]
ANOTHER_VIEW = ~torch.eye(VIEWS, TEACHER_VIEWS, dtype=torch.bool)


def make_views(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, oracle.BATCH, oracle.DIM, dtype=torch.float64, generator=generator)


def cross_entropy(student, teacher, rows, log_weight, positive_weight=None):
    """(batch,) cross-entropies of one view pair over one set of rows; a row counts exp(log_weight) times."""
    blind = (log_weight == -torch.inf).all(dim=1)
    log_weight = log_weight.masked_fill(blind[:, None], 0.0)
    logits, target = student @ rows.T / STUDENT, (teacher @ rows.T / TEACHER + log_weight).softmax(dim=1)
    if positive_weight is not None:
        logits = torch.cat([(student * teacher).sum(1, keepdim=True) / STUDENT, logits], dim=1)
        own = torch.ones(len(student), 1, dtype=target.dtype)
        target = torch.cat([positive_weight * own, (1 - positive_weight) * target], dim=1)
        log_weight = torch.cat([0 * own, log_weight], dim=1)
    # Of each of a row's copies, which share its probability.
    log_probability = logits - (logits + log_weight).logsumexp(dim=1, keepdim=True)
    return -(target * log_probability).sum(dim=1).masked_fill(blind, 0.0)


def written_out(student, teacher, parts, mask, positive_weight=None):
    """The mean over pairs and parts; a part is rows and their (batch, rows) log-weights."""
    pairs = [(v, u) for v in range(len(student)) for u in range(len(teacher)) if mask[v, u]]
    values = [
        cross_entropy(student[v], teacher[u], rows, log_weight, positive_weight)
        for rows, log_weight in parts
        for v, u in pairs
    ]
    return torch.stack(values).mean(dim=0)


def on_sphere(views, metric):
    return torch.nn.functional.normalize(views, dim=-1) if metric == "cosine" else views


def assert_same_with_gradients(loss, expected, student):
    upstream = torch.linspace(-1, 2, len(expected)).double()
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    (ours,) = torch.autograd.grad(loss, student, upstream)
    (theirs,) = torch.autograd.grad(expected, student, upstream)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("positive_weight", [None, 0.0, 0.4, 1.0])
@pytest.mark.parametrize("blocks", [False, True], ids=["whole", "blocks"])
@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("name", SETTINGS)
def test_bank__equals_the_dense_form_under_every_selection(name, metric, blocks, positive_weight):
    case = CASES[metric]
    setting = next(setting for setting in case.settings() if setting.name == name)
    student, teacher = make_views(VIEWS, 1).requires_grad_(), make_views(TEACHER_VIEWS, 2)
    slots = torch.randperm(oracle.ROWS, generator=torch.Generator().manual_seed(4)).view(2, -1) if blocks else None
    loss = match(
        student,
        teacher,
        case.bank,
        blocks=slots,
        pair_mask=ANOTHER_VIEW,
        positive_weight=positive_weight,
        reduction="none",
        **setting.keywords,
    )
    weights = oracle.log_weights(setting, oracle.BATCH, oracle.ROWS)
    parts = [(case.rows[part], weights[:, part]) for part in (slots if blocks else [torch.arange(oracle.ROWS)])]
    views = (on_sphere(student, metric), on_sphere(teacher, metric))
    expected = written_out(*views, parts, ANOTHER_VIEW, positive_weight)
    assert_same_with_gradients(loss, expected, student)


@pytest.mark.parametrize("positive_weight", [None, 0.4])
def test_no_bank__is_the_teachers_other_instances(positive_weight):
    student, teacher = make_views(VIEWS, 1).requires_grad_(), make_views(TEACHER_VIEWS, 2)
    ids = torch.tensor([0, 1, 2, 2, 3, 4, 4])
    loss = match(
        student,
        teacher,
        None,
        pair_mask=ANOTHER_VIEW,
        positive_weight=positive_weight,
        exclude={"id": ids},
        reduction="none",
    )
    own = (ids[:, None] == ids).repeat(1, TEACHER_VIEWS)
    weights = torch.zeros(own.shape, dtype=torch.float64).masked_fill(own, -torch.inf)
    views = (on_sphere(student, "cosine"), on_sphere(teacher, "cosine"))
    expected = written_out(*views, [(views[1].flatten(0, 1), weights)], ANOTHER_VIEW, positive_weight)
    assert_same_with_gradients(loss, expected, student)


def test_views__of_one_are_the_plain_batch():
    student, teacher = make_views(1, 1), make_views(1, 2)
    torch.testing.assert_close(match(student, teacher, CASE.bank), match(student[0], teacher[0], CASE.bank))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_reduction__is_that_of_the_values(reduction):
    student, teacher = make_views(VIEWS, 1), make_views(TEACHER_VIEWS, 2)
    values = match(student, teacher, CASE.bank, reduction="none")
    assert values.shape == (oracle.BATCH,)
    torch.testing.assert_close(
        match(student, teacher, CASE.bank, reduction=reduction), oracle.reduce(values, reduction)
    )


def test_positive_weight__of_one_is_info_nce():
    loss = match(CASE.queries, CASE.positives, CASE.bank, positive_weight=1.0)
    torch.testing.assert_close(loss, info_nce(CASE.queries, CASE.positives, CASE.bank, temperature=STUDENT))


def test_positive_weight__mixes_the_targets_linearly():
    """Cross-entropy is linear in the target: SCE is the mix of its two ends."""
    ends = [match(CASE.queries, CASE.positives, CASE.bank, positive_weight=weight) for weight in (0.0, 1.0)]
    loss = match(CASE.queries, CASE.positives, CASE.bank, positive_weight=0.3)
    torch.testing.assert_close(loss, 0.7 * ends[0] + 0.3 * ends[1])


def test_same_distribution__is_its_entropy_and_moves_nothing():
    student = make_views(1, 1)[0].requires_grad_()
    loss = match(student, student, CASE.bank, teacher_temperature=STUDENT)
    p = (on_sphere(student, "cosine") @ CASE.rows.T / STUDENT).softmax(dim=1)
    torch.testing.assert_close(loss, -(p * p.log()).sum(1).mean())
    (gradient,) = torch.autograd.grad(loss, student)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [3, 10, 30])
def test_total_collapse__is_the_log_of_the_block_size(size):
    bank = tb.MemoryBank(oracle.ROWS, oracle.DIM)
    bank.push(torch.ones(oracle.ROWS, oracle.DIM))
    same = torch.ones(VIEWS, oracle.BATCH, oracle.DIM)
    loss = match(same, same[:TEACHER_VIEWS], bank, blocks=bank.blocks(size))
    torch.testing.assert_close(loss, torch.tensor(float(size)).log())


def test_teacher__gets_no_gradient():
    student, teacher = make_views(1, 1).requires_grad_(), make_views(1, 2).requires_grad_()
    for bank in (CASE.bank, None):
        match(student, teacher, bank, positive_weight=0.5).backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_temperatures__the_students_learns():
    student, teacher = make_views(VIEWS, 1), make_views(TEACHER_VIEWS, 2)
    blocks = torch.arange(oracle.ROWS).view(3, -1)
    torch.autograd.gradcheck(
        lambda t: match(student, teacher, CASE.bank, student_temperature=t, blocks=blocks, positive_weight=0.2),
        (torch.tensor(0.3, dtype=torch.float64, requires_grad=True),),
    )


@pytest.mark.parametrize(("blocks", "mask"), [(torch.zeros(0, 5).long(), None), (None, torch.zeros(3, 2).bool())])
def test_no_blocks_or_pairs__is_zero_and_moves_nothing(blocks, mask):
    student = make_views(VIEWS, 1).requires_grad_()
    loss = match(student, make_views(TEACHER_VIEWS, 2), CASE.bank, blocks=blocks, pair_mask=mask)
    loss.backward()
    assert loss == 0
    assert (student.grad == 0).all()


def test_block_without_rows_for_a_query__adds_nothing_for_it():
    blocks = torch.arange(oracle.ROWS).view(2, -1)
    ids = torch.arange(oracle.ROWS) // 15  # query 0 sees block 0 only, query 1 block 1
    memory = tb.Rows(CASE.rows, metric="cosine", id=ids)
    student, teacher = CASE.queries[:2].clone().requires_grad_(), CASE.positives[:2]
    only = {"include": {"id": torch.tensor([0, 1])}, "reduction": "none"}
    loss = match(student, teacher, memory, blocks=blocks, **only)
    torch.testing.assert_close(loss, match(student, teacher, memory, **only) / 2)
    loss.sum().backward()
    assert torch.isfinite(student.grad).all()


def test_blocks__use_little_beside_one_block():
    """One float of each (view, row of the memory) pair would be ten times as much."""
    bank = tb.MemoryBank(20_000, 8)
    bank.push(torch.randn(20_000, 8))
    student = torch.randn(10, 16, 8, requires_grad=True)
    held = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: held.append(tensor.nbytes) or tensor, lambda t: t):
        match(student, torch.randn(2, 16, 8), bank, blocks=bank.blocks(1_000)).backward()
    assert sum(held) < 0.1 * student.shape[0] * student.shape[1] * bank.capacity * 4


@pytest.mark.parametrize("blocks", [None, torch.arange(512).view(4, -1)], ids=["whole", "blocks"])
def test_precision__fast_stays_near_exact(blocks):
    generator = torch.Generator().manual_seed(0)
    bank = tb.MemoryBank(512, 64, dtype=torch.bfloat16)
    bank.push(torch.randn(512, 64, generator=generator))
    student, teacher = torch.randn(2, 20, 64, generator=generator)
    exact, fast = (
        match(student, teacher, bank, blocks=blocks, reduction="none", precision=precision)
        for precision in ("exact", "fast")
    )
    torch.testing.assert_close(fast, exact, atol=0.05, rtol=0.05)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"student": torch.zeros(7, 6).long()}, TypeError, "student embeddings have dtype torch.int64"),
        ({"student": torch.zeros(6)}, ValueError, r"student has shape \(6,\); expected \(batch, dim\)"),
        ({"teacher": torch.zeros(7, 5)}, ValueError, "expected views of one batch"),
        ({"pair_mask": torch.ones(2, 2).bool()}, ValueError, r"shape \(2, 2\); expected \(1, 1\)"),
        ({"pair_mask": torch.ones(1, 1)}, TypeError, "pair_mask has dtype torch.float32; expected bool"),
        ({"student_temperature": 0.0}, ValueError, r"temperature=0\.0"),
        ({"teacher_temperature": -1.0}, ValueError, r"temperature=-1\.0"),
        ({"positive_weight": 1.5}, ValueError, r"positive_weight=1\.5; expected a share"),
        ({"reduction": "avg"}, ValueError, "reduction='avg' is unknown"),
        ({"precision": "double"}, ValueError, "precision='double' is unknown"),
        ({"bank": None, "blocks": torch.zeros(1, 2).long()}, TypeError, "bank is NoneType"),
        ({"blocks": torch.full((1, 2), 99)}, ValueError, "slots holds 99"),
        ({"blocks": torch.zeros(4).long()}, ValueError, "slots has shape"),
    ],
)
def test_bad_input__says_what_is_wrong(change, error, message):
    arguments = {"student": CASE.queries, "teacher": CASE.positives, "bank": CASE.bank} | change
    with pytest.raises(error, match=message) as raised:
        match(**arguments)
    assert isinstance(raised.value, tb.errors.BankError)
