"""The loop around a method.

A method is any `torch.nn.Module` with

- ``encoder``: the network that is evaluated;
- ``method(batch, step=step)``: an output with ``loss`` (0-d, differentiable) and ``logs`` (0-d tensors); the batch is a
  `torchbank.data.Batch`, or a `torchbank.data.ViewBatch` where views are drawn or the data are pairs;
- ``before_step()``, if it has one: called when the gradients are whole and unscaled, to clip them;
- ``after_step()``: called after each update of the weights, also where that took several batches;
- ``wants_prefill(step)``, ``prefill(batches)``: whether its memory is filled before this step, and from what;
- ``probe(batches)``, if it has one: called once before the first step, also of a run that goes on, with random
  training images, always in the same order, to be looked at again and again;
- ``bank``: its memory bank, or None.

The loop owns everything else: batches, device, precision, updates, evaluation, metrics and checkpoints.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

from torch import Tensor, nn

from torchbank import data, encoders
from torchbank.errors import BankStateError
from torchbank.training._batches import TrainingBatches, own_seed
from torchbank.training._checkpoint import load_checkpoint, save_checkpoint
from torchbank.training._clock import StepClock
from torchbank.training._config import TrainingConfig
from torchbank.training._evaluation import Evaluated, evaluate
from torchbank.training._finite import LossWatch
from torchbank.training._metrics import LogWindow, MetricsWriter
from torchbank.training._random import (
    random_state,
    restore_random_state,
    seed_everything,
    untouched_random_state,
)
from torchbank.training._run_folder import RunFolder
from torchbank.training._summary import describe_data, summarize, write_results
from torchbank.training._update import Update, build_accelerator


class Progress(NamedTuple):
    """What a progress callback is told.

    Attributes:
        step: Updates made so far.
        steps: Updates in all.
        values: The numbers just written to the metrics, by name.
    """

    step: int
    steps: int
    values: dict[str, int | float]


class FitResult(NamedTuple):
    """What training returns.

    Attributes:
        summary: The content of ``summary.json``.
        test: Embeddings of the test images by the trained encoder; of text pairs, those of the first side, then
            those of the second.
    """

    summary: dict[str, Any]
    test: encoders.Encoded


def fit(
    method: nn.Module,
    split: data.Split,
    config: TrainingConfig,
    *,
    folder: RunFolder | None = None,
    resume: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> FitResult:
    """Train a method and evaluate its encoder on the test part of its data (`torchbank.training.evaluate`).

    Seed before building the method (`seed_everything`): its initial weights are the caller's.

    Args:
        method: See the head of this file; it is moved to the device and trained in place.
        split: Images, or text pairs, to train on and to test on.
        config: The settings.
        folder: Where metrics, checkpoints and results go; None writes nothing.
        resume: Go on from the checkpoint in the folder, if one was finished; the result is bit for bit that
            of a run that was never interrupted (on a CPU, with as many threads).
        on_progress: Called after each line of metrics.

    Returns:
        The summary, and the test embeddings.

    Raises:
        BankStateError: The checkpoint does not fit, or the loss is not finite: the message tells at which step,
            and the last checkpoint stays as it was.
        BankValueError: There are too few images for a batch, or the encoder does not give one vector an image.
    """
    return Loop(method, split, config).run(folder, resume=resume, on_progress=on_progress)


class Loop:
    """Training that is ready to run: whatever is wrong with the settings is told before anything is written.

    Args:
        method: See `fit`.
        split: See `fit`.
        config: See `fit`.

    Raises:
        BankValueError: There are too few images for a batch, or the encoder does not give one vector an image.
        BankKeyError: There is no such augmentation.
        UnreadableImageError: One of the first images cannot be read.
    """

    def __init__(self, method: nn.Module, split: data.Split, config: TrainingConfig) -> None:
        self.split, self.config = split, config
        self.accelerator = build_accelerator(config)
        self.rank, self.ranks = self.accelerator.process_index, self.accelerator.num_processes
        if self.rank:
            # Each process draws its own augmentations.
            seed_everything(own_seed(config, self.rank))
        self.method: Any = method
        self.update = Update(method, config, self.accelerator)
        device = self.accelerator.device
        self.batches = TrainingBatches(split.train, config, device=device, rank=self.rank, ranks=self.ranks)
        _check_encoder(self.method, split.train)
        self.window, self.clock, self.watch = LogWindow(), StepClock(), LossWatch()
        self.folder: RunFolder | None = None
        self.on_progress: Callable[[Progress], None] | None = None
        self.metrics: MetricsWriter | None = None
        self.step = 0

    def run(
        self,
        folder: RunFolder | None = None,
        *,
        resume: bool = False,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> FitResult:
        """Train, evaluate and write the results; once. See `fit`.

        Raises:
            BankStateError: The checkpoint does not fit, or the loss is not finite.
        """
        self.folder, self.on_progress = folder, on_progress
        with ExitStack() as stack:
            self._open(stack, resume=resume)
            self._train()
            return self._finish()

    def _open(self, stack: ExitStack, *, resume: bool) -> None:
        """Open the metrics, at the place that the checkpoint knows."""
        if self.folder is None:
            return
        state = self._read_checkpoint(self.folder) if resume else None
        if state is not None:
            self._restore(state)
        if self.accelerator.is_main_process:
            seen = state["metrics_bytes"] if state else 0
            lines, events = self.folder.metrics, self.folder.tensorboard
            self.metrics = stack.enter_context(MetricsWriter(lines, events, keep_bytes=seen, step=self.step))
        if state is not None:
            # Last: nothing that is opened on the way may move a stream.
            restore_random_state(state["random"])

    def _train(self) -> None:
        """All steps that are left."""
        self.method.train()
        if hasattr(self.method, "probe"):
            self.method.probe(self.batches.once())
        self.clock.start()
        while self.step < self.config.steps:
            if self.method.wants_prefill(self.step):
                self.method.prefill(self.batches.once(shared=self.config.bank_mode != "local"))
            self.update(self.batches.draw, step=self.step, observe=self._observe)
            self.step += 1
            if _due(self.step, self.config.log_every) or self.step == self.config.steps:
                self._log()
            if _due(self.step, self.config.evaluate_every) and self.step < self.config.steps:
                self._evaluate()
            if self.folder is not None and _due(self.step, self.config.checkpoint_every):
                self._checkpoint(self.folder)
        self.clock.pause()

    def _observe(self, values: dict[str, Tensor]) -> None:
        self.watch.add(values["loss"], step=self.step + 1)
        self.window.add(values)

    def _finish(self) -> FitResult:
        """Evaluate and write the results."""
        test, scores = self._evaluate()
        device, ranks = self.accelerator.device, self.ranks
        summary = summarize(self.method, self.config, self.clock, device=device, ranks=ranks)
        summary = {"scores": scores, **summary, "data": describe_data(self.split)}
        summary["memory"]["activation_bytes"] = self.update.activation_bytes
        if self.folder is not None:
            write_results(self.folder, self.method, summary, is_main=self.accelerator.is_main_process)
        self.accelerator.wait_for_everyone()
        return FitResult(summary, test)

    def _log(self) -> None:
        self.watch.check()
        steps = self.step % self.config.log_every or self.config.log_every
        values = self.window.means()
        self.clock.lap(steps=steps)
        # The schedules have not moved since the update just made.
        values["learning_rate"] = self.update.optimizer.param_groups[0]["lr"]
        self._write({f"train/{name}": value for name, value in values.items()})

    def _evaluate(self) -> Evaluated:
        # No random stream moves: how often a run is evaluated does not change what it learns.
        with self.clock.paused(), untouched_random_state():
            self._check_finite()
            evaluated = evaluate(self.method.encoder, self.split, workers=self.config.workers)
            self._write({f"test/{name}": value for name, value in evaluated.scores.items()})
        return evaluated

    def _check_finite(self) -> None:
        self.watch.check()
        self.watch.check_weights(self.method, step=self.step)

    def _write(self, values: dict[str, int | float]) -> None:
        if self.metrics is not None:
            self.metrics.write(self.step, values)
        if self.on_progress is not None and self.accelerator.is_main_process:
            self.on_progress(Progress(self.step, self.config.steps, values))

    def _checkpoint(self, folder: RunFolder) -> None:
        with self.clock.paused():
            # A checkpoint of a run that has diverged would replace the last one of use.
            self._check_finite()
            state = {
                "step": self.step,
                "data": self.split.train.fingerprint,
                "sampler": self.batches.state_dict(step=self.step),
                "activation_bytes": self.update.activation_bytes,
                "metrics_bytes": self.metrics.position() if self.metrics is not None else 0,
                "random": random_state(),
                **{name: part.state_dict() for name, part in self._parts().items()},
            }
            wait = self.accelerator.wait_for_everyone
            save_checkpoint(folder.checkpoint, state, rank=self.rank, ranks=self.ranks, wait=wait)
            self.watch.checkpoint = self.step

    def _read_checkpoint(self, folder: RunFolder) -> dict[str, Any] | None:
        wait = self.accelerator.wait_for_everyone
        return load_checkpoint(folder.checkpoint, rank=self.rank, ranks=self.ranks, wait=wait)

    def _restore(self, state: dict[str, Any]) -> None:
        if state["data"] != self.split.train.fingerprint:
            msg = f"the checkpoint at step {state['step']} has seen other images; resume with the same data"
            raise BankStateError(msg)
        self.batches.load_state_dict(state["sampler"])
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.step, self.update.activation_bytes = state["step"], state["activation_bytes"]
        self.watch.checkpoint = self.step

    def _parts(self) -> dict[str, Any]:
        """What keeps its state in a ``state_dict``, by name in the checkpoint."""
        return {**self.update.parts(), "window": self.window, "clock": self.clock}


def _check_encoder(method: Any, examples: data.LabelledExamples) -> None:
    """Embed two examples: what does not fit is told now, not after a thousand steps."""
    with untouched_random_state():
        encoders.encode(method.encoder, [examples.__getitems__(range(min(2, len(examples))))])


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
