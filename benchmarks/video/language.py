"""Bits per character of a small language model: without memory, with one of hidden states, with a longer window.

Everyone has the same network, text, number of steps and characters a step. Then the model that remembers most is given
a bank of another kind, without training it again: all states of the text that it learned from, each with the character
that followed, to be found by likeness [Khandelwal et al. 2020](arXiv:1911.00172).
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from torchbank import MemoryBank
from torchbank.video import TemporalMemory

from ..documents import ROOT
from ..jobs import Job, Record
from .intervals import Interval
from .language_model import DIM, LanguageModel, remember

NAME = "video-language"
PAGE = ROOT / "docs" / "context-window.md"
TEXT = Path(__file__).parent / "text" / "genesis.txt"
TRAINED, HELD_OUT = 0.85, 0.05
"""Parts of the text: learned from, held out to choose how to mix with a bank; the rest is scored."""
SEEDS = (0, 1, 2)
STEPS, CHARACTERS, LEARNING_RATE = 600, 1_024, 4e-3
"""Steps, characters of each in all texts together."""
TEXTS = 8
"""At once when a text is scored."""
VARIANTS = {
    "segment of 32": {"length": 32, "segments": 0},
    "+ memory of 32 states": {"length": 32, "segments": 1},
    "+ memory of 96 states": {"length": 32, "segments": 3},
    "window of 64": {"length": 64, "segments": 0},
    "window of 128": {"length": 128, "segments": 0},
}
BANK = "+ memory of 96 states"
"""The variant that is also given a bank of the whole text."""
NEIGHBORS, SCALES, SHARES = 32, (0.5, 1.0, 2.0), (0.05, 0.1, 0.2, 0.3)


def work(settings: Record) -> Record:
    """Train one variant and score it: a job of `benchmarks.jobs`."""
    torch.set_num_threads(1)
    begin = time.process_time()
    torch.manual_seed(settings["seed"])
    text, characters = read_text(settings["tiny"])
    parts = text.tensor_split([int(TRAINED * len(text)), int((TRAINED + HELD_OUT) * len(text))])
    model = LanguageModel(characters)
    train(model, parts[0], settings)
    result = {"bits": bits(model, parts[2], settings), "train_seconds": time.process_time() - begin}
    if settings["bank"]:
        result |= with_bank(model, parts, settings)
    return {**result, "cpu_seconds": time.process_time() - begin}


def read_text(tiny: bool) -> tuple[Tensor, int]:
    """The numbers of its characters, and how many different ones there are."""
    content = TEXT.read_text()
    names = {name: number for number, name in enumerate(sorted(set(content)))}
    return torch.tensor([names[name] for name in content[: 20_000 if tiny else None]]), len(names)


def train(model: LanguageModel, text: Tensor, settings: Record) -> None:
    """Read the text in many places at once, segment by segment; a memory lasts until its text ends."""
    length, steps = settings["length"], settings["steps"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    texts = _split(text, CHARACTERS // length)
    done = 0
    while done < steps:
        memories = _memories(len(texts), settings)
        # Each time it begins elsewhere, so that segments do not begin at the same characters.
        for begin in range(int(torch.randint(length, ())), texts.shape[1] - length, length):
            logits = model(texts[:, begin : begin + length], begin, memories)
            loss = cross_entropy(logits.flatten(0, 1), texts[:, begin + 1 : begin + 1 + length].flatten())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            done += 1
            if done == steps:
                return


def _split(text: Tensor, texts: int) -> Tensor:
    """``(texts, n)``, one part after the other."""
    return text[: len(text) // texts * texts].view(texts, -1)


def _memories(texts: int, settings: Record) -> list[TemporalMemory] | None:
    return remember(texts, settings["segments"], settings["length"]) if settings["segments"] else None


@torch.no_grad()
def read_through(model: LanguageModel, text: Tensor, settings: Record) -> tuple[Tensor, Tensor]:
    """Read some texts segment by segment: states ``(n, d)``, and the characters ``(n,)`` that followed."""
    length, texts = settings["length"], _split(text, TEXTS)
    memories = _memories(TEXTS, settings)
    ends = range(length, texts.shape[1], length)
    states = [model.states(texts[:, end - length : end], end - length, memories) for end in ends]
    return torch.cat(states, dim=1).flatten(0, 1), texts[:, 1 : 1 + length * len(ends)].flatten()


def bits(model: LanguageModel, text: Tensor, settings: Record) -> float:
    """Mean bits per character."""
    states, after = read_through(model, text, settings)
    with torch.no_grad():
        return cross_entropy(model.logits(states), after).item() / math.log(2)


@torch.no_grad()
def with_bank(model: LanguageModel, parts: Sequence[Tensor], settings: Record) -> Record:
    """Bits when the model's guess is mixed with the characters that followed the most alike states of a bank."""
    states, after = read_through(model, parts[0], settings)
    bank = MemoryBank(len(states), DIM, fields={"after": torch.int64}, metric="euclidean")
    bank.push(states, after=after)
    held_out, scored = (_guesses(model, bank, part, settings) for part in parts[1:])
    tried = {(scale, share): _mixed(*held_out, scale, share) for scale in SCALES for share in SHARES}
    scale, share = min(tried, key=lambda key: tried[key])
    return {"bank_bits": _mixed(*scored, scale, share), "bank_rows": len(bank), "scale": scale, "share": share}


