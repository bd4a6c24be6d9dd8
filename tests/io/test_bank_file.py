"""Banks in files: the same bank comes back, or one clear line."""

import subprocess
import sys
import time

import pytest
import torch
from safetensors import safe_open

import torchbank as tb
from torchbank.errors import FileFormatError
from torchbank.io import load, read_header, read_tensors, save, write_tensors

FIELDS = {"label": torch.int64, "box": (torch.float32, (4,)), "seen": torch.bool}


def filled(kind=tb.MemoryBank, capacity=10, batches=(3, 4, 6), **options):
    bank = kind(capacity, 8, fields=FIELDS, **options)
    generator = torch.Generator().manual_seed(0)
    for batch in batches:
        push(bank, torch.randn(batch, 8, generator=generator))
    return bank


def push(bank, embeddings):
    number = torch.arange(len(embeddings))
    keys = {"keys": number} if isinstance(bank, tb.KeyedMemoryBank) else {}
    fields = {"label": number, "box": torch.ones(len(embeddings), 4) * number[:, None], "seen": number > 1}
    return bank.push(embeddings, **keys, **fields)


def assert_same(bank, other):
    assert type(bank) is type(other)
    assert repr(bank) == repr(other)
    for name, value in bank.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("kind", [tb.MemoryBank, tb.KeyedMemoryBank, tb.ReservoirMemoryBank])
def test_load__goes_on_where_the_bank_stopped(tmp_path, kind, metric, dtype):
    bank = filled(kind, metric=metric, dtype=dtype)
    bank.save(tmp_path / "bank.safetensors")
    again = tb.load(tmp_path / "bank.safetensors")
    assert_same(again, bank)
    more = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(push(again, more), push(bank, more))
    assert_same(again, bank)


def test_save__replaces_what_was_there(tmp_path):
    path = str(tmp_path / "bank")
    filled(batches=()).save(path)
    save(filled(), path)
    assert_same(load(path), filled())
    assert list(tmp_path.iterdir()) == [tmp_path / "bank"]


def test_load__resized_reservoir_keeps_its_limit(tmp_path):
    bank = tb.ReservoirMemoryBank(20, 8, fields=FIELDS)
    with pytest.warns(UserWarning, match="10 rows are kept"):
        bank.load_state_dict(filled(tb.ReservoirMemoryBank).state_dict())
    bank.save(tmp_path / "bank")
    again = load(tmp_path / "bank")
    push(again, torch.ones(20, 8))
    assert len(again) == 10


def test_save__is_as_readable_as_any_new_file(tmp_path):
    (tmp_path / "any").touch()
    filled().save(tmp_path / "bank")
    assert (tmp_path / "bank").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_save__header_says_what_is_inside(tmp_path):
    bank = filled(tb.KeyedMemoryBank, momentum=0.5, dtype=torch.bfloat16)
    bank.save(tmp_path / "bank", encoder="resnet18@3f2a", data="kanji:9d1c")
    header = read_header(tmp_path / "bank")
    created = header.pop("created")
    assert abs(time.time() - time.mktime(time.strptime(created[:19], "%Y-%m-%dT%H:%M:%S")) + time.timezone) < 86_400
    assert header == {
        "kind": "bank",
        "class": "KeyedMemoryBank",
        "options": {"momentum": 0.5, "duplicates": "error"},
        "schema": {
            "capacity": 10,
            "dim": 8,
            "metric": "cosine",
            "dtype": "bfloat16",
            "fields": {
                "label": {"dtype": "int64", "shape": []},
                "box": {"dtype": "float32", "shape": [4]},
                "seen": {"dtype": "bool", "shape": []},
            },
        },
        "counts": {"rows": 6, "total_pushed": 13, "pushes": 3, "rejected": 0},
        "steps": [2, 2],
        "fingerprints": {"encoder": "resnet18@3f2a", "data": "kanji:9d1c"},
        "versions": {
            "torchbank": tb.__version__,
            "torch": torch.__version__,
            "safetensors": header["versions"]["safetensors"],
        },
    }
    filled(batches=()).save(tmp_path / "bank")
    header = read_header(tmp_path / "bank")
    assert (header["steps"], header["fingerprints"]) == (None, {"encoder": None, "data": None})


def test_save__holds_plain_tensors_and_no_pickle(tmp_path):
    filled().save(tmp_path / "bank")
    with safe_open(tmp_path / "bank", framework="pt") as file:
        assert set(file.keys()) == set(filled().state_dict())


