"""`torchbank train METHOD`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Generic, TypeVar

import tyro

from torchbank.cli._arguments import for_method, parse
from torchbank.cli._config import Recipe, RunConfig, parse_with_config
from torchbank.cli._errors import UsageError
from torchbank.cli._progress import progress_bar
from torchbank.cli._recipe import train_run
from torchbank.cli._tables import print_paths, print_summary
from torchbank.methods import METHODS
from torchbank.training import RunFolder

Method = TypeVar("Method")

_DESCRIPTION = """Train a method and score its encoder on the test part of its data.

The defaults below are those of kanji; each data set has its own, which suit it.

examples:
  torchbank train {name} --data kanji --seed 0 --run runs/kanji
  torchbank train {name} --run runs/kanji --resume
  torchbank train {name} --data folder --root photos --encoder timm:resnet50 --weights resnet50.safetensors
  torchbank train {name} --config sop --root Stanford_Online_Products"""


@dataclass(frozen=True)
class _Arguments(Generic[Method]):
    """Where the run lies.

    Args:
        config: What runs.
        recipe: Begin with the published settings of XBM on these data, ResNet-50 and all.
        run: The run folder; by default runs/METHOD-DATA-seedN.
        resume: Go on with the run in the folder from its last checkpoint, with the settings it was begun with.
    """

    config: Annotated[RunConfig[Method], tyro.conf.arg(name="")]
    recipe: Annotated[Recipe | None, tyro.conf.arg(name="config")] = None
    run: str | None = None
    resume: bool = False


def run(words: Sequence[str]) -> None:
    """Parse and train."""
    name, rest = method_and_rest("train", words)
    prog, description = f"torchbank train {name}", _DESCRIPTION.format(name=name)
    arguments = parse_with_config(_Arguments, name, rest, prog=prog, description=description)
    if arguments.resume:
        # What the folder says is the default now, so that only the folder must be named again.
        saved = RunConfig.from_json(RunFolder.open(_folder_of(arguments)).read_config())
        target = for_method(_Arguments, type(saved.method))
        arguments = parse(target, rest, prog=prog, description=description, default=_Arguments(saved))
    path = _folder_of(arguments)
    with progress_bar(f"{name}, seed {arguments.config.training.seed}") as move:
        summary = train_run(arguments.config, path, resume=arguments.resume, on_progress=move)
    print_summary(summary)
    print_paths("pictures", sorted(RunFolder(Path(path)).plots.glob("*.png")))


def method_and_rest(verb: str, words: Sequence[str]) -> tuple[str, list[str]]:
    """Split off the method's name, the first word after a verb.

    Raises:
        UsageError: There is none.
    """
    known = ", ".join(sorted(METHODS))
    if words and words[0] in ("-h", "--help"):
        print(f"usage: torchbank {verb} METHOD [OPTIONS]\n\nmethods: {known}\n")
        print(f"torchbank {verb} METHOD --help lists the options of a method.")
        raise SystemExit(0)
    if not words or words[0].startswith("-"):
        msg = f"torchbank {verb} needs a method; expected one of {known}, such as torchbank {verb} xbm"
        raise UsageError(msg)
    return words[0], list(words[1:])


def _folder_of(arguments: _Arguments) -> str:
    config = arguments.config
    return arguments.run or f"runs/{config.method_name}-{config.data.data}-seed{config.training.seed}"
