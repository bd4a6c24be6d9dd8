"""Losses and DistributedDataParallel over several ranks, against one process with the whole batch; and the traffic."""

import copy
from functools import partial

import torch
from benchmarks.traffic import Traffic, received, traffic_of
from shared_cases import raised
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

import torchbank as tb
from torchbank import methods
from torchbank.data import Batch
from torchbank.errors import BankStateError

ROWS = 6
SHARED = {"replicated": tb.replicate, "sharded": tb.shard}


def ring(capacity=40, dim=4):
    return tb.MemoryBank(capacity, dim, fields={"label": torch.int64, "id": torch.int64})


def labelled(ranks, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(ranks * ROWS, 3, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (ranks * ROWS,), generator=generator)
    return inputs, labels, torch.arange(len(labels)) + seed * len(labels)


def losses_of(embeddings, labels, ids, bank):
    """Means over queries, whose average over ranks is that of the whole batch."""
    compared = {"labels": labels, "ids": ids}
    half = len(embeddings) // 2
    generator = torch.Generator().manual_seed(bank.total_pushed)
    blocks = bank.blocks(10, generator=generator)
    return {
        "info_nce": tb.losses.info_nce(embeddings, embeddings.detach().roll(1, dims=1), bank, exclude={"id": ids}),
        "sup_con": tb.losses.sup_con(embeddings, bank, **compared),
        "contrastive": tb.losses.contrastive(embeddings, bank, max_age=3, **compared),
        "multi_similarity": tb.losses.multi_similarity(embeddings, bank, half_life=2.0, **compared),
        "triplet": tb.losses.triplet(embeddings, bank, mining="hardest", **compared),
        "nce": tb.losses.nce(
            embeddings, bank.gather(ids[:0].new_zeros(2 * half)).embeddings, bank, noise=blocks[0], log_normalizer=0.5
        ),
        "distribution_match": tb.losses.distribution_match(
            embeddings,
            embeddings.detach().flip(1),
            bank,
            student_temperature=0.2,
            teacher_temperature=0.1,
            blocks=blocks,
        ),
    }


def case_ddp__losses_and_gradients_of_one_process(rank, ranks):
    torch.manual_seed(0)
    encoder = nn.Linear(3, 4, dtype=torch.float64)
    for share in SHARED.values():
        shared, alone = share(ring()), ring()
        mine = DistributedDataParallel(copy.deepcopy(encoder))
        whole = copy.deepcopy(encoder)
        for seed in range(4):
            everything = labelled(ranks, seed)
            inputs, labels, ids = (part.split(ROWS)[rank] for part in everything)
            embeddings, expected = mine(inputs), whole(everything[0])
            shared.push(embeddings, label=labels, id=ids)
            alone.push(expected, label=everything[1], id=everything[2])
            if seed < 2:
                continue
            found = losses_of(embeddings, labels, ids, shared)
            wanted = losses_of(expected, *everything[1:], alone)
            means = torch.stack(list(found.values())).detach()
            distributed.all_reduce(means)
            torch.testing.assert_close(means / ranks, torch.stack(list(wanted.values())), rtol=1e-9, atol=1e-12)
            sum(found.values()).backward()
            sum(wanted.values()).backward()
            gradients = [[weight.grad for weight in network.parameters()] for network in (mine.module, whole)]
            for one, other in zip(*gradients, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def case_batch_norm__as_one_process(rank, ranks):
    torch.manual_seed(0)
    for shape, layer in (((ROWS, 5), nn.BatchNorm1d(5)), ((ROWS, 5, 3, 4), nn.BatchNorm2d(5, momentum=None))):
        whole = nn.Sequential(layer, nn.ReLU()).double()
        mine = DistributedDataParallel(tb.sharding.share_batch_norm(copy.deepcopy(whole)))
        assert list(mine.module.state_dict()) == list(whole.state_dict())
        for seed in range(3):
            generator = torch.Generator().manual_seed(seed)
            everything = torch.randn(ranks * shape[0], *shape[1:], generator=generator, dtype=torch.float64)
            own = everything.split(ROWS)[rank].clone().requires_grad_()
            everything.requires_grad_()
            found, wanted = mine(own), whole(everything)
            torch.testing.assert_close(found, wanted.split(ROWS)[rank], rtol=1e-5, atol=1e-6)
            (found.square().mean()).backward()
            wanted.square().mean().backward()
            torch.testing.assert_close(own.grad / ranks, everything.grad.split(ROWS)[rank], rtol=1e-4, atol=1e-7)
        for one, other in zip(mine.module.state_dict().values(), whole.state_dict().values(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        for one, other in zip(mine.module.parameters(), whole.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(mine.module.eval()(own), whole.eval()(everything).split(ROWS)[rank])


def case_one_batch__xbm_learns_what_one_process_learns(rank, ranks):
    def build():
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(9, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
        settings = {"batch_normalize": "active", "memory_normalize": "active", "prefill": False, "start_step": 1}
        config = methods.XBMConfig(dim=4, capacity=50, margin=0.1, **settings)
        return methods.XBM(encoder, config, dataset_size=200)

    whole, mine = build(), build()
    mine.bank = tb.replicate(mine.bank)
    mine.share_batch(tb.sharding.Ranks())
    wrapped = DistributedDataParallel(tb.sharding.keep_local(tb.sharding.share_batch_norm(mine)))
    optimizers = [torch.optim.SGD(method.parameters(), lr=0.1) for method in (mine, whole)]
    for step in range(5):
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(ranks * ROWS, 1, 3, 3, generator=generator)
        labels = torch.randint(4, (ranks * ROWS,), generator=generator)
        everything = Batch(images, labels, torch.arange(len(labels)) + step * len(labels))
        own = Batch(*(part.split(ROWS)[rank] for part in everything))
        for method, batch, optimizer in zip((wrapped, whole), (own, everything), optimizers, strict=True):
            optimizer.zero_grad()
            method(batch, step=step).loss.backward()
            optimizer.step()
        for one, other in zip(mine.encoder.state_dict().values(), whole.encoder.state_dict().values(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mine.bank.ordered().embeddings, whole.bank.ordered().embeddings, rtol=1e-4, atol=1e-5)


def case_uneven_batches__weighted_by_their_share(rank, ranks):
    torch.manual_seed(0)
    encoder = nn.Linear(3, 4, dtype=torch.float64)
    sizes = [5, 0, 7, 2][:ranks]
    for share in SHARED.values():
        shared, alone = share(ring(), uneven=True), ring()
        mine, whole = copy.deepcopy(encoder), copy.deepcopy(encoder)
        inputs, labels, ids = (part[: sum(sizes)] for part in labelled(ranks, 3))
        expected = whole(inputs)
        alone.push(expected, label=labels, id=ids)
        own, own_labels, own_ids = (part.split(sizes)[rank] for part in (inputs, labels, ids))
        embeddings = mine(own)
        shared.push(embeddings, label=own_labels, id=own_ids)
        tb.losses.sup_con(expected, alone, labels=labels).backward()
        loss = tb.losses.sup_con(embeddings, shared, labels=own_labels)
        # What DDP divides by is the number of ranks.
        (loss * ranks * sizes[rank] / sum(sizes)).backward()
        for weight, other in zip(mine.parameters(), whole.parameters(), strict=True):
            distributed.all_reduce(weight.grad)
            torch.testing.assert_close(weight.grad / ranks, other.grad, rtol=1e-9, atol=1e-12)


class Model(nn.Module):
    def __init__(self, bank):
        super().__init__()
        self.encoder, self.bank = nn.Linear(3, 4), bank

    def forward(self, inputs):
        return self.encoder(inputs)


def case_buffer_broadcast__noticed_and_avoided(rank, ranks):
    for share in SHARED.values():
        model = Model(share(tb.MemoryBank(12, 4)))
        DistributedDataParallel(model)
        if rank:
            assert f"rank {rank} holds the buffers of rank 0" in raised(BankStateError, model.state_dict)
            assert "keep_local" in raised(BankStateError, partial(model.bank.push, torch.ones(1, 4)))
    for share in (*SHARED.values(), lambda bank: bank):
        model = tb.sharding.keep_local(Model(share(tb.MemoryBank(12, 4))))
        local = not hasattr(model.bank, "ranks")
        wrapped = DistributedDataParallel(model)
        for step in range(3):
            rows = wrapped(torch.full((2, 3), float(rank + step)))
            model.bank.push(rows)
        assert len(model.bank) == (6 if local else min(12, 6 * ranks))
        model.state_dict()


def case_traffic__as_documented_whatever_the_capacity(rank, ranks):
    others, b, d, k = ranks - 1, 6, 4, 3
    sizes = 8  # of a batch, exchanged on the CPU before each question
    row, queries = 4 * d + 2 * 8, torch.randn(b, d)
    columns = {"label": torch.arange(b), "id": torch.arange(b)}
    for capacity in (10, 1_000):
        replicated, sharded = tb.replicate(ring(capacity)), tb.shard(ring(capacity))
        for _ in range(3):
            assert received(partial(replicated.push, queries, **columns)) == others * (b * row + sizes)
            assert received(partial(sharded.push, queries, **columns)) == others * (b * (row + 8) + sizes)
        assert received(partial(replicated.nearest, queries, k)) == 0
        assert received(partial(replicated.attend, queries, scale=1.0)) == 0
        asked = b * 4 * d + sizes
        assert received(partial(sharded.attend, queries, scale=1.0)) == others * (asked + b * 4 * (1 + d))
        assert received(partial(sharded.nearest, queries, k)) == others * (asked + b * 12 * k)
        scores = partial(sharded.pair_sum, queries, tb.reads.SCORE)
        assert received(scores) == others * (asked + b * 4 * 2)
        learns = partial(sharded.pair_sum, queries.clone().requires_grad_(), tb.reads.SCORE)
        assert received(learns) == others * (asked + b * 4 * (2 + d))
        ids = {"exclude": {"id": columns["id"]}}
        assert received(partial(sharded.attend, queries, scale=1.0, **ids)) == others * (asked + b * (8 + 4 * (1 + d)))
        hardest = partial(sharded.triplet_sum, queries, labels=columns["label"], margin=0.1, mining="hardest")
        assert received(hardest) == others * 2 * (asked + b * (8 + 4 * (2 + d)))
        positives = (sharded.view().fields["label"][:, None] == columns["label"]).sum(dim=0)
        pairs = ranks * positives.sum()
        distributed.all_reduce(pairs, distributed.ReduceOp.MAX)
        distributed.all_reduce(positives)
        every = traffic_of(partial(sharded.triplet_sum, queries, labels=columns["label"], margin=0.1))
        assert every.received == others * (asked + b * (8 + 4 * d) + 12 * pairs + sizes)
        assert every.reduced == ranks * b * (8 * positives.max() + 24) + 8
        gathered = partial(sharded.gather, columns["id"])
        assert received(gathered) == others * (b * 8 + sizes + b * (row + 8 + 1))
        for bank, total in ((replicated, 0), (sharded, 8)):
            again = traffic_of(partial(bank.update, columns["id"], columns["id"], queries))
            assert (again.received, again.reduced) == (others * (sizes + b * (16 + 4 * d)), total)
            assert received(partial(bank.of_all_ranks, torch.ones(3))) == others * (sizes + 12)
            aged = traffic_of(partial(bank.mean_age, 5))
            assert (aged.received, aged.reduced) == (0, total)
        for silent in (partial(len, sharded), partial(sharded.blocks, 5, generator=torch.Generator())):
            assert traffic_of(silent) == Traffic()
        assert received(partial(tb.sharding.check_replicas, sharded)) <= others * 32
