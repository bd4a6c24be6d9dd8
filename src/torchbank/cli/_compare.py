"""`torchbank compare METHOD`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

import tyro

from torchbank.cli._compare_runs import Plan, compare_runs
from torchbank.cli._config import Recipe, RunConfig, parse_with_config
from torchbank.cli._progress import progress_bar
from torchbank.cli._tables import print_comparison, print_paths
from torchbank.cli._train import method_and_rest

Method = TypeVar("Method")

_DESCRIPTION = """Train one setting without and with memory and show both in one table, a JSON file and a picture.

Each side may have settings of its own, so that each can be at its best:
  torchbank compare {name} --seeds 0 1 2 --without learning-rate=1e-3 --with memory-normalize=active

What a memory buys that a larger batch costs:
  torchbank compare {name} --batch-sizes 16 64 256 --run runs/sweep"""


@dataclass(frozen=True)
class _Arguments(Generic[Method]):
    """What is compared.

    Args:
        config: What all runs share.
        recipe: Begin with the published settings of XBM on these data, ResNet-50 and all.
        seeds: Seeds; each side runs once with each.
        batch_sizes: Batch sizes to sweep over.
        without: Settings of the side without memory only.
        with_memory: Settings of the side with memory only.
        run: The folder of run folders; by default runs/compare-METHOD-DATA.
        resume: Keep the runs in the folder that are finished and go on with the others.
    """

    config: Annotated[RunConfig[Method], tyro.conf.arg(name="")]
    recipe: Annotated[Recipe | None, tyro.conf.arg(name="config")] = None
    seeds: tuple[int, ...] = (0, 1, 2)
    batch_sizes: tuple[int, ...] = ()
    without: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    with_memory: Annotated[tuple[str, ...], tyro.conf.arg(name="with", metavar="NAME=VALUE ...")] = ()
    run: str | None = None
    resume: bool = False


def run(words: Sequence[str]) -> None:
    """Parse and compare."""
    name, rest = method_and_rest("compare", words)
    prog, description = f"torchbank compare {name}", _DESCRIPTION.format(name=name)
    arguments = parse_with_config(_Arguments, name, rest, prog=prog, description=description)
    path = arguments.run or f"runs/compare-{name}-{arguments.config.data.data}"
    plan = Plan(arguments.config, arguments.seeds, arguments.batch_sizes, arguments.without, arguments.with_memory)
    comparison, picture = compare_runs(plan, path, progress_bar=progress_bar, resume=arguments.resume)
    print_comparison(comparison)
    print_paths("picture", [picture])
