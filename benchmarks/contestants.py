"""torchbank and plain PyTorch in every case; who else takes part is in `peers`."""

from collections.abc import Callable
from functools import partial
from typing import get_args

import torch
from torch import Tensor, nn

import torchbank as tb

from .data import Contestant, Inputs, unit
from .measure import Step

TEMPERATURE = 0.07
MARGIN = 0.5
TRIPLET_MARGIN = 0.05
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.05
# What MaSSL compares in a step: all views with both of the teacher's but themselves, over random blocks.
VIEWS, TEACHER_VIEWS, BLOCKS = 12, 2, 8


def backward(queries: Tensor, loss: Callable[[Tensor], Tensor]) -> Step:
    """Forward and backward from fresh queries; the step returns loss and gradient."""

    def step() -> tuple[Tensor, Tensor]:
        learned = queries.clone().requires_grad_()
        value = loss(learned)
        value.backward()
        return value.detach(), learned.grad

    return step


def _info_nce(precision: str, data: Inputs) -> Step:
    bank = data.bank()
    ids = torch.arange(data.case.batch, device=data.device)
    chosen = {"exclude": {"id": ids}} if data.case.excluded else {}
    chosen["precision"] = precision
    return backward(
        data.queries, lambda q: tb.losses.info_nce(q, data.positives, bank, temperature=TEMPERATURE, **chosen)
    )


def _info_nce_by(impl: str, data: Inputs) -> Step:
    """The same loss from `attend` with one implementation named."""
    bank, scale = data.bank(), 1 / TEMPERATURE
    ids = torch.arange(data.case.batch, device=data.device)
    chosen = {"exclude": {"id": ids}} if data.case.excluded else {}

    def loss(q: Tensor) -> Tensor:
        positive = scale * (q * data.positives).sum(dim=1)
        return nn.functional.softplus(bank.attend(q, scale=scale, impl=impl, **chosen).lse - positive).mean()

    return backward(data.queries, loss)


def _plain_loss(data: Inputs, q: Tensor, *, clone: bool) -> Tensor:
    # The MoCo recipe copies its queue at each step because the queue is overwritten before backward.
    rows = data.rows.clone().detach() if clone else data.rows
    q, positives = q.to(rows.dtype), data.positives.to(rows.dtype)
    negative = q @ rows.T
    if data.case.excluded:
        own = torch.arange(len(q), device=q.device)[:, None] == torch.arange(len(rows), device=q.device)
        negative = negative.masked_fill(own, float("-inf"))
    logits = torch.cat([(q * positives).sum(dim=1, keepdim=True), negative], dim=1) / TEMPERATURE
    return nn.functional.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64, device=q.device))


def _moco(data: Inputs) -> Step:
    return backward(data.queries, lambda q: _plain_loss(data, q, clone=True))


def _compiled(data: Inputs) -> Step:
    form = torch.compile(partial(_plain_loss, data, clone=False), dynamic=False)
    return backward(data.queries, form)


def _nearest(impl: str, data: Inputs) -> Step:
    bank = data.bank()
    return lambda: bank.nearest(data.queries, data.case.k, impl=impl)


def _matmul_topk(data: Inputs) -> Step:
    queries = data.queries.to(data.rows.dtype)
    return lambda: torch.topk(queries @ data.rows.T, data.case.k, dim=1)


def _bare_matmul(data: Inputs) -> Step:
    """The scores alone, in blocks that are overwritten: no search can be quicker by products in this dtype."""
    queries, size = data.queries.to(data.rows.dtype), 2048 if data.device == "cpu" else 65_536
    out = torch.empty(len(queries) * size, dtype=queries.dtype, device=data.device)

    def step() -> None:
        for block in data.rows.split(size):
            torch.mm(queries, block.T, out=out[: len(queries) * len(block)].view(len(queries), -1))

    return step


def _push(metric: str, data: Inputs) -> Step:
    case = data.case
    bank = tb.MemoryBank(case.rows, case.dim, metric=metric, dtype=getattr(torch, case.dtype), device=data.device)
    return lambda: bank.push(data.queries)


def _slice_copy(data: Inputs) -> Step:
    case = data.case
    rows = torch.zeros(case.rows, case.dim, dtype=getattr(torch, case.dtype), device=data.device)
    place = [0]

    def step() -> None:
        rows[place[0] : place[0] + case.batch].copy_(data.queries)
        place[0] = (place[0] + case.batch) % max(1, case.rows - case.batch)

    return step


def _contrastive(data: Inputs) -> Step:
    """As cross-batch memory is used: push the batch, then compare it with all rows but its own."""
    bank, pushed = data.bank("cosine"), [len(data.rows)]

    def loss(q: Tensor) -> Tensor:
        ids = torch.arange(pushed[0], pushed[0] + len(q), device=q.device)
        pushed[0] += len(q)
        bank.push(q, label=data.labels, id=ids)
        return tb.losses.contrastive(q, bank, labels=data.labels, ids=ids, margin=MARGIN, normalize="active")

    return backward(data.queries, loss)


def _plain_contrastive(data: Inputs) -> Step:
    """The score matrix and two masks; the batch is written over the oldest rows first, and not compared."""
    rows, labels, place = data.rows.clone(), data.row_labels.clone(), [0]

    def loss(q: Tensor) -> Tensor:
        at = torch.arange(place[0], place[0] + len(q), device=q.device) % len(rows)
        place[0] += len(q)
        rows[at], labels[at] = q.detach(), data.labels
        scores = nn.functional.normalize(q) @ rows.T
        same = data.labels[:, None] == labels
        active = ~same & (scores > MARGIN)
        same[torch.arange(len(q)), at] = False
        return (1 - scores[same]).mean() + (scores[active] - MARGIN).mean()

    return backward(data.queries, loss)


