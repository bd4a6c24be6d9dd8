"""Inputs and the rule by which a read is compared with the float64 truth."""

import torch
from torch import Tensor

from torchbank.reads import Match, Selection


def unit(rows: int, dim: int, seed: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def selections(batch: int, rows: int) -> dict[str, Selection]:
    """Every kind of row selection, and all of them at once."""
    generator = torch.Generator().manual_seed(7)
    ids: Match = (
        torch.randint(0, 40, (batch,), generator=generator),
        torch.randint(0, 40, (rows,), generator=generator),
    )
    cameras: Match = (ids[0] % 3, ids[1] % 5)
    bias = torch.randn(rows, generator=generator)
    gaps = bias.masked_fill(torch.rand(rows, generator=generator) < 0.3, -torch.inf)
    count = torch.tensor(max(1, rows // 2))
    return {
        "all": Selection(),
        "exclude": Selection(exclude=((ids,),)),
        "exclude_both": Selection(exclude=((ids, cameras),)),
        "exclude_any": Selection(exclude=((ids,), (cameras,))),
        "include": Selection(include=((ids,),)),
        "include_any": Selection(include=((ids, cameras), (cameras,))),
        "bias": Selection(bias=bias),
        "gaps": Selection(bias=gaps),
        "count": Selection(count=count),
        "everything": Selection(((ids, cameras),), ((cameras,), (ids,)), gaps, count),
        "nothing": Selection(bias=torch.full((rows,), -torch.inf)),
    }


KINDS = list(selections(1, 1))


def assert_as_good_as_reference(given: Tensor, reference: Tensor, truth: Tensor, tolerance: float) -> None:
    finite = truth.isfinite()
    assert torch.equal(given[~finite].double(), truth[~finite])
    error = (given.double() - truth)[finite].abs()
    allowed = (reference.double() - truth)[finite].abs()
    if len(error):
        assert error.max() <= allowed.max() + tolerance * truth[finite].abs().max().clamp_min(1)
