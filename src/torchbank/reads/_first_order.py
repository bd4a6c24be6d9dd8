"""Gradients of the read operators: none for most arguments, and a clear refusal to differentiate twice.

A read finds its gradient in the forward pass and keeps no bank rows, so the gradient is a constant to
autograd: a second derivative would silently come out as zero.
"""

from typing import Any

import torch
from torch import Tensor

from torchbank.errors import BankStateError
from torchbank.reads._reference import compute_dtype


class _FirstOrderOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, queries: Tensor) -> Tensor:  # noqa: ARG004
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG004
        msg = (
            "a bank read was differentiated twice; its gradient is found in the forward pass and cannot be "
            'differentiated again. Use impl="reference" for second derivatives'
        )
        raise BankStateError(msg)


def first_order_only(gradient: Tensor, queries: Tensor) -> Tensor:
    """Return ``gradient``, tied to ``queries`` so that differentiating it raises `BankStateError`.

    Grad mode is on inside a backward pass only under ``create_graph=True``.
    """
    return _FirstOrderOnly.apply(gradient, queries) if torch.is_grad_enabled() else gradient


def no_gradients(arguments: tuple) -> list[list[None] | None]:
    """No gradient for any of an operator's arguments; autograd wants lists of tensors answered by lists."""
    return [[None] * len(argument) if _is_tensor_list(argument) else None for argument in arguments]


def _is_tensor_list(argument: Any) -> bool:
    return isinstance(argument, list) and all(isinstance(part, Tensor) for part in argument)


def sum_with_gradient(name: str) -> None:
    """Give the operator of that name its shapes and its backward pass.

    It takes queries (batch, dim) first and returns value (batch,), count (batch,) and the gradient of the value by
    the queries (batch, dim).
    """
    torch.library.register_fake(name, _shapes)
    torch.library.register_autograd(name, _backward, setup_context=_save)


def _shapes(queries: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    value = queries.new_empty(queries.shape[0], dtype=compute_dtype(queries))
    return value, torch.empty_like(value), queries.new_empty(queries.shape, dtype=value.dtype)


def _save(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(inputs[0], output[2])
    ctx.gradients = no_gradients(inputs)


def _backward(ctx: Any, grad_value: Tensor, *_: Tensor) -> tuple:
    queries, gradient = ctx.saved_tensors
    grad = (grad_value[:, None] * gradient).to(queries.dtype)
    return first_order_only(grad, queries), *ctx.gradients[1:]
