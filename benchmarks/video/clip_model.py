"""The model that sees seconds: a small convnet, trained on single clips, frozen afterwards."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from .films import FRAMES, SIDE, Films

DIM = 16
WIDTHS = (16, 32, 48)
BATCH, LEARNING_RATE = 64, 1e-2
NOTHING = 0.8
"""Share of the clips to train on that show nothing that matters; in films nearly all do."""


class ClipModel(nn.Module):
    """Clips ``(b, f, h, w)`` in [0, 1] to features ``(b, DIM)`` of length 1, and to the labels of each head."""

    def __init__(self, classes: tuple[int, ...]) -> None:
        super().__init__()
        layers, inputs, side = [], FRAMES, SIDE
        for width in WIDTHS:
            layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.MaxPool2d(2)]
            layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            inputs, side = width, side // 2
        self.encoder = nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * side**2, DIM))
        self.heads = nn.ModuleList(nn.Linear(DIM, count) for count in classes)
        # Features have length 1, logits need not.
        self.scale = nn.Parameter(torch.tensor(8.0))

    def forward(self, clips: Tensor) -> Tensor:
        """Features."""
        return normalize(self.encoder(clips.contiguous(memory_format=torch.channels_last)), dim=1)

    def logits(self, features: Tensor) -> list[Tensor]:
        """Of each head ``(b, classes)``."""
        return [head(self.scale * features) for head in self.heads]


class Seen(NamedTuple):
    """Films as the clip model sees them.

    Attributes:
        features: ``(n, t, DIM)``.
        quality: ``(n, t)``, how likely a clip shows something that matters.
    """

    features: Tensor
    quality: Tensor


def train(films: Films, classes: tuple[int, ...], seed: int, *, steps: int) -> ClipModel:
    """A clip model of single clips: its training set has nothing longer."""
    torch.manual_seed(seed)
    model = ClipModel(classes)
    labels = torch.from_numpy(films.labels).flatten(0, 1)
    matters = torch.nonzero(labels[:, 0] > 0).flatten()
    others = torch.nonzero(labels[:, 0] == 0).flatten()
    others = others[torch.randperm(len(others))[: round(len(matters) * NOTHING / (1 - NOTHING))]]
    rows = torch.cat([matters, others])
    clips, labels = torch.from_numpy(films.clips).flatten(0, 1)[rows], labels[rows]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in range(steps):
        batch = torch.randint(len(rows), (BATCH,))
        logits = model.logits(model(clips[batch].float() / 255))
        loss = torch.stack([cross_entropy(*pair) for pair in zip(logits, labels[batch].T, strict=True)]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def see(model: ClipModel, films: Films) -> Seen:
    """Features of every clip, once."""
    clips = torch.from_numpy(films.clips).flatten(0, 1)
    features = torch.cat([model(part.float() / 255) for part in clips.split(256)])
    quality = 1 - model.logits(features)[0].softmax(dim=1)[:, 0]
    shape = films.labels.shape[:2]
    return Seen(features.unflatten(0, shape), quality.unflatten(0, shape))


@torch.no_grad()
def clip_accuracy(model: ClipModel, seen: Seen, films: Films) -> float:
    """Share of the clips that show something that matters of which all heads are right."""
    labels = torch.from_numpy(films.labels)
    matters = labels[..., 0] > 0
    logits = model.logits(seen.features[matters])
    guesses = torch.stack([part.argmax(dim=1) for part in logits], dim=1)
    return (guesses == labels[matters]).all(dim=1).float().mean().item()
