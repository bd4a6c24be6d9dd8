"""`torchbank audit`: what it writes of a run, and what it refuses."""

import csv

import pytest
import torch
from PIL import Image

from published_layouts import write_sop
from torchbank import data
from torchbank.cli._audit_run import audit_run
from torchbank.errors import BankStateError, BankValueError
from torchbank.evaluation import audit_labels
from torchbank.io import load
from torchbank.training import RunFolder

WORDS = (
    *("--counts", "any", "--image-size", "32", "--encoder", "convnet", "--dim", "8", "--workers", "0", "--steps", "6"),
    *("--start-step", "2", "--classes-per-batch", "3", "--images-per-class", "2", "--device", "cpu"),
)


@pytest.fixture(scope="module")
def finished(torchbank, tmp_path_factory):
    """A run on a folder in which one image lies twice, in two classes."""
    place = tmp_path_factory.mktemp("audit")
    root = write_sop(place / "sop", train=6, test=5)
    split = data.load("sop", root=root, counts=None)
    (root / split.train.paths[9]).write_bytes((root / split.train.paths[0]).read_bytes())
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
    assert "24 of 24 training images are remembered." in done.out
    lines = lines_of(finished.audit / "suspects.csv")
    bank = load(finished.bank).ordered()
    newest = {int(image): row for row, image in enumerate(bank.fields["id"])}
    rows = torch.tensor([newest[image] for image in range(24)])
    audit = audit_labels(bank.embeddings[rows], bank.fields["label"][rows])
    assert [int(line["id"]) for line in lines] == audit.ranking.tolist()
    assert [int(line["rank"]) for line in lines] == list(range(1, 25))
    images = data.load("sop", root=finished.path.parent / "sop", counts=None).train
    for line in lines:
        image = int(line["id"])
        assert line["image"] == str(images.paths[image])
        assert line["label"] == images.class_names[images.labels[image]]
        assert float(line["own"]) == pytest.approx(audit.own[image].item(), abs=1e-4)
        assert float(line["similarity"]) == pytest.approx(audit.other[image].item(), abs=1e-4)
        assert int(line["step"]) == bank.steps[newest[image]]
    with Image.open(finished.audit / "suspects.png") as sheet:
        assert min(sheet.size) > 300


def test_audit__finds_an_image_that_lies_in_two_classes(finished):
    # An image seen at two steps has two embeddings, so near is not equal.
    audit = audit_run(str(finished.path), top=5, similarity=0.9, drawn=1)
    assert len(audit.suspects) == 5
    pairs = {(pair.first_id, pair.second_id): pair for pair in audit.duplicates}
    assert (0, 9) in pairs
    assert pairs[0, 9].first_label != pairs[0, 9].second_label
    assert len(lines_of(finished.audit / "near-duplicates.csv")) == len(pairs)


@pytest.mark.plain
def test_audit__refuses(torchbank, tmp_path):
    root = write_sop(tmp_path / "sop", train=6, test=5)
    words = ("train", "xbm", "--data", "sop", "--root", root, *WORDS)
    assert torchbank(*words, "--run", tmp_path / "without", "--no-memory").code == 0
    with pytest.raises(BankValueError, match="has no bank.safetensors: it was trained without memory"):
        audit_run(str(tmp_path / "without"), top=5, similarity=0.9, drawn=1)
    assert torchbank(*words, "--run", tmp_path / "with").code == 0
    listed = (root / "Ebay_train.txt").read_text()
    (root / "Ebay_train.txt").write_text(listed.replace("\n2 1 ", "\n2 2 "))
    with pytest.raises(BankStateError, match="holds other images than the data does now"):
        audit_run(str(tmp_path / "with"), top=5, similarity=0.9, drawn=1)
    refused = torchbank("audit", tmp_path / "with", "--top", "-1")
    assert refused.code == 2
    assert "top is -1" in refused.err
