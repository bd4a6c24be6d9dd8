"""What a case must cost, by formula: the numerator of every rate."""

from .contestants import TEACHER_VIEWS, VIEWS
from .schema import Case

_PRODUCTS = {
    "push": 0,
    "info_nce": 2,
    "distribution_match": 3,
    "massl": 2 * VIEWS + TEACHER_VIEWS,
    "nearest": 1,
    "contrastive": 1,
    "triplet": 1,
}
"""Matrix products of batch x rows x dim: the scores; for a softmax loss also the gradient of the queries (and,
with a teacher, the teacher's scores). Pair losses are charged for the scores only: few pairs have a gradient."""


def flops(case: Case) -> int:
    """Two for each multiply and add of the products."""
    return 2 * _PRODUCTS[case.name] * case.batch * case.rows * case.dim


def traffic(case: Case) -> int:
    """Minimal bytes: the bank read once; `push` reads a float32 batch and writes it in the dtype of the rows."""
    size = 2 if case.dtype == "bfloat16" else 4
    batch = case.batch * case.dim
    return batch * (4 + size) if case.name == "push" else case.rows * case.dim * size + batch * 4
