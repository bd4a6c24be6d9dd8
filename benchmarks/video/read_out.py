"""What every contestant learns in the same way: from its context and the last clip to the answer."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from .clip_model import DIM, Seen

HIDDEN = 64
RATE = 1e-2
BATCH, STEPS, WEIGHT_DECAY = 64, 400, 1e-2


class Answer(nn.Module):
    """Last clip and context to the logits of each head."""

    def __init__(self, recall: nn.Module, classes: tuple[int, ...]) -> None:
        super().__init__()
        self.recall = recall
        self.classes = classes
        self.layers = nn.Sequential(nn.Linear(2 * DIM, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, sum(classes)))

    def forward(self, memory: Any, seen: Seen, films: Tensor) -> tuple[Tensor, ...]:
        """Logits ``(b, classes)`` of each head."""
        context = self.recall(memory, seen, films)
        return self.layers(torch.cat([seen.features[films, -1], context], dim=1)).split(self.classes, dim=1)


def train(
    model: nn.Module, memory: Any, seen: Seen, targets: Tensor, seed: int, *, steps: int = STEPS, rate: float = RATE
) -> nn.Module:
    """Fit to films to learn from."""
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for _ in range(steps):
        films = torch.randint(len(targets), (BATCH,))
        logits = model(memory, seen, films)
        loss = torch.stack([cross_entropy(*pair) for pair in zip(logits, targets[films].T, strict=True)]).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def answers(model: nn.Module, memory: Any, seen: Seen) -> Tensor:
    """``(n, heads)`` what it says of each film."""
    films = torch.arange(len(seen.features))
    return torch.cat(
        [torch.stack([head.argmax(dim=1) for head in model(memory, seen, part)], dim=1) for part in films.split(256)]
    )
