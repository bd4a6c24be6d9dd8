"""What happened while training: the loss, and scores on the test part of the data."""

from dataclasses import dataclass
from pathlib import Path

from torchbank.errors import BankValueError
from torchbank.report._style import BLUE, VERMILION, mark_step, picture, thousands

Metrics = list[dict[str, int | float]]


@dataclass(frozen=True)
class _Scored:
    """Scores that belong together: what they are on, and the word of each name."""

    what: str
    words: dict[str, str]


# Which of them a run has depends on its data.
_SCORED = (
    _Scored("unseen classes", {"test/recall_at_1": "R@1", "test/map_at_r": "MAP@R"}),
    _Scored("unseen pairs", {"test/forward_recall_at_1": "R@1", "test/backward_recall_at_1": "R@1 back"}),
    _Scored("test images", {"test/knn_accuracy": "k-NN"}),
)
_LOOKS = ((VERMILION, "s"), (BLUE, "o"))


def plot_loss(metrics: Metrics, path: str | Path, *, memory_start: int | None = None) -> None:
    """Draw the training loss over steps.

    Args:
        metrics: The lines of a ``metrics.jsonl`` (`torchbank.training.read_metrics`).
        path: The PNG to write.
        memory_start: The step from which a memory takes part, to be marked.

    Raises:
        BankValueError: The metrics hold no loss.
    """
    steps, losses = series(metrics, "train/loss")
    with picture(Path(path)) as figure:
        axes = figure.subplots()
        axes.plot(steps, losses, color=BLUE, alpha=0.3, linewidth=1.2, label="loss")
        before = _count_up_to(steps, memory_start)
        # The memory adds a term of its own, so a mean over both sides of its start would mean nothing.
        parts = [part for part in (slice(0, before), slice(before, None)) if steps[part]]
        means = [_smoothed(losses[part]) for part in parts]
        for part, mean in zip(parts, means, strict=True):
            axes.plot(steps[part], mean, color=BLUE, label="running mean" if part.start == 0 else None)
        axes.set(xlabel="training step", ylabel="loss", xlim=(0, None))
        axes.set_title(_loss_title(means))
        mark_step(axes, memory_start, "memory term added")
        thousands(axes.xaxis)
        axes.legend()


def plot_scores(metrics: Metrics, path: str | Path, *, memory_start: int | None = None) -> None:
    """Draw the scores on the test part over steps: R@1 and MAP@R, or k-NN accuracy, or R@1 of pairs both ways.

    Args:
        metrics: The lines of a ``metrics.jsonl``.
        path: The PNG to write.
        memory_start: The step from which a memory takes part, to be marked.

    Raises:
        BankValueError: The metrics hold no evaluation.
    """
    present = [scored for scored in _SCORED if any(scored.words.keys() & line.keys() for line in metrics)]
    if not present:
        msg = "the metrics hold no score of the test part; train for at least one evaluation before drawing it"
        raise BankValueError(msg)
    what, words = present[0].what, present[0].words
    with picture(Path(path)) as figure:
        axes = figure.subplots()
        finals = []
        for (name, word), (color, marker) in zip(words.items(), _LOOKS[-len(words) :], strict=True):
            steps, values = series(metrics, name)
            percent = [100 * value for value in values]
            finals.append(f"{word} {'' if finals else 'reaches '}{percent[-1]:.1f} %")
            axes.plot(steps, percent, color=color, marker=marker, markersize=7)
            axes.annotate(
                f"{word} {percent[-1]:.1f}",
                xy=(steps[-1], percent[-1]),
                xytext=(10, 0),
                textcoords="offset points",
                va="center",
                color=color,
                fontweight="bold",
                annotation_clip=False,
            )
        axes.set(xlabel="training step", ylabel=_scale(metrics, what), xlim=(0, None))
        # Scores that hardly change would touch the upper edge.
        axes.set_ylim(0, 1.02 * axes.get_ylim()[1])
        mark_step(axes, memory_start, "memory starts")
        axes.set_title(f"{what.capitalize()}: {', '.join(finals)}")
        thousands(axes.xaxis)


def _scale(metrics: Metrics, what: str) -> str:
    """What the vertical axis shows; of k-NN it says little without k and temperature."""
    evaluated = [line for line in metrics if "test/knn_accuracy" in line]
    if not evaluated:
        return f"score on {what} (%)"
    last = evaluated[-1]
    return f"accuracy on {what} (%), k {last['test/knn_k']}, T {last['test/knn_temperature']:g}"


def series(metrics: Metrics, name: str) -> tuple[list[int | float], list[int | float]]:
    """Steps and values of the lines that hold a name.

    Raises:
        BankValueError: None does.
    """
    lines = [line for line in metrics if name in line]
    if not lines:
        msg = f"the metrics hold no {name!r}; train for at least one log or evaluation before drawing it"
        raise BankValueError(msg)
    return [line["step"] for line in lines], [line[name] for line in lines]


def _smoothed(values: list[int | float], share: float = 0.05) -> list[int | float]:
    """The mean of each value and those around it, ``share`` of the whole length in all."""
    reach = max(1, round(len(values) * share / 2))
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def _count_up_to(steps: list[int | float], last: int | None) -> int:
    return len(steps) if last is None else sum(step <= last for step in steps)


def _loss_title(means: list[list[int | float]]) -> str:
    title = f"Loss {means[0][0]:.2f} to {means[0][-1]:.2f}"
    if len(means) == 1:
        return title
    return f"{title}; with the memory term, {means[1][0]:.2f} to {means[1][-1]:.2f}"
