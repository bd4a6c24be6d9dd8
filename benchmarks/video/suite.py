"""Films through all contestants: a job of `benchmarks.jobs` for each task and seed."""

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from torchbank import video

from ..jobs import Job, Record
from . import bank_head, read_out
from .clip_model import DIM, Seen
from .contestants import CAPACITY, CONTESTANTS, SHARPNESS, Contestant, Recall, Recurrent, remember
from .films import SECONDS
from .scene import TINY, Scene, Sizes, prepare, right, scores

SEEDS = (0, 1, 2, 3, 4)
CHOOSING = 100
"""The seed on whose films settings are chosen; it is never scored."""
READS = {
    "attention": video.Attention(scale=SHARPNESS),
    "average": video.Average(),
    "maximum": video.Maximum(),
    "nearest": video.Nearest(),
}
GRU: Record = {"steps": 1_000, "rate": 3e-3}
"""What a GRU is given: in the steps of the others, and at their rate, it learns nothing."""
READ_OF = "quality"
"""The rule with which the reads are compared."""


def work(settings: Record) -> Record:
    """One task and seed: with settings chosen before, or those of the seed that chooses."""
    torch.set_num_threads(1)
    begin = time.process_time()
    scene = prepare(settings["task"], settings["seed"], TINY if settings["tiny"] else Sizes())
    result = _choose(scene) if settings["chosen"] is None else _score(scene, settings)
    return {**result, "clip_accuracy": scene.clip_accuracy, "cpu_seconds": time.process_time() - begin}


def _choose(scene: Scene) -> Record:
    """The best setting of each contestant, and what all were good for."""
    tried = {
        name: [right(scene, _trained(scene, contestant, setting, seed=0)).mean() for setting in contestant.settings]
        for name, contestant in CONTESTANTS.items()
        if len(contestant.settings) > 1
    }
    best = {name: CONTESTANTS[name].settings[int(np.argmax(values))] for name, values in tried.items()}
    return {"best": best, "tried": {name: [float(value) for value in values] for name, values in tried.items()}}


def _score(scene: Scene, settings: Record) -> Record:
    lines = []
    for name, contestant in CONTESTANTS.items():
        setting = settings["chosen"].get(name, contestant.settings[0])
        begin = time.process_time()
        said = _trained(scene, contestant, setting, seed=settings["seed"])
        line = {"who": name, "setting": setting, "bytes": _bytes(contestant)}
        lines.append(line | scores(scene, said) | {"cpu_seconds": time.process_time() - begin})
    lines += [{"who": who, **scores(scene, torch.from_numpy(said))} for who, said in scene.asked.guesses.items()]
    reads = []
    for name, read in READS.items():
        said = _trained(scene, CONTESTANTS[READ_OF], settings["chosen"][READ_OF], seed=settings["seed"], read=read)
        reads.append({"read": name, **scores(scene, said)})
    leaks = {
        name: future_leak(contestant, settings["chosen"].get(name, contestant.settings[0]), scene.ask)
        for name, contestant in CONTESTANTS.items()
        # It does not depend on what is learned, so that one seed will do.
        if settings["seed"] == 0 and not contestant.gru
    }
    result = {"lines": lines, "reads": reads, "leaks": leaks}
    if settings["task"] == "events":
        result["head"] = bank_head.lines(scene, settings["seed"])
    return result


def _trained(
    scene: Scene,
    contestant: Contestant,
    setting: float,
    *,
    seed: int,
    read: video.Attention | video.Average | video.Maximum | video.Nearest = READS["attention"],
) -> Tensor:
    """What a contestant says of the films to be asked, ``(n, heads)``."""
    torch.manual_seed(seed)
    if contestant.gru:
        before = after = None
        recall = Recurrent()
    else:
        before, after = (remember(contestant, setting, seen) for seen in (scene.learn, scene.ask))
        recall = Recall(read)
    model = read_out.Answer(recall, scene.task.classes)
    read_out.train(model, before, scene.learn, scene.targets, seed, **(GRU if contestant.gru else {}))
    return read_out.answers(model, after, scene.ask)


def _bytes(contestant: Contestant) -> int:
    """Of what is remembered of one film: rows or a state, float32."""
    rows = CAPACITY if contestant.gru else contestant.capacity
    return 4 * DIM * rows


@torch.no_grad()
def future_leak(contestant: Contestant, setting: float, seen: Seen, *, films: int = 8) -> float:
    """How far what was read in the first half of some films moves when their second half is changed."""
    half = seen.quality.shape[1] // 2
    some = Seen(*(part[:films] for part in seen))
    other = Seen(*(torch.cat([part[:, :half], part[:, half:].flip(0)], dim=1) for part in some))
    before, after = (_contexts(contestant, setting, films, half) for films in (some, other))
    return (before - after).abs().max().item()


def _contexts(contestant: Contestant, setting: float, seen: Seen, clips: int) -> Tensor:
    """What is read at each of the first clips, when all clips have been written."""
    memory = video.TemporalMemory(DIM, contestant.capacity, streams=len(seen.quality), **contestant.rules(setting))
    contexts = []
    for clip in range(seen.quality.shape[1]):
        quality = seen.quality[:, clip]
        pins = {"pin": quality > 0.5} if contestant.pins else {}
        contexts.append(memory.step(seen.features[:, clip], SECONDS * clip, quality=quality, **pins).value)
    return torch.stack(contexts[:clips])


def jobs(tasks: Sequence[str], seeds: Sequence[int], chosen: dict[str, Record | None], *, tiny: bool) -> list[Job]:
    """One a task and seed."""
    return [
        Job(f"{task}-seed{seed}", {"task": task, "seed": seed, "chosen": chosen[task], "tiny": tiny})
        for seed in seeds
        for task in tasks
    ]
