"""faiss-cpu's exact index by inner product; the rows are added before timing, `search` is timed."""

from ..data import Contestant, Inputs
from ..measure import Step


def _flat(data: Inputs) -> Step:
    import faiss
    import torch

    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(data.case.dim)
    index.add(data.rows.cpu().numpy())
    queries = data.queries.cpu().numpy()
    return lambda: index.search(queries, data.case.k)


CONTESTANTS = {"nearest": [Contestant("faiss-cpu IndexFlatIP", _flat, needs="faiss", dtypes=("float32",))]}
