"""How many suspects of an audit are wrong indeed: `python -m benchmarks.label_audit [--steps N]`.

A tenth of kanji's training labels is exchanged for another character at random, XBM is trained on them as in the demo,
and the rows that its memory holds at the end are ranked (`torchbank.evaluation.audit_labels`). Writes JSON, and draws
the first suspects: docs/images/label-audit.png.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from torchbank import data, evaluation, methods, report, training
from torchbank.cli._config import RunConfig
from torchbank.cli._recipe import build_encoder

from .measure import machine

HERE = Path(__file__).parent
RESULT = HERE / "results" / "label-audit.json"
PICTURE = HERE.parent / "docs" / "images" / "label-audit.png"

SHARE = 0.1
TOPS = (100, 500, 1_000)
DRAWN, BESIDE = 8, 4


def exchange_labels(labels: Tensor, *, share: float, seed: int) -> Tensor:
    """Give a share of the rows, drawn at random, the label of another class at random."""
    generator = torch.Generator().manual_seed(seed)
    classes, number = labels.unique(return_inverse=True)
    rows = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    shift = torch.randint(1, len(classes), (len(rows),), generator=generator)
    return labels.index_put((rows,), classes[(number[rows] + shift) % len(classes)])


def audit(steps: int | None, picture: Path) -> dict:
    """Train on exchanged labels; how many of the first suspects have one."""
    split = data.load("kanji")
    true = split.train.labels
    noisy = exchange_labels(true, share=SHARE, seed=0)
    pixels = (split.train.images(torch.arange(len(true))) * 255).round().to(torch.uint8)
    images = data.ArrayImages(pixels, noisy, class_names=split.train.class_names, name="kanji")
    config = RunConfig.default("xbm", "kanji").with_settings(() if steps is None else (f"steps={steps}",)).resolved()
    training.seed_everything(0)
    split = data.Split(images, split.test)
    method = methods.build("xbm", build_encoder(config, split), config.method, dataset_size=len(images))
    fitted = training.fit(method, split, replace(config.training, evaluate_every=0))
    rows = method.bank.ordered()
    ids = rows.fields["id"]
    last = torch.full((len(images),), -1).scatter_reduce(0, ids, torch.arange(len(ids)), "amax")
    rows = rows.rows(last[last >= 0])
    ids, labels = rows.fields["id"], rows.fields["label"]
    found = evaluation.audit_labels(rows.embeddings, labels)
    wrong = (noisy != true)[ids]
    draw(images, ids, labels, found, picture)
    return {
        "steps": config.training.steps,
        "remembered": len(ids),
        "of": len(images),
        "wrong": int(wrong.sum()),
        "precision_of_top": {top: wrong[found.ranking[:top]].float().mean().item() for top in TOPS},
        "other_class_is_the_true_one": (found.other_label == true[ids])[wrong].float().mean().item(),
        "scores": fitted.summary["scores"],
    }


def draw(images: data.ArrayImages, ids: Tensor, labels: Tensor, found: evaluation.LabelAudit, picture: Path) -> None:
    """The first suspects beside images of both classes."""
    suspects = []
    for row in found.ranking[:DRAWN].tolist():
        other = int(found.other_label[row])
        own, like = ((labels == label).nonzero()[:, 0] for label in (int(labels[row]), other))
        shown = (tuple(ids[members[members != row]][:BESIDE].tolist()) for members in (own, like))
        suspects.append(report.Suspect(int(ids[row]), *shown, images.class_names[other]))
    report.plot_suspect_sheet(images, suspects, picture)


def main() -> None:
    """Train, audit, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help="updates; by default those of the demo")
    parser.add_argument("--out", type=Path, default=RESULT, help="the JSON")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="the PNG")
    chosen = parser.parse_args()
    result = {"machine": machine("cpu"), "share": SHARE, **audit(chosen.steps, chosen.picture)}
    chosen.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["precision_of_top"]))
    print(f"written: {chosen.out}, {chosen.picture}")


if __name__ == "__main__":
    main()
