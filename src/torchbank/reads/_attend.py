"""`attend`: the log-sum-exp of all scores and the readout, in one pass over the bank.

The readout is the gradient: d lse_i / d q_i = scale * o_i and d lse_i / d scale = <q_i, o_i>. So the forward
pass already holds what the backward pass needs; nothing of the bank is saved, and its rows may be overwritten
before ``backward()`` runs.
"""

from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from torchbank.errors import check_choice
from torchbank.reads import _flash_attention, _fused_attention
from torchbank.reads._cuda_forms import attend_form
from torchbank.reads._doors import Impl, Precision, as_scale, check_tensors, without_autocast
from torchbank.reads._first_order import first_order_only, no_gradients
from torchbank.reads._products import bf16_products
from torchbank.reads._reference import attend_reference, compute_dtype
from torchbank.reads._results import Readout
from torchbank.reads._selection import SCHEMA, FlatSelection, Selection, brought, real_rows
from torchbank.reads._stream import stream


def attend(
    queries: Tensor,
    rows: Tensor,
    *,
    scale: float | Tensor,
    selection: Selection | None = None,
    precision: Precision = "exact",
    impl: Impl = "auto",
) -> Readout:
    """Read the log-sum-exp of all scaled scores and the softmax-weighted mean of the rows.

    ``lse_i = log sum_j exp(scale q_i . M_j + beta_j)`` and ``o_i = sum_j softmax_j(scale q_i . M_j + beta_j) M_j``,
    the streaming softmax of [Milakov and Gimelshein 2018](arXiv:1805.02867) over rows that are keys and values
    at once. Rows are constants; the gradient of ``lse`` reaches ``queries`` and ``scale``.

    Args:
        queries: ``(batch, dim)``, any floating dtype; computed in float32, float64 queries in float64.
        rows: ``(rows, dim)`` float32, bfloat16 or float16 (float64 too), on the queries' device.
        scale: Inverse temperature: a number or a 0-d tensor, which then learns.
        selection: Which rows a query sees; None is all of them.
        precision: For rows of 16 bits: ``"exact"`` multiplies in float32, ``"fast"`` may round queries, scores,
            weights and readout to the rows' dtype.
        impl: ``"reference"`` builds the logits and is differentiable in the rows too and twice; ``"blocked"``
            streams; ``"triton"`` is one kernel on a GPU, which streams as ``"blocked"`` does where it cannot serve
            (float64 queries, rows wider than 256 or on the host); ``"auto"`` streams by whichever form is fastest.

    Returns:
        `Readout` of ``lse`` (batch,) and ``readout`` (batch, dim), in the compute dtype.

    Raises:
        BankValueError: Shapes or devices do not fit, or a word is unknown.
        BankTypeError: A tensor is not floating.
        BankStateError: On differentiating twice, unless ``impl="reference"``; ``impl="triton"`` without a GPU or
            without Triton.

    Example:
        >>> import torch
        >>> from torchbank.reads import attend
        >>> queries, rows = torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
        >>> attend(queries, rows, scale=1.0).lse
        tensor([1.7121, 1.7824])
    """
    check_tensors(queries, rows, selection)
    check_choice("impl", impl, *get_args(Impl))
    check_choice("precision", precision, *get_args(Precision))
    selection = Selection() if selection is None else selection
    selection.check(queries.shape[0], rows.shape[0])
    scale = as_scale(scale, queries)
    if impl == "reference":
        rows, selection = brought(rows, selection, queries.device)
        with without_autocast(queries):
            return attend_reference(queries, rows, scale, selection)
    lse, readout = torch.ops.torchbank.attend(
        queries, rows, scale, precision == "fast", impl, *selection.flat().arguments()
    )
    return Readout(lse, readout.detach())


torch.library.define(
    "torchbank::attend",
    f"(Tensor queries, Tensor rows, Tensor scale, bool fast, str impl, {SCHEMA}) -> (Tensor lse, Tensor readout)",
)


@torch.library.impl("torchbank::attend", "default")
def _attend(
    queries: Tensor,
    rows: Tensor,
    scale: Tensor,
    fast: bool,
    impl: str,
    *flat: Any,
) -> tuple[Tensor, Tensor]:
    with without_autocast(queries):
        selection = FlatSelection(*flat).selection()
        queries = queries.to(compute_dtype(queries))
        form = attend_form(impl, queries, rows, selection, fast=fast)
        if form == "triton":
            from torchbank.reads import _triton_attend

            return _triton_attend.attend(queries, rows, scale, selection, fast=fast)
        if form == "flash":
            return _flash_attention.attend(queries, rows, scale)
        rows, selection = real_rows(rows, selection)
        products = bf16_products(queries, rows) if fast else None
        if impl == "auto" and products is None and _fused_attention.fits(queries, rows, selection, fast=fast):
            return _fused_attention.attend(queries, rows, scale)
        return attend_blocked(queries, rows, scale, selection, products)


def attend_blocked(
    queries: Float[Tensor, "batch dim"],
    rows: Float[Tensor, "rows dim"],
    scale: Float[Tensor, ""],
    selection: Selection,
    products: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """The running log-sum-exp and readout, rescaled whenever a block raises the maximum.

    ``products`` is the dtype of the matrix products; None is that of the queries.
    """
    highest = queries.new_full((queries.shape[0], 1), -torch.inf)
    total = torch.zeros_like(highest)
    readout = torch.zeros_like(queries)
    for block in stream(queries * scale.to(queries.dtype), rows, selection, products=products):
        logits = block.scores
        if block.bias is not None:
            logits += block.bias
        block.leave_out(-torch.inf, logits)
        new_highest = torch.maximum(highest, logits.amax(dim=1, keepdim=True))
        # Nothing selected so far: subtract 0 instead of -inf, so that exp gives 0 and not NaN.
        shift = new_highest.masked_fill(new_highest == -torch.inf, 0.0)
        weights = logits.sub_(shift).exp_()
        shrink = (highest - shift).exp_()
        total.mul_(shrink).add_(weights.sum(dim=1, keepdim=True))
        readout.mul_(shrink)
        if products is None:
            readout.addmm_(weights, block.rows)
        else:
            readout += weights.to(products) @ block.rows
        highest = new_highest
    lse = (total.log() + highest).squeeze(1)
    return lse, readout / total.masked_fill(total == 0, 1.0)


@torch.library.register_fake("torchbank::attend")
def _(queries: Tensor, rows: Tensor, *_: object) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    dtype = compute_dtype(queries)
    return queries.new_empty(queries.shape[0], dtype=dtype), queries.new_empty(queries.shape, dtype=dtype)


def _save(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    queries, _, scale, *_ = inputs
    ctx.save_for_backward(queries, scale, *output)
    ctx.gradients = no_gradients(inputs)


def _backward(ctx: Any, grad_lse: Tensor, _: Tensor) -> tuple:
    queries, scale, lse, readout = ctx.saved_tensors
    # A query that saw no row has no gradient, whatever a loss made of its -inf.
    grad_lse = grad_lse.masked_fill(lse == -torch.inf, 0.0)
    gradients = list(ctx.gradients)
    if ctx.needs_input_grad[0]:
        grad = (grad_lse * scale.to(lse.dtype))[:, None] * readout
        gradients[0] = first_order_only(grad.to(queries.dtype), queries)
    if ctx.needs_input_grad[2]:
        grad = (grad_lse * (queries.to(lse.dtype) * readout).sum(dim=1)).sum()
        gradients[2] = first_order_only(grad.to(scale.dtype), scale)
    return tuple(gradients)


torch.library.register_autograd("torchbank::attend", _backward, setup_context=_save)
