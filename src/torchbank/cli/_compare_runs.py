"""Several runs from one configuration: without and with memory, over seeds and batch sizes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from torchbank.cli._config import RunConfig
from torchbank.cli._recipe import train_run
from torchbank.errors import BankStateError, BankValueError
from torchbank.io import write_json
from torchbank.report import Comparison, Run, plot_batch_sizes, plot_comparison
from torchbank.training import Progress, RunFolder, is_main_process, process_count, told_by_first

ProgressBar = Callable[[str], AbstractContextManager[Callable[[Progress], None]]]


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Args:
        config: What the runs share.
        seeds: One run of each side for each.
        batch_sizes: One group of runs for each; empty is the batch size of the configuration. Several processes
            (torchrun) draw as much each.
        without: Settings of the side without memory only, such as "learning-rate=1e-3".
        with_memory: Settings of the side with memory only.
    """

    config: RunConfig
    seeds: tuple[int, ...]
    batch_sizes: tuple[int, ...] = ()
    without: tuple[str, ...] = ()
    with_memory: tuple[str, ...] = ()

    def runs(self) -> Iterator[tuple[str, int, int, RunConfig]]:
        """Memory, batch size, seed and configuration of every run.

        Raises:
            BankError: The method has no memory to switch, a setting is unknown, or a batch size does not fit.
        """
        shared = self.config
        # MaSSL's setting of that name says what is remembered, not whether anything is.
        if not isinstance(getattr(shared.method, "memory", None), bool):
            msg = (
                f"{shared.method_name} cannot be compared without its memory, for it has no setting memory=False; "
                "compare runs of other methods with torchbank train, such as moco beside simclr"
            )
            raise BankValueError(msg)
        for size in self.batch_sizes or (shared.training.batch_size,):
            for seed in self.seeds:
                for memory, settings in (("without", self.without), ("with", self.with_memory)):
                    config = shared.with_batch_size(size).with_settings([*settings, f"memory={memory == 'with'}"])
                    training = replace(config.training, seed=seed)
                    yield memory, size, seed, replace(config, training=training)

    def as_json(self) -> dict[str, object]:
        """The plan as nested plain values."""
        return {
            "config": self.config.as_json(),
            "seeds": list(self.seeds),
            "batch_sizes": list(self.batch_sizes),
            "without": list(self.without),
            "with": list(self.with_memory),
        }


def compare_runs(plan: Plan, path: str, *, progress_bar: ProgressBar, resume: bool = False) -> tuple[Comparison, Path]:
    """Run a plan, one run folder inside another, and write the comparison and its picture.

    Args:
        plan: What is compared.
        path: The folder of folders: it must not exist unless the comparison resumes.
        progress_bar: Makes a progress callback for a run of the given title.
        resume: Keep the runs that are finished, and go on with the others.

    Returns:
        The comparison, and its picture.

    Raises:
        BankError: A run of the plan cannot run, or the folder exists or does not fit.
    """
    folder, processes, finished = RunFolder(Path(path)), process_count(), []
    runs = [(memory, processes * size, seed, config) for memory, size, seed, config in plan.runs()]
    names = [f"batch{size}-{memory}-seed{seed}" for memory, size, seed, _ in runs]
    begun = told_by_first(lambda: _begin(plan, folder, names, resume=resume), plan.config.training)
    for (memory, size, seed, config), name in zip(runs, names, strict=True):
        with progress_bar(f"batch {size}, {memory} memory, seed {seed}") as move:
            summary = train_run(config, str(folder.path / name), resume=name in begun, on_progress=move)
        finished.append(Run(memory, size, seed, name, summary))
    comparison = Comparison(finished)
    picture = folder.plots / ("batch_sizes.png" if len(comparison.batch_sizes) > 1 else "comparison.png")
    if is_main_process():
        write_json(folder.path / "comparison.json", comparison.as_dict())
        draw = plot_batch_sizes if len(comparison.batch_sizes) > 1 else plot_comparison
        draw(comparison, picture)
    return comparison, picture


def _begin(plan: Plan, folder: RunFolder, names: Sequence[str], *, resume: bool) -> list[str]:
    """Make or open the folder of folders; the names of those in which a run was begun."""
    if not resume:
        RunFolder.create(folder.path, plan.as_json())
    elif RunFolder.open(folder.path).read_config() != plan.as_json():
        msg = f"{folder.path} was begun as another comparison (see its config.json); resume with the same settings"
        raise BankStateError(msg)
    return [name for name in names if RunFolder(folder.path / name).config.is_file()]
