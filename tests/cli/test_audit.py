"""`torchbank audit`: what it writes of a run, and what it refuses."""

import csv

import pytest
import torch
from PIL import Image

from published_layouts import write_sop
from torchbank import data
from torchbank.cli._audit_run import audit_run
from torchbank.errors import BankStateError, BankValueError
from torchbank.evaluation import audit_labels, near_duplicates
from torchbank.io import load
from torchbank.training import RunFolder

WORDS = (
    *("--counts", "any", "--image-size", "32", "--encoder", "convnet", "--dim", "8", "--workers", "0", "--steps", "6"),
    *("--start-step", "2", "--classes-per-batch", "3", "--images-per-class", "2", "--device", "cpu"),
)


@pytest.fixture(scope="module")
def finished(torchbank, tmp_path_factory):
    """A run on a small folder."""
    place = tmp_path_factory.mktemp("audit")
    root = write_sop(place / "sop", train=6, test=5)
    folder = RunFolder(place / "run")
    done = torchbank("train", "xbm", "--data", "sop", "--root", root, "--run", folder.path, *WORDS)
    assert done.code == 0, done.err
    return folder


def lines_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_audit__ranks_the_newest_row_of_each_image(torchbank, finished):
    done = torchbank("audit", finished.path, "--top", "0", "--similarity", "0.9999", "--images", "3")
    assert done.code == 0, done.err
    lines = lines_of(finished.audit / "suspects.csv")
    bank = load(finished.bank).ordered()
    newest = dict(sorted((int(image), row) for row, image in enumerate(bank.fields["id"])))
    assert f"{len(newest)} of 24 training images are remembered." in done.out
    audit = audit_labels(*(column[list(newest.values())] for column in (bank.embeddings, bank.fields["label"])))
    place = {image: number for number, image in enumerate(newest)}
    assert [place[int(line["id"])] for line in lines] == audit.ranking.tolist()
    assert [int(line["rank"]) for line in lines] == list(range(1, len(lines) + 1))
    images = data.load("sop", root=finished.path.parent / "sop", counts=None).train
    for line in lines:
        image = int(line["id"])
        assert line["image"] == str(images.paths[image])
        assert line["label"] == images.class_names[images.labels[image]]
        assert float(line["own"]) == pytest.approx(audit.own[place[image]].item(), abs=1e-4)
        assert float(line["similarity"]) == pytest.approx(audit.other[place[image]].item(), abs=1e-4)
        assert int(line["step"]) == bank.steps[newest[image]]
    with Image.open(finished.audit / "suspects.png") as sheet:
        assert min(sheet.size) > 300


def test_audit__lists_near_duplicates_with_their_classes(finished):
    audit = audit_run(str(finished.path), top=5, similarity=0.5, drawn=1)
    assert len(audit.suspects) == 5
    bank = load(finished.bank).ordered()
    newest = dict(sorted((int(image), row) for row, image in enumerate(bank.fields["id"])))
    ids = torch.tensor(list(newest))
    found = near_duplicates(bank.embeddings[list(newest.values())], ids, similarity=0.5)
    assert [(pair.first_id, pair.second_id) for pair in audit.duplicates] == [
        (int(ids[first]), int(ids[second])) for first, second in zip(found.first, found.second, strict=True)
    ]
    images = data.load("sop", root=finished.path.parent / "sop", counts=None).train
    lines = lines_of(finished.audit / "near-duplicates.csv")
    assert len(lines) == len(audit.duplicates) > 0
    for line in lines:
        for side in ("first", "second"):
            image = int(line[f"{side}_id"])
            assert line[side] == str(images.paths[image])
            assert line[f"{side}_label"] == images.class_names[images.labels[image]]


@pytest.mark.plain
def test_audit__refuses(torchbank, tmp_path):
    root = write_sop(tmp_path / "sop", train=6, test=5)
    words = ("train", "xbm", "--data", "sop", "--root", root, *WORDS)
    assert torchbank(*words, "--run", tmp_path / "without", "--no-memory").code == 0
    with pytest.raises(BankValueError, match=r"has no bank\.safetensors: it was trained without memory"):
        audit_run(str(tmp_path / "without"), top=5, similarity=0.9, drawn=1)
    assert torchbank(*words, "--run", tmp_path / "with").code == 0
    listed = (root / "Ebay_train.txt").read_text()
    (root / "Ebay_train.txt").write_text(listed.replace("\n2 1 ", "\n2 2 "))
    with pytest.raises(BankStateError, match="holds other images than the data does now"):
        audit_run(str(tmp_path / "with"), top=5, similarity=0.9, drawn=1)
    refused = torchbank("audit", tmp_path / "with", "--top", "-1")
    assert refused.code == 2
    assert "top is -1" in refused.err
