"""A transformed bank against the bank that holds the transformed rows."""

import pytest
import torch

import torchbank as tb
from torchbank.errors import BankValueError
from torchbank.reads import SCORE

TURN = torch.tensor([[0.0, 1.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.5, 1.0]])


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def turned(rows):
    return rows.embeddings.float() @ TURN


def pushed(bank, change=lambda rows: rows):
    """Four pushes; of a keyed bank every other slot."""
    for step in range(4):
        ids = torch.arange(4) + 4 * step
        keys = {"keys": 2 * ids} if isinstance(bank, tb.KeyedMemoryBank) else {}
        rows = (
            torch.nn.functional.normalize(randn(4, 4, seed=step), dim=1)
            if bank.metric == "cosine"
            else randn(4, 4, seed=step)
        )
        bank.push(change(rows), label=ids % 3, step=step, **keys)
    return bank


def pair(kind, metric, **options):
    """A bank of plain rows, and one of the turned."""
    made = [kind(32, 4, fields={"label": torch.int64}, metric=metric, **options) for _ in range(2)]
    return pushed(made[0]), pushed(made[1], lambda rows: rows @ TURN)


@pytest.mark.parametrize("kind", [tb.MemoryBank, tb.KeyedMemoryBank, tb.ReservoirMemoryBank])
@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_transformed__reads_as_if_the_rows_had_been_pushed_so(kind, metric):
    bank, expected = pair(kind, metric)
    found, queries = bank.transformed(turned), randn(3, 4, seed=9)
    chosen = {"half_life": 2.0, "max_age": 2, "step": 3, "exclude": {"label": torch.tensor([0, 1, 2])}}
    torch.testing.assert_close(
        found.attend(queries, scale=3.0, **chosen), expected.attend(queries, scale=3.0, **chosen)
    )
    torch.testing.assert_close(found.pair_sum(queries, SCORE, **chosen), expected.pair_sum(queries, SCORE, **chosen))
    torch.testing.assert_close(found.nearest(queries, k=5), expected.nearest(queries, k=5))
    triplets = {"labels": torch.tensor([0, 1, 2]), "margin": 0.2, "max_age": 2}
    torch.testing.assert_close(found.triplet_sum(queries, **triplets), expected.triplet_sum(queries, **triplets))


@pytest.mark.parametrize("storage", ["host", "file"])
def test_transformed__of_rows_that_lie_elsewhere(tmp_path, storage):
    _bank, expected = pair(tb.MemoryBank, "dot")
    other = pushed(tb.MemoryBank(
        32, 4, fields={"label": torch.int64}, metric="dot", storage=tmp_path / "rows" if storage == "file" else storage
    ))  # fmt: skip
    queries = randn(3, 4, seed=9)
    torch.testing.assert_close(other.transformed(turned).nearest(queries, k=5), expected.nearest(queries, k=5))


def test_transformed__is_a_copy_and_leaves_the_bank():
    bank, _ = pair(tb.MemoryBank, "dot")
    before, queries = bank.embeddings.clone(), randn(3, 4, seed=9)
    found = bank.transformed(turned)
    expected = found.attend(queries, scale=1.0)
    assert torch.equal(bank.embeddings, before)
    bank.push(randn(32, 4), label=torch.zeros(32, dtype=torch.int64))
    torch.testing.assert_close(found.attend(queries, scale=1.0), expected, rtol=0, atol=0)


def test_transformed__of_an_empty_bank():
    found = tb.MemoryBank(5, 4).transformed(turned)
    assert (found.attend(randn(2, 4), scale=1.0).lse == -torch.inf).all()


def test_transformed__under_a_loss_gives_gradient_to_queries_only():
    bank, expected = pair(tb.MemoryBank, "cosine")
    gradients = []
    for rows in (bank.transformed(turned), expected):
        queries = randn(3, 4, seed=9).requires_grad_()
        tb.losses.contrastive(queries, rows, labels=torch.tensor([0, 1, 2]), margin=0.1).backward()
        gradients.append(queries.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.plain
def test_transformed__another_shape_is_refused():
    bank, _ = pair(tb.MemoryBank, "dot")
    with pytest.raises(BankValueError, match=r"the transform gave embeddings of shape \(16, 2\); expected \(16, 4\)"):
        bank.transformed(lambda rows: rows.embeddings[:, :2])