def _guesses(model: LanguageModel, bank: MemoryBank, text: Tensor, settings: Record) -> tuple[Tensor, Tensor, Tensor]:
    """For each character the model's probability, and scores and hits ``(n, k)`` of its neighbours."""
    states, after = read_through(model, text, settings)
    guessed = model.logits(states).softmax(dim=1).gather(1, after[:, None])[:, 0]
    found = [bank.nearest(part, k=NEIGHBORS) for part in states.split(512)]
    slots = torch.cat([part.slots for part in found])
    return guessed, torch.cat([part.scores for part in found]), bank.fields["after"][slots] == after[:, None]


def _mixed(guessed: Tensor, scores: Tensor, hits: Tensor, scale: float, share: float) -> float:
    weights = (scale * scores).softmax(dim=1)
    mixed = (1 - share) * guessed + share * (weights * hits).sum(dim=1)
    return -mixed.log2().mean().item()


def jobs(seeds: Sequence[int], *, tiny: bool) -> list[Job]:
    """One a variant and seed."""
    steps = 3 if tiny else STEPS
    return [
        Job(
            f"language{number}-seed{seed}",
            {"who": who, **variant, "seed": seed, "bank": who == BANK, "steps": steps, "tiny": tiny},
        )
        for number, (who, variant) in enumerate(VARIANTS.items())
        for seed in seeds
    ]


def markdown(runs: Sequence[Record]) -> str:
    """One row a variant, and one for the bank."""
    seeds = len({run["seed"] for run in runs})
    out = [
        f"{runs[0]['steps']:,} steps of {CHARACTERS:,} characters, mean of {seeds} seeds with 95 % intervals, on the "
        "last tenth of the text:",
        "",
        "| model | bits per character | states that a character attends to, at most | CPU seconds to train |",
        "|---|---|---|---|",
    ]
    for who, variant in VARIANTS.items():
        mine = [run for run in runs if run["who"] == who]
        seen = variant["length"] * (1 + variant["segments"])
        seconds = Interval.of([run["train_seconds"] for run in mine])
        out.append(f"| {who} | {_cell([run['bits'] for run in mine])} | {seen} | {seconds.mean:.0f} |")
    mine = [run for run in runs if "bank_bits" in run]
    out.append(f"| {BANK}, + bank of {mine[0]['bank_rows']:,} states | {_cell([run['bank_bits'] for run in mine])} | "
               "the whole text that it learned from, by likeness | + 0 |")  # fmt: skip
    return "\n".join(out)


def _cell(values: Sequence[float]) -> str:
    interval = Interval.of(values)
    return f"{interval.mean:.3f}" if math.isnan(interval.half) else f"{interval.mean:.3f} ± {interval.half:.3f}"
