"""Drift of a memory that ranks share: what they measure, decide and encode again together."""

import time
from itertools import chain

import torch
from benchmarks.traffic import received
from shared_cases import same
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

import torchbank as tb
from torchbank import methods
from torchbank.data import Batch
from torchbank.drift import DriftMonitor, FreshnessGate, refresh

SHARED = {"replicated": tb.replicate, "sharded": tb.shard}
KINDS = {"ring": tb.MemoryBank, "keyed": tb.KeyedMemoryBank}
ROWS, DIM = 41, 4
IMAGES = torch.randn(60, DIM, generator=torch.Generator().manual_seed(0))


def stale_banks(kinds=tuple(KINDS)):
    """Shared banks beside that of one process, with a row of each image and some slots of none."""
    for share in SHARED.values():
        for name in kinds:
            pair = [KINDS[name](60, DIM, fields={"id": torch.int64, "label": torch.int64}) for _ in range(2)]
            for bank in pair:
                for step, ids in enumerate(torch.arange(ROWS).split(4)):
                    keys = {"keys": ids} if name == "keyed" else {}
                    bank.push(IMAGES[ids].roll(1, dims=1), id=ids, label=ids % 4, step=step, **keys)
            yield share(pair[0]), pair[1]


def from_all(value):
    """What each rank has."""
    values = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def case_refresh__every_row_once_and_as_one_process(rank, ranks):
    for shared, alone in stale_banks():
        encoded = []

        def encode(rows, encoded=encoded):
            encoded.extend(rows.fields["id"].tolist())
            return IMAGES[rows.fields["id"]]

        done = refresh(shared, encode, seconds=60.0, step=20, batch_size=5)
        assert from_all(done) == [(ROWS, 0, 0)] * ranks
        assert sorted(chain(*from_all(encoded))) == list(range(ROWS))
        assert refresh(alone, encode, seconds=60.0, step=20) == done
        assert same(shared.ordered(), alone.ordered())
        tb.sharding.check_replicas(shared)


def case_refresh__stops_when_the_slowest_does(rank, ranks):
    for shared, _ in stale_banks(("ring",)):

        def encode(rows):
            time.sleep(0.2 * (rank == ranks - 1))
            return IMAGES[rows.fields["id"]]

        done = from_all(refresh(shared, encode, seconds=0.3, step=20, batch_size=3))
        # Another turn would end after 0.4 s; the first is made whatever it takes.
        assert done[0].rows == 3 * ranks
        assert done == done[:1] * ranks
        assert sorted(shared.ordered().fields["id"].tolist()) == list(range(ROWS))
        refreshed = shared.ordered().steps == 20
        # Of each rank its own stalest.
        assert refreshed.sum() == 3 * ranks
        assert shared.ordered().fields["id"][refreshed].max() <= 3 * ranks


def case_refresh__leaves_rows_alone_that_were_overwritten_meanwhile(rank, ranks):
    for shared, _ in stale_banks(("ring",)):
        pushed = []

        def encode(rows, bank=shared, pushed=pushed):
            if not pushed:  # takes the slots after the last and then the first ones
                pushed.append(bank.push(torch.ones(8, DIM), id=torch.arange(8), label=torch.arange(8), step=21))
            return IMAGES[rows.fields["id"]]

        done = refresh(shared, encode, seconds=60.0, step=22, batch_size=60)
        lost = max(0, ROWS + 8 * ranks - 60)
        assert (done.rows, done.stale) == (ROWS - lost, lost)
        tb.sharding.check_replicas(shared)


def case_monitor__drift_of_the_rows_of_all(rank, ranks):
    for shared, alone in stale_banks():
        tables = []
        for bank in (shared, alone):
            monitor = DriftMonitor(DIM, fields={"label": torch.int64})
            generator = torch.Generator().manual_seed(3)
            monitor.observe_rows(bank, lambda rows: IMAGES[rows.fields["id"]], rows=30, step=15, generator=generator)
            tables.append(monitor.by_age())
        assert all(torch.equal(one, other) for one, other in zip(*tables, strict=True))
        assert tables[0].count.sum() == 30


def case_agree__the_mean_of_what_each_has_measured(rank, ranks):
    for shared, alone in stale_banks(("ring",)):
        monitor, gate = DriftMonitor(DIM), FreshnessGate(floor=0.5)
        # Each measures another fidelity; only the first knows of old rows.
        monitor.up_to.add(3, torch.tensor(4.0), torch.tensor(0.2 + 0.2 * rank))
        monitor.recent.add(3, torch.tensor(4.0 + rank), torch.tensor(0.8))
        if rank == 0:
            monitor.recent.add(7, torch.tensor(16.0), torch.tensor(-0.4))
        monitor.agree(alone)
        assert monitor.up_to.sums[3] == torch.tensor(0.2 + 0.2 * rank)
        # Two tables of three numbers for each of 41 ages, and 8 bytes beside each for sizes.
        assert received(lambda monitor=monitor, shared=shared: monitor.agree(shared)) == (ranks - 1) * (1_968 + 16)
        gate.follow(monitor)
        ages, fidelity = monitor.recent.by_age()
        torch.testing.assert_close(ages, torch.tensor([4 + (ranks - 1) / 2, 16.0]).double())
        torch.testing.assert_close(fidelity, torch.tensor([0.8, -0.4]).double())
        mean = 0.2 + 0.1 * (ranks - 1)
        torch.testing.assert_close(monitor.up_to.by_age()[1].item(), mean)
        # 2 ranks have a mean of 0.3, 4 of 0.5.
        assert gate.is_open == (mean > 0.5 - 1e-6)
        assert len(set(from_all(gate.limit.item()))) == 1


def images_of(rank, ranks, steps):
    """Batches of each rank's own, of classes that an encoder can learn."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(48) % 8
    images = torch.rand(8, 16, generator=generator)[labels] + 0.3 * torch.rand(48, 16, generator=generator)
    own = torch.Generator().manual_seed(rank)
    for _ in range(steps):
        ids = torch.randint(48, (10,), generator=own)
        yield Batch(images[ids], labels[ids], ids)


AUTOMATIC = {"start_step": "auto", "max_age": "auto", "fidelity_floor": 0.1, "memory_normalize": "active"}


def case_xbm__ranks_find_one_start_and_one_age(rank, ranks):
    for share in SHARED.values():
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 6))
        settings = methods.XBMConfig(dim=6, capacity=25, margin=0.3, **AUTOMATIC)
        method = methods.XBM(encoder, settings, dataset_size=48)
        method.bank = share(method.bank)
        forward = DistributedDataParallel(tb.sharding.keep_local(method))
        optimizer = torch.optim.SGD(method.parameters(), 0.05)
        for step, batch in enumerate(images_of(rank, ranks, 103)):
            if method.wants_prefill(step):
                method.prefill(images_of(rank, ranks, 3))
                assert len(method.bank) == 25
            output = forward(batch, step=step)
            optimizer.zero_grad()
            output.loss.backward()
            optimizer.step()
            method.after_step()
        assert len(set(from_all((int(method.started), method.gate.limit.item())))) == 1
        assert int(method.started) == 100
        assert method.gate.is_open
        assert output.logs["memory_loss"] > 0
        tb.sharding.check_replicas(method.bank)
        for table in (method.drift.recent, method.drift.up_to):
            assert all(torch.equal(sums, table.sums) for sums in from_all(table.sums))
