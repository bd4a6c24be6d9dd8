"""A progress bar for the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torchbank.training import Progress, is_main_process


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[Progress], None]]:
    """A bar on stderr, and the callback that moves it; it appears with the first move, after what may fail early.

    Args:
        title: What is running.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(),
    )
    latest: dict[str, int | float] = {}
    bars = Bars(*columns, console=Console(stderr=True, quiet=not is_main_process()))
    task = bars.add_task(title, total=None, numbers="")

    def move(progress: Progress) -> None:
        bars.start()
        latest.update(progress.values)
        bars.update(task, total=progress.steps, completed=progress.step, numbers=_numbers(latest))

    try:
        yield move
    finally:
        if latest:
            bars.stop()


def _numbers(values: dict[str, int | float]) -> str:
    texts = []
    if "train/loss" in values:
        texts.append(f"loss {values['train/loss']:.3f}")
    if "test/map_at_r" in values:
        texts.append(f"R@1 {values['test/recall_at_1']:.1%} MAP@R {values['test/map_at_r']:.1%}")
    if "test/knn_accuracy" in values:
        texts.append(f"k-NN {values['test/knn_accuracy']:.1%}")
    if "test/pairs" in values:
        there, back = (values[f"test/{way}_recall_at_1"] for way in ("forward", "backward"))
        texts.append(f"R@1 {there:.1%} back {back:.1%}")
    return "  ".join(texts)
