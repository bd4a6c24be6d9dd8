"""Every form of a product gives the product, whichever this processor prefers."""

import pytest
import torch

from torchbank.reads import _products


@pytest.mark.parametrize("rows", [0, 1, 1023, 1024, 2048, 5003])
@pytest.mark.parametrize("form", [_products._whole, _products._vector_by_runs, _products._runs_by_vector])
def test_multiply_vector__is_the_product(rows: int, form, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_products, "_vector_form", lambda: form)
    query, block = torch.randn(1, 17, dtype=torch.float64), torch.randn(rows, 17, dtype=torch.float64)
    scores = torch.full((1, rows), torch.nan)
    _products.multiply_vector(query.float(), block.float(), scores)
    torch.testing.assert_close(scores.double(), query @ block.T, atol=1e-5, rtol=1e-5)


def test_vector_form__is_one_of_them() -> None:
    assert _products._vector_form() in (_products._whole, _products._vector_by_runs, _products._runs_by_vector)


def test_bfloat16_pays__only_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    for seconds, pays in ((1.0, False), (0.9, False), (0.5, True)):
        times = {torch.float32: 1.0, torch.bfloat16: seconds}
        monkeypatch.setattr(_products, "_seconds_of_product", times.__getitem__)
        assert _products.bfloat16_pays.__wrapped__() is pays
