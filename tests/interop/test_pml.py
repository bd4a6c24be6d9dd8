"""Losses of pytorch-metric-learning over a bank: value and gradient as torchbank's own, and no pair with oneself."""

import pytest
import torch
from torch import nn

import torchbank as tb
from torchbank import losses
from torchbank.errors import BankKeyError, BankTypeError, BankValueError
from torchbank.interop import pml

REASON = "compares with pytorch-metric-learning, which is not installed"
FIELDS = {"label": torch.int64, "id": torch.int64}
LABELS, IDS = torch.tensor([0, 1, 2, 0, 3, 1]), torch.arange(6)


@pytest.fixture(scope="module")
def theirs():
    return pytest.importorskip("pytorch_metric_learning", reason=REASON)


def filled(bank_class=tb.MemoryBank, *, own=None, rows=40, capacity=50):
    """A bank of four classes whose first six rows are the queries' own, unless others are given for them."""
    generator = torch.Generator().manual_seed(1)
    stored = torch.randn(rows, 8, generator=generator, dtype=torch.float64).float()
    if own is not None:
        stored[:6] = own
    labels = torch.cat([LABELS, torch.randint(0, 4, (rows - 6,), generator=generator)])
    bank = bank_class(capacity, 8, fields=FIELDS if bank_class is tb.MemoryBank else {"label": torch.int64})
    named = {"id": torch.arange(rows)} if bank_class is tb.MemoryBank else {"keys": torch.arange(rows)}
    bank.push(stored, label=labels, **named)
    return bank


def queries_of(dtype=torch.float64):
    return torch.randn(6, 8, generator=torch.Generator().manual_seed(2), dtype=dtype).requires_grad_()


def cosine():
    from pytorch_metric_learning.distances import CosineSimilarity

    return CosineSimilarity()


def pairs_of_losses():
    """A loss of theirs, and what it is here."""
    from pytorch_metric_learning import losses as their
    from pytorch_metric_learning.reducers import MeanReducer

    return {
        "contrastive": (
            their.ContrastiveLoss(pos_margin=1, neg_margin=0.2, distance=cosine()),
            lambda *given, **names: losses.contrastive(*given, **names, margin=0.2, normalize="active"),
        ),
        "triplet": (
            their.TripletMarginLoss(margin=0.3, distance=cosine(), triplets_per_anchor="all"),
            lambda *given, **names: losses.triplet(*given, **names, margin=0.3, mining="all"),
        ),
        "multi-similarity": (
            their.MultiSimilarityLoss(alpha=2, beta=20, base=0.4, distance=cosine()),
            lambda *given, **names: losses.multi_similarity(
                *given, **names, alpha=2.0, beta=20.0, base=0.4, epsilon=torch.inf
            ),
        ),
        "supervised contrastive": (
            their.SupConLoss(temperature=0.2, reducer=MeanReducer()),
            lambda *given, **names: losses.sup_con(*given, **names, temperature=0.2),
        ),
    }


@pytest.mark.parametrize("with_ids", [True, False])
@pytest.mark.parametrize("name", ["contrastive", "triplet", "multi-similarity", "supervised contrastive"])
def test_pml__equals_torchbanks_own(theirs, name, with_ids):
    their_loss, our_loss = pairs_of_losses()[name]
    bank = filled()
    given = {"labels": LABELS, "ids": IDS if with_ids else None}
    (first, second) = (queries_of(), queries_of())
    value, expected = pml(their_loss, first, bank, **given), our_loss(second, bank, **given)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-8)
    (gradient,), (wanted,) = torch.autograd.grad(value, first), torch.autograd.grad(expected, second)
    torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-7)


TUPLE_LOSSES = (
    *("AngularLoss", "CircleLoss", "ContrastiveLoss", "GeneralizedLiftedStructureLoss", "IntraPairVarianceLoss"),
    *("LiftedStructureLoss", "MarginLoss", "MultiSimilarityLoss", "NTXentLoss"),
    *("SignalToNoiseRatioContrastiveLoss", "SupConLoss", "TripletMarginLoss", "TupletMarginLoss"),
)


@pytest.mark.parametrize("name", TUPLE_LOSSES)
def test_pml__own_rows_are_no_pairs(theirs, name):
    """With ids, a query's own row may hold anything: neither value nor gradient sees it."""
    from pytorch_metric_learning import losses as their

    # Three views of one instance, so that its row is the own row of every query.
    labels, ids = torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
    results = []
    for own in (queries_of().detach().float(), torch.randn(6, 8, generator=torch.Generator().manual_seed(5))):
        queries, view = queries_of(), filled(own=own).view()
        kept = torch.tensor([0, *range(6, 40)])
        rows = tb.Rows(view.embeddings[kept], **{field: values[kept] for field, values in view.fields.items()})
        value = pml(getattr(their, name)(), queries[:3], rows, labels=labels, ids=ids)
        results.append((value.detach(), *torch.autograd.grad(value, queries)))
    assert results[0][1].abs().sum() > 0
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)


