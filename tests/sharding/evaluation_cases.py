"""What is evaluated over a shared bank, against `torchbank.evaluation` with all rows in one process.

Each rank asks with its own queries: the scores of all are those of the whole.
"""

from types import SimpleNamespace

import torch
from torch import distributed
from torch.nn.functional import one_hot

import torchbank as tb
from torchbank import evaluation

SHARED = {"replicated": tb.replicate, "sharded": tb.shard}
KINDS = {"ring": tb.MemoryBank, "keyed": tb.KeyedMemoryBank}
ROWS, QUERIES, CLASSES, DIM, K = 96, 24, 4, 6, 10
TEMPERATURE = 0.07


def features(rows, seed):
    """Rows around the centre of their class, in float64, so that no two orders are rounding."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % CLASSES
    centres = torch.randn(CLASSES, DIM, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = torch.randn(rows, DIM, generator=generator, dtype=torch.float64)
    return SimpleNamespace(embeddings=centres[labels] + 1.5 * noise, labels=labels)


def banks(rank, ranks, rows):
    """Banks of each kind, shared in each way, that the ranks have filled together."""
    for share in SHARED.values():
        for kind in KINDS.values():
            # More slots than rows: of a keyed bank every third holds none.
            bank = share(kind(ROWS + ROWS // 2, DIM, fields={"label": torch.int64, "id": torch.int64}))
            ids = torch.arange(ROWS)
            for part in ids.split(4 * ranks):
                own = part.chunk(ranks)[rank]
                keys = {"keys": own + own // 2} if kind is tb.KeyedMemoryBank else {}
                bank.push(rows.embeddings[own], label=rows.labels[own], id=own, **keys)
            assert len(bank) == ROWS
            yield bank


def summed(value):
    value = torch.as_tensor(value, dtype=torch.float64).clone()
    distributed.all_reduce(value)
    return value.item()


def case_knn__accuracy_of_one_process(rank, ranks):
    rows, test = features(ROWS, 1), features(QUERIES, 2)
    # What a bank of float32 holds.
    stored = torch.nn.functional.normalize(rows.embeddings, dim=1).float()
    expected = evaluation.knn(SimpleNamespace(embeddings=stored, labels=rows.labels), test, ks=(K,))
    for bank in banks(rank, ranks, rows):
        own = slice(rank, None, ranks)
        found = bank.nearest(test.embeddings[own], K)
        votes = one_hot(bank.gather(found.slots).fields["label"], CLASSES)
        winners = (votes * (found.scores / TEMPERATURE).exp()[:, :, None]).sum(dim=1).argmax(dim=1)
        right = summed((winners == test.labels[own]).sum())
        assert right / QUERIES == expected.accuracy[K]


def case_retrieval__lists_and_recall_of_one_process(rank, ranks):
    rows = features(ROWS, 1)
    everyone = torch.arange(ROWS)
    stored = torch.nn.functional.normalize(rows.embeddings, dim=1).float()
    lists, same = evaluation.retrieval_examples(stored, rows.labels, queries=everyone, k=K)
    scores = evaluation.retrieval(stored, rows.labels, ks=(1, K))
    for bank in banks(rank, ranks, rows):
        own = everyone[rank::ranks]
        found = bank.gather(bank.nearest(stored[own].double(), K, exclude={"id": own}).slots)
        assert torch.equal(found.fields["id"], lists[own])
        right = found.fields["label"] == rows.labels[own][:, None]
        assert torch.equal(right, same[own])
        assert summed(right[:, 0].sum()) / ROWS == scores.recall_at[1]
        assert summed(right.any(dim=1).sum()) / ROWS == scores.recall_at[K]


def case_ordered__all_rows_for_what_takes_plain_tensors(rank, ranks):
    rows, test = features(ROWS, 1), features(QUERIES, 2)
    stored = torch.nn.functional.normalize(rows.embeddings, dim=1).float()
    test.embeddings = test.embeddings.float()
    train = SimpleNamespace(embeddings=stored, labels=rows.labels)
    expected = evaluation.query_gallery(test, train, ks=(1,))
    for bank in banks(rank, ranks, rows):
        whole = bank.ordered()
        gallery = SimpleNamespace(embeddings=whole.embeddings, labels=whole.fields["label"])
        assert evaluation.query_gallery(test, gallery, ks=(1,)).recall_at == expected.recall_at
