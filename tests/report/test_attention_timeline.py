"""The picture of what a memory attended to is drawn, and of nothing there is none."""

import pytest
import torch
from PIL import Image

from torchbank import video
from torchbank.errors import BankValueError
from torchbank.report import plot_attention_timeline


def steps(memory, moments):
    generator = torch.Generator().manual_seed(0)
    contexts = [memory.step(torch.randn(1, 4, generator=generator), float(moment)) for moment in range(moments)]
    return video.Context(*(torch.cat(column) for column in zip(*contexts, strict=True)))


def test_timeline__is_a_picture_with_its_marks(tmp_path):
    contexts = steps(video.TemporalMemory(4, 3, evict=video.UniformOverLifetime()), 12)
    times = torch.arange(12, dtype=torch.float64)
    plot_attention_timeline(times, contexts, tmp_path / "plain.png")
    plot_attention_timeline(times, contexts, tmp_path / "marked.png", name="hall.mp4", marks=[(2.0, "opens")])
    plain, marked = (Image.open(tmp_path / f"{name}.png").convert("RGB") for name in ("plain", "marked"))
    # Vermilion is there where something is marked, and only there.
    vermilion = [
        sum(count for count, (red, green, blue) in image.getcolors(1 << 24) if red > 180 and green < 130 and blue < 40)
        for image in (plain, marked)
    ]
    assert vermilion[0] == 0 < vermilion[1]


@pytest.mark.plain
def test_timeline__of_an_empty_memory_is_refused(tmp_path):
    contexts = steps(video.TemporalMemory(4, 3), 1)
    with pytest.raises(BankValueError, match="nothing was read at any moment"):
        plot_attention_timeline(torch.zeros(1, dtype=torch.float64), contexts, tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()