def test_pml__nca_sees_every_row_and_takes_no_ids(theirs):
    from pytorch_metric_learning.losses import MultipleLosses, NCALoss

    bank, queries = filled(), queries_of(torch.float32)
    unit = nn.functional.normalize(queries)
    distances = torch.cdist(unit, bank.view().embeddings).square()
    same = bank.view().fields["label"] == LABELS[:, None]
    chosen = ((-distances).softmax(dim=1) * same).sum(dim=1)
    torch.testing.assert_close(pml(NCALoss(), queries, bank, labels=LABELS), -chosen.log().mean())
    for loss in (NCALoss(), MultipleLosses([NCALoss()])):
        with pytest.raises(BankValueError, match="NCALoss compares a query with its own row as well"):
            pml(loss, queries, bank, labels=LABELS, ids=IDS)


def test_pml__empty_slots_of_a_bank_are_no_rows(theirs):
    their_loss, _ = pairs_of_losses()["contrastive"]
    queries, dense = queries_of(), filled(rows=20, capacity=20)
    sparse = tb.KeyedMemoryBank(64, 8, fields={"label": torch.int64})
    view = dense.view()
    sparse.push(view.embeddings, keys=3 * view.fields["id"], label=view.fields["label"])
    torch.testing.assert_close(
        pml(their_loss, queries, sparse, labels=LABELS), pml(their_loss, queries, dense, labels=LABELS)
    )


def test_pml__reads_rows_of_half_precision(theirs):
    their_loss, _ = pairs_of_losses()["contrastive"]
    whole = filled()
    half = tb.MemoryBank(50, 8, fields=FIELDS, dtype=torch.bfloat16)
    half.push(whole.view().embeddings, **whole.view().fields)
    queries = queries_of(torch.float32)
    given = {"labels": LABELS, "ids": IDS}
    torch.testing.assert_close(
        pml(their_loss, queries, half, **given), pml(their_loss, queries, whole, **given), rtol=0.02, atol=0.02
    )


class Typed(nn.Module):
    """Takes the arguments by the names and types that version 3 documents."""

    def forward(self, embeddings, labels=None, indices_tuple=None, ref_emb=None, ref_labels=None):
        assert [indices.dtype for indices in indices_tuple] == [torch.int64] * 4
        assert [indices.dim() for indices in indices_tuple] == [1] * 4
        assert not ref_emb.requires_grad
        self.pairs = [list(zip(*map(torch.Tensor.tolist, indices_tuple[i : i + 2]), strict=True)) for i in (0, 2)]
        self.ref_labels = ref_labels.tolist()
        return (embeddings @ ref_emb.T).sum()


def test_pml__lists_every_pair_but_those_of_one_id():
    bank, loss = filled(rows=12, capacity=12), Typed()
    pml(loss, queries_of(), bank, labels=LABELS, ids=IDS)
    rows = bank.view().fields
    wanted = [[], []]
    for query in range(6):
        for row in range(12):
            if IDS[query] != rows["id"][row]:
                wanted[int(LABELS[query] != rows["label"][row])].append((query, row))
    assert loss.pairs == wanted
    assert loss.ref_labels == rows["label"].tolist()


def test_pml__takes_plain_rows():
    bank, loss = filled(rows=12, capacity=12), Typed()
    rows = tb.Rows(bank.view().embeddings, **bank.view().fields)
    assert pml(loss, queries_of(torch.float32), rows, labels=LABELS) == pml(
        loss, queries_of(torch.float32), bank, labels=LABELS
    )


@pytest.mark.parametrize("rows", [0, 1])
def test_pml__without_pairs_is_zero_with_gradient(rows):
    bank = tb.MemoryBank(4, 8, fields=FIELDS)
    bank.push(torch.ones(rows, 8), label=torch.zeros(rows, dtype=torch.int64), id=torch.zeros(rows, dtype=torch.int64))
    queries = queries_of()
    value = pml(Typed(), queries[:1], bank, labels=LABELS[:1], ids=IDS[:1])
    value.backward()
    assert value == 0
    assert queries.grad.abs().sum() == 0


@pytest.mark.plain
@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"queries": torch.ones(6, 8).long()}, BankTypeError, "queries are torch.int64"),
        ({"queries": torch.ones(6, 4)}, BankValueError, r"queries are \(6, 4\) on cpu; expected \(batch, 8\)"),
        ({"labels": LABELS[:3]}, BankValueError, r"labels has shape \(3,\) on cpu; expected \(6,\)"),
        ({"ids": IDS[:3]}, BankValueError, r"ids has shape \(3,\)"),
        ({"bank": tb.Rows(torch.ones(3, 8))}, BankKeyError, r"no field 'label' \(it has none\)"),
        ({"bank": tb.Rows(torch.ones(3, 8), label=torch.ones(3))}, BankKeyError, r"no field 'id' \(it has label\)"),
    ],
)
def test_pml__refuses(changed, error, message):
    given = {"queries": torch.ones(6, 8), "bank": filled(), "labels": LABELS, "ids": IDS} | changed
    with pytest.raises(error, match=message):
        pml(Typed(), given.pop("queries"), given.pop("bank"), **given)
