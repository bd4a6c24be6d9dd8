"""Where a bank's rows lie changes nothing that it says: in the module, in host memory, in a mapped file."""

import copy
import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import large_file
import pytest
import torch
from bank_cases import FIELDS, assert_same_state, fields_of, rows_of
from torch import nn

import torchbank as tb
from torchbank.errors import (
    BankError,
    BankFileError,
    BankFileExistsError,
    BankFileNotFoundError,
    BankStateError,
    BankTypeError,
    BankValueError,
    FileFormatError,
)
from torchbank.reads import _mapped, _staging

KINDS = [tb.MemoryBank, tb.KeyedMemoryBank, tb.ReservoirMemoryBank]
OPTIONS = {tb.KeyedMemoryBank: {"momentum": 0.5, "duplicates": "mean"}}


@pytest.fixture(params=["host", "file"])
def storage(request, tmp_path):
    return "host" if request.param == "host" else tmp_path / "bank.rows"


@pytest.fixture
def give_back_often(monkeypatch):
    """A page at a time, so that small banks give pages back in the middle of everything."""
    for module, name, value in ((_mapped, "RESIDENT", 4096), (_staging, "RESIDENT", 4096), (_staging, "GATHERED", 7)):
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def scratch(tmp_path):
    """A folder that is emptied: pytest keeps those of the last runs, and these files are large."""
    yield tmp_path
    for entry in tmp_path.iterdir():
        entry.unlink()


def make(kind, storage="module", capacity=300, dim=6, **options):
    return kind(capacity, dim, storage=storage, **{"fields": FIELDS, **OPTIONS.get(kind, {}), **options})


def push(bank, size, seed):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(size, bank.dim, generator=generator)
    columns = {"label": torch.randint(9, (size,), generator=generator), "box": torch.rand(size, 2, generator=generator)}
    if isinstance(bank, tb.KeyedMemoryBank):
        columns["keys"] = torch.randint(bank.capacity, (size,), generator=generator)
    return bank.push(embeddings, **columns)


def push_all(bank):
    """Sizes that wrap around, exceed the bank, and are nothing."""
    return torch.cat([push(bank, size, seed) for seed, size in enumerate((1, 120, 0, 250, 700, 33))])


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def assert_same_reads(bank, other):
    queries = torch.randn(5, bank.dim, generator=torch.Generator().manual_seed(99))
    label = torch.arange(5)
    bias = torch.randn(bank.capacity, generator=torch.Generator().manual_seed(98))
    for selection in (
        {},
        {"exclude": {"label": label}},
        {"include": {"label": label}},
        {"include": [{"label": label}, {"label": label + 1}], "max_age": 1},
        {"half_life": 2.0, "max_age": 3, "step": 7},
        {"bias": bias, "exclude": [{"label": label}]},
    ):
        assert same(bank.nearest(queries, 4, **selection), other.nearest(queries, 4, **selection))
        for impl in ("reference", "blocked"):
            one = bank.nearest(queries, 4, impl=impl, **selection)
            assert same(one, other.nearest(queries, 4, impl=impl, **selection))
        if bank.metric == "euclidean":
            continue
        for precision in ("exact", "fast"):
            arguments = {"scale": 3.0, "precision": precision, **selection}
            assert same(bank.attend(queries, **arguments), other.attend(queries, **arguments))
        arguments = {"labels": label, **selection}
        assert same(
            bank.pair_sum(queries, tb.reads.SCORE, **arguments), other.pair_sum(queries, tb.reads.SCORE, **arguments)
        )
        for mining in ("all", "hardest"):
            arguments = {"labels": label, "margin": 0.5, "mining": mining, **selection}
            assert same(bank.triplet_sum(queries, **arguments), other.triplet_sum(queries, **arguments))


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_storage__same_bits_as_in_the_module(storage, give_back_often, kind, dtype, metric):
    bank, expected = (make(kind, where, metric=metric, dtype=dtype) for where in (storage, "module"))
    assert torch.equal(push_all(bank), push_all(expected))
    assert_same_state(bank, expected)
    assert_same_reads(bank, expected)
    slots = torch.tensor([[3, -1], [299, 0]])
    generator = [torch.Generator().manual_seed(5) for _ in range(2)]
    assert torch.equal(bank.sample(20, generator=generator[0]), expected.sample(20, generator=generator[1]))
    assert len(bank) == len(expected)
    for view, other in (
        (bank.gather(slots), expected.gather(slots)),
        (bank.ordered(), expected.ordered()),
        (bank.view(), expected.view()),
    ):
        assert same((view.embeddings, view.steps, view.valid), (other.embeddings, other.steps, other.valid))
        assert same(view.fields.values(), other.fields.values())
    assert torch.equal(bank.age(), expected.age())
    again = torch.arange(0, 300, 7)
    stale = [
        each.update(again, each.generations[again], torch.ones(len(again), 6), step=50) for each in (bank, expected)
    ]
    assert torch.equal(*stale)
    assert_same_state(bank, expected)


