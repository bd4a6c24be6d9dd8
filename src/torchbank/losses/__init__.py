"""Losses: functions of queries, their positives or labels, and a bank.

Every loss takes ``reduction=`` and the row selection of a bank's reads (``exclude``, ``include``,
``max_age``, ``half_life``, ``bias``, ``step``), works over a bank, over `torchbank.Rows` and, with
``bank=None``, over the batch itself, and never builds a (batch x bank) matrix.
"""

from torchbank.losses._contrastive import ContrastivePairs, Normalize, contrastive, contrastive_pairs
from torchbank.losses._distribution_match import distribution_match
from torchbank.losses._info_nce import info_nce
from torchbank.losses._multi_similarity import multi_similarity
from torchbank.losses._nce import nce, nce_log_normalizer
from torchbank.losses._sources import RowSource
from torchbank.losses._sup_con import sup_con
from torchbank.losses._triplet import triplet

__all__ = [
    "ContrastivePairs",
    "Normalize",
    "RowSource",
    "contrastive",
    "contrastive_pairs",
    "distribution_match",
    "info_nce",
    "multi_similarity",
    "nce",
    "nce_log_normalizer",
    "sup_con",
    "triplet",
]