class OptionalBank(tb.Bank):
    """A user's bank with an option, on the ring's rule."""

    def __init__(self, capacity, dim, *, color, **storage):
        super().__init__(capacity, dim, replacement=tb.MemoryBank(1, 1).replacement, **storage)
        self.color = color
        self.register_buffer("extra", torch.tensor(0.0))

    def options(self):
        return {"color": self.color}


def test_load__classes_of_a_user(tmp_path):
    bank = OptionalBank(4, 2, color="blue", metric="dot")
    bank.push(torch.ones(6, 2))
    bank.extra.fill_(3)
    bank.save(tmp_path / "bank")
    again = load(tmp_path / "bank")
    assert (again.color, float(again.extra)) == ("blue", 3)
    assert_same(again, bank)


def rewritten(path, change):
    tensors, header = read_tensors(path)
    change(tensors, header)
    write_tensors(path, tensors, header)


def set_in(header, *path_and_value):
    *path, last, value = path_and_value
    for key in path:
        header = header[key]
    header[last] = value


BAD_HEADERS = [
    (lambda t, h: h.pop("kind"), r"was written by torchbank but holds no bank"),
    (lambda t, h: set_in(h, "class", "GoneBank"), r"holds a GoneBank, which is not defined here \(known: .*MemoryBank"),
    (lambda t, h: h.pop("schema"), r"has a header that does not describe a MemoryBank: 'schema'"),
    (lambda t, h: set_in(h, "schema", "metric", "l2"), r"does not describe a MemoryBank: metric is 'l2'"),
    (lambda t, h: set_in(h, "schema", "dtype", "float31"), r"unknown dtype 'float31'"),
    (lambda t, h: set_in(h, "schema", "dtype", "Tensor"), r"unknown dtype 'Tensor'"),
    (lambda t, h: set_in(h, "schema", "capacity", 10**15), r"embeddings of shape \(10, 8\)"),
    (lambda t, h: set_in(h, "schema", "fields", None), r"does not describe a MemoryBank"),
    (lambda t, h: set_in(h, "options", {"seed": 3}), r"unexpected keyword argument 'seed'"),
    (lambda t, h: set_in(h, "schema", "metric", "dot"), r"do not fit its header: .*saved with metric 'cosine'"),
    (lambda t, h: h["schema"]["fields"].pop("box"), r"do not fit its header: .*entries field_box"),
    (lambda t, h: t.pop("total"), r"do not fit its header: .*no entries total"),
    (lambda t, h: t.pop("embeddings"), r"does not describe a MemoryBank: 'embeddings'"),
    (lambda t, h: set_in(t, "steps", torch.zeros(9)), r"do not fit its header"),
]


@pytest.mark.plain
@pytest.mark.parametrize(("change", "message"), BAD_HEADERS)
def test_load__file_that_contradicts_itself(tmp_path, change, message):
    path = tmp_path / "bank"
    filled().save(path)
    rewritten(path, change)
    with pytest.raises(FileFormatError, match=message) as error:
        load(path)
    assert str(path) in str(error.value)


def test_load__truncated_file(tmp_path):
    path = tmp_path / "bank"
    filled().save(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(FileFormatError, match="is truncated or not a torchbank file"):
        load(path)


# Forks, so that 20 processes can be killed for the price of importing torch once.
SAVE_UNTIL_KILLED = """
import os, random, signal, sys, time
import torch, torchbank as tb

torch.set_num_threads(1)
path, generator, interrupted = sys.argv[1], random.Random(0), 0
bank = tb.MemoryBank(50_000, 16, fields={"number": torch.int64}, metric="dot")
bank.save(path)
for _ in range(20):
    bank = tb.load(path)
    child = os.fork()
    while child == 0:
        number = bank.total_pushed
        bank.push(torch.full((1, 16), float(number)), number=torch.tensor([number]))
        bank.save(path)
    time.sleep(generator.uniform(0.01, 0.06))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = tb.load(path)
    numbers = torch.arange(found.total_pushed)
    assert torch.equal(found.view().fields["number"], numbers)
    assert torch.equal(found.view().embeddings[:, 0], numbers.float())
print(found.total_pushed)
"""


def test_save__killed_in_the_middle_leaves_the_old_or_the_new(tmp_path):
    path = tmp_path / "bank"
    command = [sys.executable, "-c", SAVE_UNTIL_KILLED, path]
    saved = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert int(saved) > 0
    # What a killed process leaves behind is hidden, and shows here that some were hit in the middle.
    left = [entry.name for entry in tmp_path.iterdir() if entry != path]
    assert left
    assert all(name.startswith(".") for name in left)