def test_storage__a_full_read_of_many_blocks(storage, give_back_often):
    bank, expected = (make(tb.MemoryBank, where, capacity=40_000, dim=4) for where in (storage, "module"))
    for each in (bank, expected):
        push(each, 39_000, 0)
    assert_same_reads(bank, expected)


def test_storage__gradients_and_losses(storage):
    gradients = []
    for where in (storage, "module"):
        bank = make(tb.MemoryBank, where)
        push_all(bank)
        queries = torch.ones(3, 6).cumsum(1).requires_grad_()
        loss = tb.losses.contrastive(queries, bank, labels=torch.arange(3))
        (loss + tb.losses.info_nce(queries, queries.detach() + 1, bank)).backward()
        gradients.append(queries.grad)
    assert torch.equal(*gradients)


@pytest.mark.plain
@pytest.mark.parametrize("kind", KINDS)
def test_storage__compiles_to_one_graph(storage, kind):
    bank, expected = make(kind, storage), make(kind)

    def step(bank, embeddings, columns):
        bank.push(embeddings, **columns)
        return bank.attend(embeddings, scale=2.0, max_age=3).lse, bank.gather(torch.arange(3)).embeddings

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for seed in range(4):
        embeddings = torch.randn(20, 6, generator=torch.Generator().manual_seed(seed))
        columns = fields_of(range(20))
        if kind is tb.KeyedMemoryBank:
            columns["keys"] = torch.arange(20) * 7
        assert same(compiled(bank, embeddings, columns), step(expected, embeddings, columns))
    assert_same_state(bank, expected)


def test_storage__rows_are_the_file(tmp_path):
    bank = make(tb.MemoryBank, str(tmp_path / "rows"), capacity=10, dim=3, metric="dot", dtype=torch.float16)
    bank.push(rows_of(range(7), 3), **fields_of(range(7)))
    written = torch.frombuffer(bytearray((tmp_path / "rows").read_bytes()), dtype=torch.float16)
    assert torch.equal(written[: 10 * 3].view(10, 3), bank.embeddings)
    assert bank.storage == tmp_path / "rows"
    assert (tmp_path / "rows").stat().st_mode & 0o777 == 0o600
    # Every per-slot column; the counters are ordinary memory.
    offloaded = 10 * (3 * 2 + 8 + 2 * 4 + 8 + 8)
    assert bank.nbytes == sum(value.nbytes for value in bank.state_dict().values())
    assert offloaded < bank.nbytes < offloaded + 100 < (tmp_path / "rows").stat().st_size
    del bank
    assert (tmp_path / "rows").exists()


def test_storage__is_said(storage):
    assert make(tb.MemoryBank).storage == "module"
    assert "storage" not in repr(make(tb.MemoryBank))
    bank = make(tb.MemoryBank, storage)
    assert bank.storage == storage
    assert f"storage={str(storage)!r}" in repr(bank)
    assert bank.device == torch.device("cpu")


# Loading and copying


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_storage__state_moves_between_storages(storage, give_back_often, kind, assign):
    bank, plain, whole = (make(kind, where) for where in (storage, "module", "module"))
    push_all(plain)
    push_all(whole)
    address = bank.embeddings.data_ptr()
    state = {f"bank.{name}": value.clone() for name, value in plain.state_dict().items()}
    nn.ModuleDict({"bank": bank}).load_state_dict(state, assign=assign)
    assert bank.embeddings.data_ptr() == address
    assert_same_state(bank, whole)
    state["bank.embeddings"].zero_()
    assert_same_state(bank, whole)
    push(bank, 40, 9)
    push(whole, 40, 9)
    assert_same_state(bank, whole)
    back = make(kind)
    back.load_state_dict(bank.state_dict())
    assert_same_state(back, whole)
    assert_same_reads(bank, back)


