"""The scores that a run is followed by, whichever suit its data."""

from typing import NamedTuple

import torch
from torch import nn

from torchbank import data, encoders, evaluation

EVALUATION_BATCH = 256
# [Wu et al. 2018, section 3.4](arXiv:1805.01978), and MoCo's CIFAR-10 recipe.
NEIGHBORS = 200


class Evaluated(NamedTuple):
    """An evaluation.

    Attributes:
        test: Embeddings of the test images; of text pairs, those of the first side, then those of the second.
        scores: Numbers by name.
    """

    test: encoders.Encoded
    scores: dict[str, int | float]


def evaluate(encoder: nn.Module, split: data.Split, *, workers: int = 0) -> Evaluated:
    """Score an encoder on the test part of its data.

    - Text pairs: how often a text finds its partner (`torchbank.evaluation.paired_retrieval`), both ways.
    - Images whose classes are all trained on (`shares_classes`): accuracy of a vote of the 200 nearest training
      images, each weighted by exp(similarity / 0.1) (`torchbank.evaluation.knn`, preset "instdisc").
    - Other images: retrieval, by the protocol of their data set (`retrieve`).

    Args:
        encoder: What is scored.
        split: Its data.
        workers: Processes that load images.
    """

    def embed(examples: data.LabelledExamples, *, view: int = 0) -> encoders.Encoded:
        loader = data.loader(examples, batch_size=EVALUATION_BATCH, num_workers=workers)
        return encoders.encode(encoder, loader, view=view)

    if isinstance(split.test, data.TextPairs):
        first, second = embed(split.test), embed(split.test, view=1)
        scores = evaluation.paired_retrieval(first.embeddings, second.embeddings)
        return Evaluated(encoders.Encoded(*map(torch.cat, zip(first, second, strict=True))), scores.as_dict())
    test = embed(split.test)
    if split.shares_classes:
        train = embed(split.train)
        knn = evaluation.knn(train, test, preset="instdisc", ks=(min(NEIGHBORS, len(split.train)),))
        (k, accuracy), *_ = knn.accuracy.items()
        return Evaluated(test, {"knn_accuracy": accuracy, "knn_k": k, "knn_temperature": knn.temperature})
    return Evaluated(test, retrieve(split.test, test).as_dict())


def retrieve(examples: data.LabelledExamples, encoded: encoders.Encoded) -> evaluation.RetrievalScores:
    """Score retrieval among images, by the protocol of their data set.

    - `torchbank.data.SelfRetrieval`: every image looks for the others (`torchbank.evaluation.retrieval`).
    - `torchbank.data.QueryGallery`: queries look in their gallery (`torchbank.evaluation.query_gallery`).
    - `torchbank.data.RandomGallery`: one random image of each class is looked for
      (`torchbank.evaluation.random_gallery`).

    Args:
        examples: The images; what has no protocol is scored by `torchbank.evaluation.retrieval`.
        encoded: Their embeddings, one row an image.
    """
    match getattr(examples, "protocol", data.SelfRetrieval()):
        case data.QueryGallery(is_query=is_query, ks=ks):
            queries, gallery = (encoders.Encoded(*(part[rows] for part in encoded)) for rows in (is_query, ~is_query))
            return evaluation.query_gallery(queries, gallery, ks=ks)
        case data.RandomGallery(ks=ks, draws=draws):
            return evaluation.random_gallery(encoded.embeddings, encoded.labels, draws=draws, ks=ks)
        case protocol:
            return evaluation.retrieval(encoded.embeddings, encoded.labels, ks=protocol.ks)
