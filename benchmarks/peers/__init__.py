"""Who else takes part, one file a package; each is imported only where it is installed."""

from ..data import Contestant
from . import faiss_flat, lightly_ntxent, pml_cross_batch

PACKAGES = ("faiss-cpu", "lightly", "pytorch-metric-learning")


def peers(name: str) -> list[Contestant]:
    """The contestants of a case from other packages, installed or not."""
    return [c for module in (faiss_flat, lightly_ntxent, pml_cross_batch) for c in module.CONTESTANTS.get(name, ())]
