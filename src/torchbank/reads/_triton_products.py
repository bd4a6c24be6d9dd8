"""Products on tensor cores that lose no more than float32 products do.

Tensor cores multiply values of 16 bits, or of 19 (tf32), and add in float32. A float32 value is a sum of such
values, so its product is a sum of products:

- bfloat16 rows: x = x1 + x2 + x3 with parts of 8 bits hold all 24 bits of a float32. Queries, whose error a softmax
  multiplies by the scale, take three parts; weights take two, 2^-17 of a row in a mean of rows.
- float16 rows: x = x1 + x2 hold 22 bits, if the small part does not underflow. So a query is first divided by its
  ``unit``, which makes its largest value 2^14, and softmax weights are multiplied by 2^14.
- float32 rows: both sides are split into two tf32 values and three products are taken ("bf16x6"), 22 bits.

The smallest part is added first: tensor cores round sums toward zero, and small sums are rounded finely.
"""

from typing import NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

# NumPy has no bfloat16, so in Triton's interpreter operands are rounded to their dtype, but multiplied in float32.
INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)
FLOAT32_PRODUCTS = tl.constexpr("ieee" if triton.knobs.runtime.interpret else "bf16x6")
# The largest value of a float16 operand is 2^16; one bit is left for rounding up.
_FLOAT16_HEADROOM = 14


class Products(NamedTuple):
    """How a kernel multiplies with rows of one dtype.

    Attributes:
        query_parts: Values of the rows' dtype that a query value is split into.
        weight_parts: The same for the weights of a sum of rows.
        headroom: Weights up to 1 are multiplied by 2 to this power.
    """

    query_parts: int
    weight_parts: int
    headroom: int


def products_for(dtype: torch.dtype, *, fast: bool) -> Products:
    """Splits for rows of a dtype; ``fast`` rounds queries and weights to it."""
    headroom = _FLOAT16_HEADROOM if dtype == torch.float16 else 0
    if fast or dtype == torch.float32:
        return Products(1, 1, headroom)
    return Products(3 if dtype == torch.bfloat16 else 2, 2, headroom)


def in_range(queries: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Queries whose parts fit the rows' dtype, and the unit (batch,) in which they are given; None for 1."""
    if dtype != torch.float16:
        return queries.contiguous(), None
    unit = queries.abs().amax(dim=1) * 2.0**-_FLOAT16_HEADROOM
    unit = unit.masked_fill(unit == 0, 1.0)
    return (queries / unit[:, None]).contiguous(), unit


@triton.jit
@no_type_check
def bound(value):
    """The bound of a loop."""
    # The interpreter keeps scalars in arrays of one value, which NumPy 2.4 no longer takes for an integer.
    return value.handle.data.item() if INTERPRETED else value


@triton.jit
@no_type_check
def rounded(values, DTYPE: tl.constexpr):
    """Float32 values as an operand of the rows' dtype."""
    if INTERPRETED:
        if DTYPE == tl.bfloat16:
            # To nearest even by hand: the interpreter's cast cuts the bits off.
            bits = values.to(tl.int32, bitcast=True)
            bits = bits + 0x7FFF + ((bits >> 16) & 1)
            operand = (bits & -65536).to(tl.float32, bitcast=True)
        else:
            operand = values.to(DTYPE).to(tl.float32)
    else:
        operand = values.to(DTYPE)
    return operand


@triton.jit
@no_type_check
def as_operand(block):
    """Rows as they are stored, for a product."""
    if INTERPRETED:
        block = block.to(tl.float32)
    return block


@triton.jit
@no_type_check
def split(values, DTYPE: tl.constexpr, PARTS: tl.constexpr):
    """Float32 values as a sum of up to three operands, largest first; those beyond ``PARTS`` are not used."""
    high = rounded(values, DTYPE)
    middle = high
    low = high
    if PARTS > 1:
        rest = values - high.to(tl.float32)
        middle = rounded(rest, DTYPE)
        if PARTS > 2:
            low = rounded(rest - middle.to(tl.float32), DTYPE)
    return high, middle, low


@triton.jit
@no_type_check
def product(high, middle, low, block, PARTS: tl.constexpr):
    """(high + middle + low) @ block in float32, apart from any running sum, which tensor cores would round down."""
    if PARTS == 3:
        total = tl.dot(low, block)
        total = tl.dot(middle, block, total)
        total = tl.dot(high, block, total)
    elif PARTS == 2:
        total = tl.dot(middle, block)
        total = tl.dot(high, block, total)
    else:
        # Triton ignores the precision of 16-bit operands. The limit means nothing for any of these dtypes, but keeps
        # Triton from adding the product to a running sum.
        total = tl.dot(high, block, input_precision=FLOAT32_PRODUCTS, max_num_imprecise_acc=32)
    return total
