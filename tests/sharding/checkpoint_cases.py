"""What some ranks save others load: four processes, of which the first few form groups."""

import tempfile
from pathlib import Path

import processes
import torch
from shared_cases import REPEATING, batches, build, push_both, raised, same
from torch import distributed
from torch.distributed import checkpoint

import torchbank as tb
from torchbank.errors import BankFileNotFoundError, BankStateError

SIZES = (1, 2, 3, 4)
GROUPS = {}


def group_of(size):
    """The first ``size`` ranks."""
    return GROUPS[size]


def case_groups__are_made_by_all_ranks_together(rank, ranks):
    GROUPS.update({each: distributed.new_group(list(range(each)), timeout=processes.TIMEOUT) for each in SIZES})
    assert ranks == SIZES[-1]


def shared_folder(rank):
    """A folder that all ranks know."""
    names = [tempfile.mkdtemp() if rank == 0 else None]
    distributed.broadcast_object_list(names)
    return Path(names[0])


def filled(kind):
    bank = build(kind)
    for seed in range(6):
        _, (rows, columns) = batches(seed, bank, 1, [7])
        bank.push(rows, **columns)
    return bank


def case_saved_by_some__loaded_by_others(rank, ranks):
    folder = shared_folder(rank)
    for kind in REPEATING:
        for writers in (1, 4):
            path = folder / f"{kind}-{writers}"
            if rank < writers:
                bank = tb.shard(filled(kind), group_of(writers))
                state = tb.sharding.checkpoint_state(bank)
                checkpoint.save(state, checkpoint_id=path, process_group=group_of(writers))
            distributed.barrier()
            for readers in SIZES:
                if rank < readers:
                    loaded, alone = tb.shard(build(kind), group_of(readers)), filled(kind)
                    tb.sharding.load_checkpoint(loaded, path)
                    assert same(loaded.ordered(), alone.ordered()), (kind, writers, readers)
                    push_both(loaded, alone, 99, rank, readers, [3] * readers)
                    assert same(loaded.ordered(), alone.ordered()), (kind, writers, readers)


def case_replicated_and_local__one_copy(rank, ranks):
    folder = shared_folder(rank)
    bank = tb.replicate(filled("ring"))
    model = {"weights": torch.ones(3), **tb.sharding.checkpoint_state(bank, prefix="memory/")}
    checkpoint.save(model, checkpoint_id=folder)
    size = sum(file.stat().st_size for file in folder.iterdir())
    assert size < bank.nbytes + 40_000
    local, sharded = build("ring"), tb.shard(build("ring"))
    for other in (local, sharded):
        tb.sharding.load_checkpoint(other, folder, prefix="memory/")
        assert same(other.ordered(), bank.ordered())


def case_async__what_was_there_when_it_began(rank, ranks):
    folder = shared_folder(rank)
    bank, alone = tb.shard(filled("ring")), filled("ring")
    alone_in_its_group = distributed.new_group(timeout=processes.TIMEOUT)
    state = tb.sharding.checkpoint_state(bank)
    saving = checkpoint.async_save(state, checkpoint_id=folder, process_group=alone_in_its_group)
    bank.push(torch.ones(9, 5), label=torch.arange(9), box=torch.ones(9, 2))
    saving.result()
    distributed.barrier()
    loaded = tb.shard(build("ring"))
    tb.sharding.load_checkpoint(loaded, folder)
    assert same(loaded.ordered(), alone.ordered())


def case_another_bank__refused_and_unchanged(rank, ranks):
    folder = shared_folder(rank)
    assert "no finished checkpoint" in raised(
        BankFileNotFoundError, lambda: tb.sharding.load_checkpoint(build("ring"), folder)
    )
    checkpoint.save(tb.sharding.checkpoint_state(tb.shard(filled("ring"))), checkpoint_id=folder)
    for other, word in (
        (build("ring", capacity=24), "24"),
        (build("ring", dim=6), "(6,)"),
        (build("reservoir"), "replacement.seed"),
        (build("ring", metric="dot"), "metric"),
        (build("ring", fields={}), "field_label"),
    ):
        assert word in raised(BankStateError, lambda other=other: tb.sharding.load_checkpoint(other, folder))
        assert len(other) == other.total_pushed == 0


def case_whole_file__as_one_process_writes_it(rank, ranks):
    folder = shared_folder(rank)
    for kind in REPEATING:
        for dtype in (torch.float32, torch.bfloat16):
            alone = build(kind, dtype=dtype)
            _, (rows, columns) = batches(1, alone, 1, [30])
            alone.push(rows, **columns)
            bank = tb.shard(alone)
            bank.save(folder / "bank.safetensors", encoder="e", data="d")
            distributed.barrier()
            loaded = tb.load(folder / "bank.safetensors")
            assert type(loaded) is type(alone)
            assert all(torch.equal(value, alone.state_dict()[name]) for name, value in loaded.state_dict().items())
            if rank == 0:
                alone.save(folder / "alone.safetensors", encoder="e", data="d")
                one, other = (tb.io.read_header(folder / f"{name}.safetensors") for name in ("bank", "alone"))
                assert {**one, "created": ""} == {**other, "created": ""}
    distributed.barrier()
    assert sorted(file.name for file in folder.iterdir()) == ["alone.safetensors", "bank.safetensors"]
