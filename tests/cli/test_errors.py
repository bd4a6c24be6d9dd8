"""What a user does wrong: one clear line on stderr, exit code 2, no traceback, nothing overwritten."""

import hashlib
import shutil
from pathlib import Path

import pytest
import torch
from photo_folder import write_images
from safetensors.torch import save_file

import torchbank as tb
from torchbank.training import RunFolder


def _content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def place(tmp_path, photos) -> Path:
    """Everything that the command lines below name."""
    RunFolder.create(tmp_path / "begun", {"method_name": "xbm"})
    (tmp_path / "folder").mkdir()
    write_images(tmp_path / "three-classes", classes=3)
    shutil.copytree(photos, tmp_path / "unreadable")
    for path in (tmp_path / "unreadable").rglob("*.png"):
        path.write_bytes(b"not an image")
    (tmp_path / "cifar-100-binary.tar.gz").write_bytes(b"not an archive")
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"not IDX")
    for name in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"data.{name}").write_text("00001740 03 n 01 entity 0 000 | what is perceived\n" * 600)
    bank = tb.MemoryBank(4, 2)
    bank.save(tmp_path / "bank.safetensors")
    whole = (tmp_path / "bank.safetensors").read_bytes()
    (tmp_path / "truncated.safetensors").write_bytes(whole[: len(whole) // 2])
    save_file({"weight": torch.ones(2)}, tmp_path / "foreign.safetensors")
    (tmp_path / "text.safetensors").write_text("not a bank")
    return tmp_path


_TINY = "--image-size 8 --steps 2 --device cpu"
_MISTAKES = {
    "unknown verb": ("tarin xbm", "unknown verb 'tarin'; expected one of train, compare"),
    "no method": ("train --steps 3", "torchbank train needs a method; expected one of massl, moco"),
    "unknown method": ("train xmb --run {place}/new", "unknown method 'xmb'; expected one of 'massl', 'moco'"),
    "unknown option": ("train xbm --stepz 3", "Unrecognized options: --stepz"),
    "not a number": ("train xbm --steps many", "Error parsing --steps"),
    "out of range": ("train xbm --steps 0", "steps is 0; expected a number above 0"),
    "unknown word": ("train xbm --schedule linear", "invalid choice 'linear' for argument '--schedule'"),
    "unknown data set": ("train xbm --data kanjis --run {place}/new", "unknown data set 'kanjis'"),
    "unknown encoder": ("train xbm --encoder resnet --run {place}/new", "unknown encoder 'resnet'"),
    "unknown augmentation": ("train xbm --augmentation blur --run {place}/new", "unknown augmentation 'blur'"),
    "missing weights": ("train xbm --weights {place}/none --run {place}/new", "{place}/none"),
    "no root": ("train xbm --data folder --run {place}/new", "give it as --root DIR"),
    "wrong data path": ("train xbm --data folder --root {place}/nowhere --run {place}/new", "no folder at"),
    "too few classes": (
        f"train xbm --data folder --root {{place}}/three-classes --run {{place}}/new {_TINY}",
        "expected two or more of each",
    ),
    "unreadable image": (
        f"train xbm --data folder --root {{place}}/unreadable --classes-per-batch 2 --run {{place}}/new {_TINY}",
        "cannot read image",
    ),
    "views for a method of labels": (
        "train xbm --augmentation moco-v2 --run {place}/new",
        "xbm cannot train on kanji with --augmentation moco-v2; expected one that gives one image of each",
    ),
    "images for a method of views": (
        "train moco --augmentation glyph --run {place}/new",
        "moco cannot train on kanji with --augmentation glyph; expected one that gives views, npid, moco-v1",
    ),
    "no archive": ("train moco --data cifar10 --root {place} --run {place}/new", "no cifar10 in"),
    "no root for cifar": (
        "train moco --data cifar10 --run {place}/new",
        "cifar10 needs the place of its files; give it as --root DIR",
    ),
    "wrong archive": ("train moco --data cifar100 --root {place} --run {place}/new", "expected a whole .tar.gz"),
    "not IDX": ("train moco --data fashion-mnist --root {place} --run {place}/new", "is no whole IDX file"),
    "images for words": (
        "train moco --data wordnet --root {place} --encoder convnet --run {place}/new",
        "convnet takes images, and these are texts",
    ),
    "nothing to switch off": ("compare moco --run {place}/new", "moco cannot be compared without its memory"),
    "run folder exists": ("train xbm --run {place}/begun", "begun exists already; give another run folder"),
    "nothing to resume": ("train xbm --run {place}/folder --resume", "folder is not a run folder"),
    "resumed by another version": ("train xbm --run {place}/begun --resume", "does not fit this torchbank"),
    "comparison exists": ("compare xbm --run {place}/begun", "begun exists already"),
    "no such setting": ("compare xbm --run {place}/new --without rate=1", "Unrecognized options: --rate"),
    "not a setting": ("compare xbm --run {place}/new --with fast", "'fast' is no setting; expected NAME=VALUE"),
    "odd batch": ("compare xbm --run {place}/new --batch-sizes 15", "batch size 15 is not a multiple of the 2"),
    "evaluate no run": ("evaluate {place}/folder", "folder is not a run folder"),
    "evaluate nothing": ("evaluate", "Missing from torchbank evaluate"),
    "missing bank": ("inspect {place}/none.safetensors", "there is no file"),
    "truncated bank": ("inspect {place}/truncated.safetensors", "truncated.safetensors is truncated or not"),
    "foreign bank": ("inspect {place}/foreign.safetensors", "that torchbank did not write"),
    "text for a bank": ("inspect {place}/text.safetensors", "truncated or not a torchbank file"),
}


@pytest.mark.parametrize("mistake", _MISTAKES)
def test_mistake__is_told_in_one_line(torchbank, place, mistake):
    words, message = _MISTAKES[mistake]
    before = _content(place)
    done = torchbank(*words.format(place=place).split())
    assert done.code == 2, done.err
    assert done.out == ""
    assert done.err.startswith("torchbank: error: ")
    assert done.err.count("\n") == 1
    assert message.format(place=place) in done.err
    after = _content(place)
    assert {name: after.get(name) for name in before} == before
    assert set(after) == set(before)
