"""What may enter, by both ways of finding out: the one for the CPU and the one for devices."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchbank.banks._admission import admit, admit_on_cpu
from torchbank.errors import BankValueError

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
# Sizes at which squares underflow or overflow float32, and ordinary ones.
SCALES = st.sampled_from(
    [0.0, 1e-45, 1e-42, 1e-30, 1e-16, 1e-7, 1.0, 3e4, 1e5, 1e16, 1e30, 3e38, float("inf"), float("nan")]
)


@given(
    rows=st.lists(st.tuples(SCALES, st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=6),
    dtype=st.sampled_from(DTYPES),
    cosine=st.booleans(),
    source=st.sampled_from([torch.float32, torch.float64]),
)
def test_admit__agrees_with_float64_on_any_scale(rows, dtype, cosine, source):
    embeddings = torch.tensor([[scale * x, scale * y] for scale, x, y in rows], dtype=source)
    exact = embeddings.double()
    stored = exact / exact.abs().amax(dim=1, keepdim=True) if cosine else embeddings.to(dtype).double()
    expected = torch.nn.functional.normalize(stored, dim=1) if cosine else stored
    good = expected.isfinite().all(dim=1)

    found, accepted = admit(embeddings, dtype, cosine, strict=False)
    assert accepted.tolist() == good.tolist()
    assert found.dtype == dtype
    assert not found[~accepted].any()
    torch.testing.assert_close(
        found[good], expected[good].to(dtype), rtol=2e-2 if dtype == torch.bfloat16 else 2e-3, atol=1e-6
    )
    if good.all():
        torch.testing.assert_close(admit_on_cpu(embeddings, dtype, cosine).compute().to(dtype), found, rtol=0, atol=0)
    else:
        with pytest.raises(BankValueError, match=f"row {int(good.int().argmin())} of embeddings"):
            admit_on_cpu(embeddings, dtype, cosine)


def test_admit__a_sum_that_overflows_is_no_error():
    embeddings = torch.full((100, 8), 3e38)
    assert torch.equal(admit_on_cpu(embeddings, torch.float32, cosine=False).compute(), embeddings)


def test_admit__names_what_is_wrong():
    with pytest.raises(BankValueError, match=r"row 0 .* after the cast to torch.float16 \(largest value 7e\+04\)"):
        admit(torch.tensor([[7e4, 0.0]]), torch.float16, cosine=False, strict=True)
    with pytest.raises(BankValueError, match=r"row 0 .* all zeros, which has no direction"):
        admit(torch.zeros(1, 2), torch.float32, cosine=True, strict=True)


@pytest.mark.parametrize("cosine", [True, False])
def test_admit__empty_batch(cosine):
    for rows in (
        admit(torch.zeros(0, 3), torch.float16, cosine, strict=True)[0],
        admit_on_cpu(torch.zeros(0, 3), torch.float16, cosine).compute(),
    ):
        assert rows.shape == (0, 3)