def _triplet(data: Inputs) -> Step:
    bank = data.bank("cosine")
    return backward(data.queries, lambda q: tb.losses.triplet(q, bank, labels=data.labels, margin=TRIPLET_MARGIN))


def _distribution_match(data: Inputs) -> Step:
    bank = data.bank("cosine")
    return backward(
        data.queries,
        lambda q: tb.losses.distribution_match(
            q,
            data.positives,
            bank,
            student_temperature=STUDENT_TEMPERATURE,
            teacher_temperature=TEACHER_TEMPERATURE,
        ),
    )


def _cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    """Between the softmaxes of two sets of scores, in float32."""
    target = (teacher.float() / TEACHER_TEMPERATURE).softmax(dim=-1)
    return -(target * (student.float() / STUDENT_TEMPERATURE).log_softmax(dim=-1)).sum(dim=-1).mean()


def _plain_distribution_match(data: Inputs) -> Step:
    """Both score matrices and their softmaxes."""

    def loss(q: Tensor) -> Tensor:
        rows = data.rows
        teacher = data.positives.to(rows.dtype) @ rows.T
        return _cross_entropy(nn.functional.normalize(q).to(rows.dtype) @ rows.T, teacher)

    return backward(data.queries, loss)


def _views(data: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """Student's views, teacher's views, and a random partition of the slots."""
    case, device = data.case, data.device
    student, teacher = (
        unit(views * case.batch, case.dim, seed, device).view(views, case.batch, case.dim)
        for views, seed in ((VIEWS, 11), (TEACHER_VIEWS, 12))
    )
    order = torch.randperm(case.rows, generator=torch.Generator().manual_seed(13)).to(device)
    return student, teacher, order.view(BLOCKS, -1)


def _massl(data: Inputs) -> Step:
    bank, (student, teacher, blocks) = data.bank("cosine"), _views(data)
    pairs = ~torch.eye(VIEWS, TEACHER_VIEWS, dtype=torch.bool, device=data.device)
    return backward(
        student,
        lambda views: tb.losses.distribution_match(
            views,
            teacher,
            bank,
            student_temperature=STUDENT_TEMPERATURE,
            teacher_temperature=TEACHER_TEMPERATURE,
            blocks=blocks,
            pair_mask=pairs,
        ),
    )


def _plain_massl(data: Inputs) -> Step:
    """All scores of all views, their columns permuted, and a log-softmax for each pair of views.

    The memory is copied before it is compared with, as it is overwritten before backward.
    """
    student, teacher, blocks = _views(data)

    def scores(views: Tensor) -> Tensor:
        rows = data.rows.clone()
        permuted = (views.flatten(0, 1).to(rows.dtype) @ rows.T)[:, blocks.flatten()]
        return permuted.view(*views.shape[:2], *blocks.shape)

    def loss(views: Tensor) -> Tensor:
        mine, theirs = scores(nn.functional.normalize(views, dim=-1)), scores(teacher)
        pairs = [(v, u) for v in range(VIEWS) for u in range(TEACHER_VIEWS) if v != u]
        return sum(_cross_entropy(mine[v], theirs[u]) for v, u in pairs) / len(pairs)

    return backward(student, loss)


def _by_impl(make: Callable[[str, Inputs], Step], device: str) -> list[Contestant]:
    """On a GPU also each implementation by its name; "auto" and the slow reference are not among them."""
    words = [w for w in get_args(tb.reads._doors.Impl) if w not in ("auto", "reference")]
    return [Contestant(f"torchbank ({w})", partial(make, w)) for w in words] if device == "cuda" else []


def contestants(name: str, device: str) -> list[Contestant]:
    """Ours first, then plain PyTorch."""
    lists = {
        "push": [
            Contestant("torchbank", partial(_push, "dot")),
            Contestant('torchbank (metric="cosine")', partial(_push, "cosine")),
            Contestant("slice copy", _slice_copy),
        ],
        "info_nce": [
            Contestant("torchbank", partial(_info_nce, "exact")),
            Contestant('torchbank (precision="fast")', partial(_info_nce, "fast"), dtypes=("bfloat16",)),
            *_by_impl(_info_nce_by, device),
            Contestant("MoCo recipe", _moco, floats=6),
            Contestant("torch.compile", _compiled, needs="torch.compile", dtypes=("float32",), floats=6),
        ],
        "nearest": [
            Contestant("torchbank", partial(_nearest, "auto")),
            *_by_impl(_nearest, device),
            Contestant("torch.topk(q @ bank.T)", _matmul_topk, floats=2),
            Contestant("blocked matmul alone", _bare_matmul),
        ],
        "contrastive": [
            Contestant("torchbank", _contrastive, dtypes=("float32",)),
            Contestant("plain PyTorch", _plain_contrastive, dtypes=("float32",), floats=6),
        ],
        "triplet": [Contestant("torchbank", _triplet, dtypes=("float32",))],
        "distribution_match": [
            Contestant("torchbank", _distribution_match),
            Contestant("plain PyTorch", _plain_distribution_match, floats=8),
        ],
        "massl": [
            Contestant("torchbank", _massl),
            Contestant("MaSSL recipe", _plain_massl, floats=6 * VIEWS),
        ],
    }
    return lists[name]
