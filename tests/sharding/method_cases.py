"""The methods under DistributedDataParallel with shared banks, against one process with the whole batch."""

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from view_cases import BATCH, DIM, INSTANCES, PROJECTION, SIZE, batches, make_encoder, update

import torchbank as tb
from torchbank import methods
from torchbank.data import Batch, ViewBatch

SHARED = {"replicated": tb.replicate, "sharded": tb.shard}
COMMON = {"dim": DIM, "projection_dim": PROJECTION}
STEPS = 5


def made(name, **settings):
    torch.manual_seed(0)
    config = methods.METHODS[name].config(**settings)
    return methods.build(name, make_encoder(), config, dataset_size=INSTANCES)


# Their losses are means over queries that are compared with the memory alone.
EQUAL = {
    "moco": {**COMMON, "capacity": 14, "batch_norm": "whole", "momentum": 0.9},
    "npid": {**COMMON, "loss": "softmax"},
    "massl": {**COMMON, "hidden_dim": 8, "capacity": 16, "block_size": 5, "total_steps": STEPS},
}


def own_part(batch, rank, ranks):
    views = tuple(view.chunk(ranks)[rank] for view in batch.views)
    return ViewBatch(views, batch.labels.chunk(ranks)[rank], batch.ids.chunk(ranks)[rank])


def trained(method, forward, parts):
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 0.1)
    for step, batch in enumerate(parts):
        yield update(method, forward, optimizer, batch, step=step)


def case_memory_methods__learn_what_one_process_learns(rank, ranks):
    for name, settings in EQUAL.items():
        alone = made(name, **settings)
        wanted = list(trained(alone, alone, batches(STEPS)))
        for share in SHARED.values():
            method = made(name, **settings)
            method.bank = share(method.bank)
            forward = DistributedDataParallel(tb.sharding.keep_local(method))
            found = list(trained(method, forward, [own_part(batch, rank, ranks) for batch in batches(STEPS)]))
            for parameter, expected in zip(method.parameters(), alone.parameters(), strict=True):
                torch.testing.assert_close(parameter, expected, rtol=1e-4, atol=1e-5)
            rows, expected = (each.bank.ordered().embeddings for each in (method, alone))
            torch.testing.assert_close(rows, expected, rtol=1e-4, atol=1e-5)
            for log in ("memory_rows", "memory_age"):
                assert torch.equal(found[-1].logs[log], wanted[-1].logs[log]), (name, log)
            tb.sharding.check_replicas(method.bank)


def case_methods_with_a_batch_term__run(rank, ranks):
    settings = {**COMMON, "hidden_dim": 8, "prediction_hidden_dim": 8, "capacity": 14}
    for share in SHARED.values():
        method = made("nnclr", **settings)
        method.bank = share(method.bank)
        forward = DistributedDataParallel(tb.sharding.keep_local(method))
        for output in trained(method, forward, [own_part(batch, rank, ranks) for batch in batches(STEPS)]):
            assert output.loss.isfinite()
        tb.sharding.check_replicas(method.bank)


def case_xbm__contrastive_term_of_the_memory(rank, ranks):
    for share in SHARED.values():
        losses = []
        for shared in (True, False):
            torch.manual_seed(0)
            method = methods.XBM(
                nn.Linear(SIZE, DIM), methods.XBMConfig(dim=DIM, capacity=20, start_step=0), dataset_size=INSTANCES
            )
            if shared:
                method.bank = share(method.bank)
            for step, whole in enumerate(batches(3)):
                labels = whole.ids % 3
                part = slice(rank * len(labels) // ranks, (rank + 1) * len(labels) // ranks) if shared else slice(None)
                batch = Batch(whole.views[0][part], labels[part], whole.ids[part])
                output = method(batch, step=step)
            losses.append(output.logs["memory_loss"])
        torch.distributed.all_reduce(losses[0])
        torch.testing.assert_close(losses[0] / ranks, losses[1], rtol=1e-4, atol=1e-5)


assert BATCH % 2 == 0