def test_storage__loads_into_another_capacity(storage):
    plain, bank, expected = make(tb.MemoryBank), make(tb.MemoryBank, storage, 100), make(tb.MemoryBank, capacity=100)
    push_all(plain)
    for each in (bank, expected):
        with pytest.warns(UserWarning, match="100 rows are kept"):
            each.load_state_dict(plain.state_dict())
    assert_same_state(bank, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_storage__saved_and_loaded_anywhere(tmp_path, storage, give_back_often, kind):
    bank, plain = make(kind, storage, dtype=torch.bfloat16), make(kind, dtype=torch.bfloat16)
    push_all(bank)
    push_all(plain)
    bank.save(tmp_path / "saved")
    plain.save(tmp_path / "plain")
    one, other = (tb.io.read_tensors(tmp_path / name)[0] for name in ("saved", "plain"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    headers = [tb.io.read_header(tmp_path / name) for name in ("saved", "plain")]
    assert [header["steps"] for header in headers] == [[int(plain.view().steps[plain.view().valid].min()), 5]] * 2
    assert "storage" not in json.dumps(headers[0])
    for where in ("module", "host", tmp_path / "again.rows"):
        again = tb.load(tmp_path / "saved", storage=where)
        assert again.storage == where
        assert_same_state(again, plain)
    push(again, 40, 9)
    push(plain, 40, 9)
    assert_same_state(again, plain)


def test_storage__a_load_that_fails_leaves_no_file(tmp_path):
    bank = make(tb.MemoryBank)
    tensors, header = bank.state_dict(), {"kind": "bank", "class": "MemoryBank", "options": {}}
    bank.save(tmp_path / "saved")
    header = tb.io.read_header(tmp_path / "saved")
    del tensors["steps"]
    tb.io.write_tensors(tmp_path / "broken", tensors, header)
    with pytest.raises(FileFormatError, match="do not fit its header"):
        tb.load(tmp_path / "broken", storage=tmp_path / "rows")
    assert not (tmp_path / "rows").exists()
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(BankFileExistsError):
        tb.load(tmp_path / "saved", storage=tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"


def test_storage__a_bank_in_a_file_is_not_copied(tmp_path):
    bank = make(tb.MemoryBank, tmp_path / "rows")
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(BankStateError, match=r"cannot be copied or pickled.*save it, and give torchbank.load"):
            duplicate(bank)
    push_all(bank)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda bank: pickle.loads(pickle.dumps(bank))])
def test_storage__copies_of_a_host_bank_go_their_own_way(duplicate):
    bank = make(tb.MemoryBank, "host")
    push_all(bank)
    other = duplicate(bank)
    assert other.storage == "host"
    assert_same_state(other, bank)
    push(other, 9, 1)
    assert int(other.total) == int(bank.total) + 9
    assert_same_reads(duplicate(bank), bank)


def test_storage__rows_stay_when_the_model_moves(storage):
    bank = make(tb.MemoryBank, storage, dtype=torch.bfloat16)
    push_all(bank)
    model, address = nn.Sequential(bank), bank.embeddings.data_ptr()
    before = {name: value.clone() for name, value in bank.state_dict().items()}
    model.half().double().to("cpu", torch.float64)
    assert bank.embeddings.data_ptr() == address
    assert_same_state(bank, before)
    model.to("meta")
    moved = {name for name, value in bank.state_dict().items() if value.is_meta}
    columns = {"field_label", "field_box", "steps", "generations"}
    staying = {"embeddings"} if storage == "host" else {"embeddings", *columns}
    assert set(bank.state_dict()) - moved == staying
    assert bank.device.type == "meta"
    assert torch.equal(bank.embeddings, before["embeddings"])


# The file


def test_storage__path_that_is_taken(tmp_path):
    path = tmp_path / "bank.rows"
    make(tb.MemoryBank, path)
    dangling, link = tmp_path / "dangling", tmp_path / "link"
    dangling.symlink_to(tmp_path / "nothing")
    link.symlink_to(path)
    content = path.read_bytes()
    for taken in (path, str(path), dangling, link, tmp_path):
        with pytest.raises(
            BankFileExistsError, match=r"exists, and a bank takes a new file.*name another, or delete it"
        ):
            make(tb.MemoryBank, taken)
    assert path.read_bytes() == content
    assert not (tmp_path / "nothing").exists()


def test_storage__place_that_cannot_be(tmp_path):
    with pytest.raises(BankFileNotFoundError, match=r"folder .*missing does not exist; create it first"):
        make(tb.MemoryBank, tmp_path / "missing" / "rows")
    # A folder in which nobody may create a file, not even root.
    if Path("/proc/sys/kernel").is_dir():
        with pytest.raises(BankFileError, match=r"cannot create /proc/sys/kernel/bank.rows"):
            make(tb.MemoryBank, "/proc/sys/kernel/bank.rows")
    with pytest.raises(BankFileError, match=r"takes 96000.00 GB and the disk has .* GB free; make room"):
        make(tb.MemoryBank, tmp_path / "rows", capacity=10**12, dim=20, fields=None, metric="dot")
    assert not list(tmp_path.iterdir())


def test_storage__nothing_is_left_by_a_bank_that_was_not_built(tmp_path):
    path = tmp_path / "rows"
    for wrong in (
        {"metric": "angle"},
        {"dtype": torch.float64},
        {"device": "nowhere"},
        {"fields": {"step": torch.int64}},
    ):
        with pytest.raises((BankError, RuntimeError)):
            make(tb.MemoryBank, path, **wrong)
        assert not path.exists()
    make(tb.MemoryBank, path)


def test_storage__file_size_limit_is_an_error_not_a_signal(tmp_path):
    script = (
        "import resource, sys, torchbank as tb\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        "    tb.MemoryBank(100_000, 16, storage=sys.argv[1])\n"
        "except tb.errors.BankFileError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "rows")], capture_output=True, text=True, check=True
    )
    assert "GB free" in done.stdout
    assert not (tmp_path / "rows").exists()


@pytest.mark.plain
def test_storage__what_is_neither_word_nor_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for word in ("Host", "disk", "cuda", ""):
        with pytest.raises(BankValueError, match=rf"storage is {word!r}; expected 'module', 'host' or a path"):
            make(tb.MemoryBank, word)
    with pytest.raises(BankTypeError, match="storage is a int"):
        make(tb.MemoryBank, 3)
    assert not list(tmp_path.iterdir())
    make(tb.MemoryBank, Path("disk"))
    make(tb.MemoryBank, "disk.rows")
    assert {entry.name for entry in tmp_path.iterdir()} == {"disk", "disk.rows"}


# Memory


def resident_bytes(path):
    """How much of a mapped file counts as memory of this process."""
    found = re.search(rf"{re.escape(str(path))}\n(?:.*\n)*?Rss: +(\d+) kB", Path("/proc/self/smaps").read_text())
    return int(found[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs /proc of Linux")
@pytest.mark.parametrize("kind", KINDS)
def test_storage__pages_are_given_back(scratch, monkeypatch, kind):
    for module in (_mapped, _staging):
        monkeypatch.setattr(module, "RESIDENT", 4 << 20)
    monkeypatch.setattr(_staging, "GATHERED", 64)
    path, rows = scratch / "rows", 160_000
    bank = make(kind, path, capacity=rows, dim=64, metric="dot")
    embeddings, label, box = torch.randn(20_000, 64), torch.arange(20_000), torch.zeros(20_000, 2)
    peaks = []
    for start in range(0, rows, 20_000):
        keys = {"keys": torch.arange(start, start + 20_000)} if kind is tb.KeyedMemoryBank else {}
        bank.push(embeddings, label=label, box=box, **keys)
        peaks.append(resident_bytes(path))
    queries = torch.randn(3, 64)
    for read in (
        lambda: bank.nearest(queries, 10, exclude={"label": label[:3]}),
        lambda: bank.nearest(queries, 10, include={"label": label[:3]}, max_age=2),
        lambda: bank.attend(queries, scale=0.1),
        lambda: bank.attend(queries, scale=0.1, half_life=2),
        lambda: bank.pair_sum(queries, tb.reads.SCORE, labels=label[:3]),
        lambda: bank.gather(torch.randint(rows, (500,))),
        lambda: bank.save(scratch / "saved"),
        lambda: bank.load_state_dict(bank.state_dict()),
        lambda: len(bank),
    ):
        read()
        peaks.append(resident_bytes(path))
    assert path.stat().st_size > 40 << 20
    # A batch of 20,000 rows, and what may be touched beyond it.
    assert max(peaks) < 16 << 20
    again = tb.load(scratch / "saved", storage=scratch / "again")
    assert len(again) == rows
    assert resident_bytes(scratch / "again") < 1 << 20


def run_large(path, rows):
    command = [sys.executable, large_file.__file__, str(path), str(rows)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    Path(path).unlink()
    assert found["rows"] == rows
    assert found["slots"] == found["planted"]
    torch.testing.assert_close(torch.tensor(found["lse"]), torch.tensor(found["expected_lse"]), rtol=0, atol=2e-5)
    return found


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc of Linux")
def test_storage__memory_does_not_grow_with_rows(scratch):
    small, large = (run_large(scratch / "rows", rows) for rows in (2_000_000, 10_000_000))
    assert large["file_bytes"] - small["file_bytes"] > 380e6
    assert large["peak_bytes"]["attend"] - small["peak_bytes"]["attend"] < 100e6


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc of Linux")
def test_storage__a_hundred_million_rows_within_two_gigabytes(scratch):
    if shutil.disk_usage(scratch).free < 8e9:
        pytest.skip("needs 8 GB of free disk")
    found = run_large(scratch / "rows", 100_000_000)
    assert found["file_bytes"] > 4.8e9
    assert found["peak_bytes"]["attend"] < 2e9
