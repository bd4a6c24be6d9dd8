"""Suspects and near-duplicates of a finished run, from its bank."""

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from torchbank import data, report
from torchbank.banks import BankView
from torchbank.cli._config import RunConfig
from torchbank.cli._recipe import load_split
from torchbank.errors import BankStateError, BankValueError
from torchbank.evaluation import LabelAudit, audit_labels, near_duplicates
from torchbank.io import atomic_write, load, read_header
from torchbank.training import RunFolder

# Images of a class beside a suspect.
_BESIDE = 4


@dataclass(frozen=True)
class SuspectRow:
    """A line of suspects.csv.

    Args:
        rank: From 1, the least like its class.
        id: The row of the image in the training data.
        image: Its file, or its row where images are in memory.
        label: The name of its class.
        own: Mean cosine to the other images of its class.
        other: The name of the class that it resembles most of all others.
        similarity: Mean cosine to the images of that class.
        step: When the memory saw it last.
    """

    rank: int
    id: int
    image: str
    label: str
    own: float
    other: str
    similarity: float
    step: int


@dataclass(frozen=True)
class DuplicateRow:
    """A line of near-duplicates.csv: two images that are not one, and their cosine."""

    first_id: int
    first: str
    first_label: str
    second_id: int
    second: str
    second_label: str
    similarity: float


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Args:
        images: Training images.
        remembered: How many of them the memory holds.
        suspects: The least like their class first.
        duplicates: The most alike first.
        files: What was written.
    """

    images: int
    remembered: int
    suspects: tuple[SuspectRow, ...]
    duplicates: tuple[DuplicateRow, ...]
    files: tuple[Path, ...]


def audit_run(path: str, *, top: int, similarity: float, drawn: int) -> Audit:
    """Audit the labels of the training images that the memory of a run holds, and write what is found beside it.

    Args:
        path: The run folder.
        top: Suspects that are written; 0 is all.
        similarity: Least cosine of near-duplicates.
        drawn: Suspects on the sheet.

    Raises:
        BankError: There is no finished run with a memory of labels and ids, or its data has changed.
    """
    folder = RunFolder.open(path)
    folder.read_summary()
    images = load_split(RunConfig.from_json(folder.read_config()).data).train
    rows = _newest_rows(folder, images)
    labels = rows.fields["label"]
    ranked = audit_labels(rows.embeddings, labels)
    names = _Names(images, rows)
    chosen = ranked.ranking[:top] if top else ranked.ranking
    suspects = tuple(names.suspect(ranked, row, rank) for rank, row in enumerate(chosen.tolist(), start=1))
    pairs = near_duplicates(rows.embeddings, rows.fields["id"], similarity=similarity)
    duplicates = tuple(names.duplicate(*pair) for pair in zip(*(part.tolist() for part in pairs), strict=True))
    files = [folder.audit / "suspects.csv", folder.audit / "near-duplicates.csv"]
    folder.audit.mkdir(exist_ok=True)
    _write_csv(files[0], SuspectRow, suspects)
    _write_csv(files[1], DuplicateRow, duplicates)
    if isinstance(images, data.LabelledImages) and len(chosen):
        files.append(folder.audit / "suspects.png")
        beside = [_beside(rows, ranked, row, images.class_names) for row in chosen[:drawn].tolist()]
        report.plot_suspect_sheet(images, beside, files[-1])
    return Audit(len(images), len(labels), suspects, duplicates, tuple(files))


def _newest_rows(folder: RunFolder, images: data.LabelledExamples) -> BankView:
    """The last row of each image that the memory holds."""
    if not folder.bank.is_file():
        msg = f"{folder.path} has no bank.safetensors: it was trained without memory; audit a run that has one"
        raise BankValueError(msg)
    if read_header(folder.bank)["fingerprints"]["data"] != f"sha256:{images.fingerprint}":
        msg = (
            f"the memory of {folder.path} holds other images than the data does now; train again to audit the new ones"
        )
        raise BankStateError(msg)
    view = load(folder.bank, device="cpu").ordered()
    view = view.rows(view.valid)
    missing = {"label", "id"} - view.fields.keys()
    if missing:
        msg = (
            f"the memory of {folder.path} holds no {' and no '.join(sorted(missing))}; audit a run of a method whose "
            "memory does, such as torchbank train xbm"
        )
        raise BankValueError(msg)
    ids = view.fields["id"]
    place = torch.arange(len(ids))
    last = torch.full((len(images),), -1).scatter_reduce(0, ids, place, "amax")
    return view.rows(last[last >= 0])


@dataclass(frozen=True)
class _Names:
    """What a reader calls the rows."""

    images: Any
    rows: BankView

    def image(self, row: int) -> str:
        number = int(self.rows.fields["id"][row])
        return str(self.images.paths[number]) if isinstance(self.images, data.FolderImages) else str(number)

    def label(self, row: int) -> str:
        return self.images.class_names[int(self.rows.fields["label"][row])]

    def suspect(self, ranked: LabelAudit, row: int, rank: int) -> SuspectRow:
        other = self.images.class_names[int(ranked.other_label[row])]
        number, step = int(self.rows.fields["id"][row]), int(self.rows.steps[row])
        own, similarity = round(float(ranked.own[row]), 4), round(float(ranked.other[row]), 4)
        return SuspectRow(rank, number, self.image(row), self.label(row), own, other, similarity, step)

    def duplicate(self, first: int, second: int, similarity: float) -> DuplicateRow:
        (one, another) = (
            (int(self.rows.fields["id"][row]), self.image(row), self.label(row)) for row in (first, second)
        )
        return DuplicateRow(*one, *another, round(similarity, 4))


def _beside(rows: BankView, ranked: LabelAudit, row: int, class_names: Sequence[str]) -> report.Suspect:
    """A suspect with some images of both classes."""
    labels, ids = rows.fields["label"], rows.fields["id"]

    def of_class(label: Int64[Tensor, ""]) -> tuple[int, ...]:
        members = (labels == label).nonzero()[:, 0]
        return tuple(ids[members[members != row]][:_BESIDE].tolist())

    other = ranked.other_label[row]
    return report.Suspect(int(ids[row]), of_class(labels[row]), of_class(other), class_names[int(other)])


def _write_csv(path: Path, line: type, lines: Sequence[Any]) -> None:
    content = io.StringIO()
    writer = csv.writer(content)
    writer.writerow(field.name for field in fields(line))
    writer.writerows(astuple(each) for each in lines)
    atomic_write(path, content.getvalue().encode())
