"""Noise-contrastive estimation: tell the positive from rows drawn at random, the loss of NPID."""

import math
from typing import Unpack

import torch
from jaxtyping import Int64
from torch import Tensor

from torchbank import reads
from torchbank.errors import BankValueError, check_choice
from torchbank.losses._doors import as_scale, check_embeddings, check_same_shape, widened, without_autocast
from torchbank.losses._reduction import Reduction, reduced
from torchbank.losses._sources import RowSelection, SlotSource, as_compared, at_slots

# log(1 + exp(scale s - shift)), with one shift for each query.
_IS_NOISE = reads.PairFunction(
    "nce_noise",
    value=lambda scores, same, scale, shift: torch.nn.functional.softplus(scale * scores - shift),  # noqa: ARG005
    derivative=lambda scores, same, scale, shift: scale * torch.sigmoid(scale * scores - shift),  # noqa: ARG005
)


def nce(
    queries: Tensor,
    positives: Tensor,
    bank: SlotSource,
    *,
    noise: Int64[Tensor, " noise"],
    log_normalizer: float | Tensor,
    temperature: float = 0.07,
    reduction: Reduction = "mean",
    **selection: Unpack[RowSelection],
) -> Tensor:
    """Classify each query's positive against rows of the bank that were drawn at random.

    ``-log h(k) - sum_j log(1 - h(j))`` over the noise rows j, with ``h(x) = P(x) / (P(x) + m / n)`` the probability
    that x is the positive k and not one of m draws from n rows, and ``P(x) = exp(q . x / t) / Z``
    ([Wu et al. 2018, eq. 6](arXiv:1805.01978)). The noise is drawn once for the batch, so that it is one read of
    those rows, and not (batch x noise) rows of their own for each query.

    The constant Z is given as ``log(Z / n)``, the logarithm of the mean of ``exp(q . M_j / t)`` over the rows: n itself
    is then not needed. The paper finds it from the first batch, by `nce_log_normalizer`, and keeps it.

    Args:
        queries: ``(batch, dim)`` floating; normalised here if the bank's metric is ``"cosine"``.
        positives: ``(batch, dim)`` floating, such as the stored rows of the same instances.
        bank: Where the noise is.
        noise: ``(noise,)`` int64 slots, drawn uniformly and with replacement.
        log_normalizer: ``log(Z / n)``, a number or a 0-d tensor; a constant.
        temperature: Above 0.
        reduction: ``"mean"`` over the batch, ``"sum"`` or ``"none"``.
        **selection: Row selection among the noise, as in the bank's reads: ``exclude``, ``include``, ``max_age``,
            ``half_life``, ``bias`` (one value for each row of the bank), ``step``. A row left out adds nothing; m
            stays the number drawn.

    Returns:
        The loss, 0-d, or ``(batch,)`` for ``"none"``; without noise it is 0. float32, or float64 for float64
        queries.

    Raises:
        BankValueError: Shapes do not fit, a word is unknown, or the temperature is not above 0.
        BankTypeError: Queries or positives are not floating, or the noise is not int64.
        BankStateError: On differentiating twice.

    Example:
        >>> import torch
        >>> import torchbank as tb
        >>> bank = tb.KeyedMemoryBank(1000, 8, momentum=0.5)
        >>> _ = bank.push(torch.randn(1000, 8), keys=torch.arange(1000))
        >>> queries, keys = torch.randn(4, 8, requires_grad=True), torch.tensor([3, 1, 4, 159])
        >>> noise = torch.randint(1000, (64,))
        >>> log_normalizer = tb.losses.nce_log_normalizer(queries, bank, noise=noise)
        >>> own = bank.gather(keys).embeddings
        >>> loss = tb.losses.nce(queries, own, bank, noise=noise, log_normalizer=log_normalizer)
        >>> loss.backward()
    """
    check_embeddings("queries", queries)
    check_embeddings("positives", positives)
    check_same_shape(queries, positives)
    check_choice("reduction", reduction, "mean", "sum", "none")
    scale = as_scale(temperature)
    with without_autocast(queries):
        queries, positives = widened(queries), widened(positives)
        # The logit of "not noise" is scale q . x - shift.
        shift = _shift(log_normalizer, len(noise), queries)
        positive = scale * (as_compared(queries, bank.metric) * as_compared(positives, bank.metric)).sum(dim=1)
        is_noise = _IS_NOISE.with_parameters(scale, shift)
        drawn = bank.subset(noise).pair_sum(queries, is_noise, **at_slots(selection, noise))
        values = torch.nn.functional.softplus(shift - positive) + drawn.value
    return reduced(values, reduction)


@torch.no_grad()
def nce_log_normalizer(
    queries: Tensor, bank: SlotSource, *, noise: Int64[Tensor, " noise"], temperature: float = 0.07
) -> Tensor:
    """Estimate the constant of `nce` from a batch: ``log(Z / n)``, the mean over queries and noise, in logarithms.

    The paper's ``Z = n / m sum_j exp(q . M_j / t)`` over m noise rows, averaged over the batch
    ([Wu et al. 2018, eq. 7](arXiv:1805.01978)), is n times its exponential.

    Args:
        queries: ``(batch, dim)`` floating.
        bank: Where the noise is.
        noise: ``(noise,)`` int64 slots, drawn uniformly.
        temperature: Above 0; that of the loss.

    Returns:
        0-d, a constant.

    Raises:
        BankValueError: Shapes do not fit, there is no query or no noise, or the temperature is not above 0.
        BankTypeError: The queries are not floating, or the noise is not int64.

    Example:
        >>> import torch
        >>> import torchbank as tb
        >>> rows = tb.Rows(torch.eye(2), metric="dot")
        >>> noise = torch.tensor([0, 1])
        >>> z = tb.losses.nce_log_normalizer(torch.zeros(1, 2), rows, noise=noise)
        >>> z.item()  # the mean of exp(0) is 1
        0.0
    """
    check_embeddings("queries", queries)
    if not len(queries) or not len(noise):
        msg = f"{len(queries)} queries and {len(noise)} noise rows; expected at least one of each to estimate from"
        raise BankValueError(msg)
    with without_autocast(queries):
        lse = bank.subset(noise).attend(widened(queries), scale=as_scale(temperature)).lse
        return lse.logsumexp(dim=0) - math.log(len(queries) * len(noise))


def _shift(log_normalizer: float | Tensor, noise: int, queries: Tensor) -> Tensor:
    """``log(m Z / n)`` for each query.

    Raises:
        BankValueError: A tensor of more than one value.
    """
    constant = torch.as_tensor(log_normalizer, dtype=queries.dtype, device=queries.device).detach()
    if constant.numel() != 1:
        msg = f"log_normalizer has shape {tuple(constant.shape)}; expected a number or a 0-d tensor"
        raise BankValueError(msg)
    # Without noise the positive is certain: the shift is -inf and the loss 0.
    return (constant.reshape(()) + (math.log(noise) if noise else -math.inf)).expand(len(queries))
