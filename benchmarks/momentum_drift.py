"""What the momentum encoder does to drift: `python -m benchmarks.momentum_drift [--steps N] [--out FILE]`.

MoCo is trained on kanji without labels at four momenta, all else equal. From the middle of the training on, a fixed
batch of test images is encoded by the key encoder every few steps; drift at an age is the mean squared distance between
the embeddings of an image that many steps apart. Writes JSON, and draws docs/images/momentum-drift.png.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchbank import data, encoders, evaluation
from torchbank.data import ViewBatch
from torchbank.methods import MoCo, MoCoConfig
from torchbank.report import _style
from torchbank.training import seed_everything

from .measure import machine

HERE = Path(__file__).parent
RESULT = HERE / "results" / "momentum-drift.json"
PICTURE = HERE.parent / "docs" / "images" / "momentum-drift.png"

MOMENTA = (0.0, 0.9, 0.99, 0.999)
LOOKS = dict(
    zip(
        MOMENTA,
        [(_style.VERMILION, "s"), (_style.ORANGE, "D"), (_style.GREEN, "^"), (_style.BLUE, "o")],
        strict=True,
    )
)
BATCH, CAPACITY, PROBES, RETRIEVED = 64, 1_024, 256, 2_000
EVERY = 4  # steps between two looks at the probes


def train(momentum: float, steps: int, split: data.Split) -> dict[str, Any]:
    """Train once; drift by age, and how well the features of unseen classes retrieve."""
    seed_everything(0)
    encoder = encoders.ConvNet(128, channels=1, widths=(8, 16, 32, 64))
    settings = MoCoConfig(
        dim=128, projection_dim=64, capacity=CAPACITY, temperature=0.1, head="mlp-bn", momentum=momentum
    )
    method = MoCo(encoder, settings, dataset_size=len(split.train))
    optimizer = torch.optim.AdamW(method.student.parameters(), lr=2e-3)
    augment = data.augmentation("glyph", split.train.image_shape)
    probes = split.test.images(torch.linspace(0, len(split.test) - 1, PROBES).long())
    seen: list[Tensor] = []
    begin = time.perf_counter()
    for step in range(steps):
        ids = torch.randint(len(split.train), (BATCH,))
        images = split.train.images(ids)
        batch = ViewBatch((augment(images), augment(images)), torch.zeros_like(ids), ids)
        output = method(batch, step=step)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        method.after_step()
        if step >= steps // 2 and step % EVERY == 0:
            # As a key is: in train mode, by the statistics of its batch.
            seen.append(torch.nn.functional.normalize(method.teacher((probes,))[0], dim=1))
    few = [block.tolist() for block in torch.arange(RETRIEVED).split(256)]
    test = encoders.encode(encoder, data.loader(split.test, batch_sampler=few))
    return {
        "momentum": momentum,
        "seconds": time.perf_counter() - begin,
        "loss": output.loss.item(),
        "scores": evaluation.retrieval(test.embeddings, test.labels).as_dict(),
        **drift_by_age(seen),
    }


def drift_by_age(seen: list[Tensor]) -> dict[str, list[float]]:
    """The mean over images and moments of the squared distance, for ages half an octave apart."""
    apart = sorted({round(2 ** (half / 2)) for half in range(40)} & set(range(1, 1 + len(seen) // 2)))
    distances = [
        torch.stack([(now - then).square().sum(dim=1).mean() for then, now in zip(seen, seen[gap:], strict=False)])
        for gap in apart
    ]
    return {"age": [float(EVERY * gap) for gap in apart], "mean": [each.mean().item() for each in distances]}


def draw(result: dict[str, Any], path: Path) -> None:
    """Drift by age, a line for each momentum."""
    runs = result["runs"]
    with _style.picture(path) as figure:
        axes = figure.add_subplot()
        for run in runs:
            color, marker = LOOKS[run["momentum"]]
            axes.plot(run["age"], run["mean"], color=color, marker=marker, markersize=7, label=f"{run['momentum']:g}")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("age of the stored key (training steps)")
        axes.set_ylabel("squared distance to the key now\n(0 the same, 2 unrelated)")
        axes.set_ylim(top=10)  # the word of the mark stands above the lines
        _style.mark_step(axes, CAPACITY // BATCH, "oldest key in the queue")
        axes.set_title("The slower the key encoder, the fresher its old keys")
        axes.legend(title="momentum", loc="lower right")
        _style.thousands(axes.xaxis)
        axes.yaxis.set_major_formatter("{x:g}")


def main() -> None:
    """Train at each momentum, write the result, draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400, help="updates of each of the four runs")
    parser.add_argument("--out", type=Path, default=RESULT, help="the JSON")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="the PNG")
    chosen = parser.parse_args()
    split = data.load("kanji")
    result: dict[str, Any] = {"machine": machine("cpu"), "steps": chosen.steps, "batch": BATCH, "capacity": CAPACITY}
    result["runs"] = []
    for momentum in MOMENTA:
        run = train(momentum, chosen.steps, split)
        result["runs"].append(run)
        print(f"momentum {momentum:g}: {run['seconds']:.0f} s, loss {run['loss']:.2f}, {run['scores']}", flush=True)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(result, indent=1) + "\n")
    draw(result, chosen.picture)
    print(f"written: {chosen.out}, {chosen.picture}")


if __name__ == "__main__":
    main()
