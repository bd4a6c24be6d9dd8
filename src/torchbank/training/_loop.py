"""The loop around a method.

A method is any `torch.nn.Module` with

- ``encoder``: the network that is evaluated;
- ``method(batch, step=step)``: an output with ``loss`` (0-d, differentiable) and ``logs`` (0-d tensors);
- ``after_step()``: called after each update of the weights;
- ``wants_prefill(step)``, ``prefill(batches)``: whether its memory is filled before this step, and from what;
- ``bank``: its memory bank, or None.

The loop owns everything else: batches, device, precision, updates, evaluation, metrics and checkpoints.
"""

import math
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from torchbank import data, encoders, evaluation
from torchbank.banks import Bank
from torchbank.errors import BankStateError, BankValueError
from torchbank.training._checkpoint import load_checkpoint, save_checkpoint
from torchbank.training._clock import StepClock
from torchbank.training._config import TrainingConfig
from torchbank.training._metrics import LogWindow, MetricsWriter
from torchbank.training._random import (
    random_state,
    restore_random_state,
    seed_everything,
    untouched_random_state,
)
from torchbank.training._run_folder import RunFolder
from torchbank.training._saved_bytes import count_saved_bytes
from torchbank.training._schedule import build_optimizer, build_schedule, learning_rate_factor
from torchbank.training._summary import summarize, write_results

if TYPE_CHECKING:
    from accelerate import Accelerator

EVALUATION_BATCH = 256


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
        test: Embeddings of the test images by the trained encoder.
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
    """Train a method and evaluate its encoder on classes it has not seen.

    Seed before building the method (`seed_everything`): its initial weights are the caller's.

    Args:
        method: See the head of this file; it is moved to the device and trained in place.
        split: Images to train on, and images of other classes to test on.
        config: The settings.
        folder: Where metrics, checkpoints and results go; None writes nothing.
        resume: Go on from the checkpoint in the folder, if one was finished; the result is bit for bit that
            of a run that was never interrupted (on a CPU, with as many threads).
        on_progress: Called after each line of metrics.

    Returns:
        The summary, and the test embeddings.

    Raises:
        BankStateError: The checkpoint does not fit, or the loss is not finite.
        BankValueError: The device cannot run at that precision.
    """
    return Loop(method, split, config).run(folder, resume=resume, on_progress=on_progress)


class Loop:
    """Training that is ready to run: whatever is wrong with the settings is told before anything is written.

    Args:
        method: See `fit`.
        split: See `fit`.
        config: See `fit`.

    Raises:
        BankValueError: The device cannot run at that precision, or there are too few images for a batch.
        BankKeyError: There is no such augmentation.
    """

    def __init__(self, method: nn.Module, split: data.Split, config: TrainingConfig) -> None:
        self.split, self.config = split, config
        self.accelerator = _accelerator(config)
        self.rank, self.ranks = self.accelerator.process_index, self.accelerator.num_processes
        # Each process draws its own batches and augmentations.
        own_seed = config.seed + 1_000_003 * self.rank
        if self.rank:
            seed_everything(own_seed)
        self.method: Any = method
        _keep_banks_local(method)
        self.forward = self.accelerator.prepare_model(method)
        optimizer = build_optimizer(method.parameters(), config)
        self.schedule = build_schedule(optimizer, config)
        self.optimizer = self.accelerator.prepare_optimizer(optimizer)
        self.sampler = data.PKSampler(
            split.train.labels,
            classes_per_batch=config.classes_per_batch,
            images_per_class=config.images_per_class,
            seed=own_seed,
        )
        self.augment = data.augmentation(config.augmentation, split.train.image_shape)
        self.window, self.clock = LogWindow(), StepClock()
        self.folder: RunFolder | None = None
        self.on_progress: Callable[[Progress], None] | None = None
        self.metrics: MetricsWriter | None = None
        self.step, self.activation_bytes = 0, 0

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
        workers = self.config.workers
        batches = iter(data.loader(self.split.train, batch_sampler=self.sampler, num_workers=workers))
        self.method.train()
        self.clock.start()
        for _ in range(self.step, self.config.steps):
            if self.method.wants_prefill(self.step):
                self._prefill()
            batch = self._on_device(next(batches))
            self._update(batch._replace(images=self.augment(batch.images)))
            if _due(self.step, self.config.log_every) or self.step == self.config.steps:
                self._log()
            if _due(self.step, self.config.evaluate_every) and self.step < self.config.steps:
                self._evaluate()
            if self.folder is not None and _due(self.step, self.config.checkpoint_every):
                self._checkpoint(self.folder)
        self.clock.pause()

    def _finish(self) -> FitResult:
        """Evaluate and write the results."""
        test, scores = self._evaluate()
        device, ranks = self.accelerator.device, self.ranks
        summary = summarize(self.method, self.config, self.clock, device=device, ranks=ranks)
        summary = {"scores": scores, **summary}
        summary["memory"]["activation_bytes"] = self.activation_bytes
        summary["data"] = _data_facts(self.split)
        if self.folder is not None and self.accelerator.is_main_process:
            write_results(self.folder, self.method, summary)
        self.accelerator.wait_for_everyone()
        return FitResult(summary, test)

    def _on_device(self, batch: data.Batch) -> data.Batch:
        return data.Batch(*(tensor.to(self.accelerator.device, non_blocking=True) for tensor in batch))

    def _prefill(self) -> None:
        """Hand the method its training images in random order; it takes as many as its memory holds."""
        generator = torch.Generator().manual_seed(self.sampler.seed)
        order = torch.randperm(len(self.split.train), generator=generator)
        rows = [block.tolist() for block in order.split(EVALUATION_BATCH)]
        batches = data.loader(self.split.train, batch_sampler=rows, num_workers=self.config.workers)
        self.method.prefill(self._on_device(batch) for batch in batches)

    def _update(self, batch: data.Batch) -> None:
        is_last = self.step + 1 == self.config.steps
        with count_saved_bytes(self.method) if is_last else nullcontext() as saved:
            output = self.forward(batch, step=self.step)
        if saved is not None:
            self.activation_bytes = saved.total
        self.accelerator.backward(output.loss)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        self.method.after_step()
        self.window.add({"loss": output.loss, **output.logs})
        self.step += 1

    def _log(self) -> None:
        steps = self.step % self.config.log_every or self.config.log_every
        values = self.window.means()
        self.clock.lap(steps=steps)
        if not math.isfinite(values["loss"]):
            msg = f"the loss is {values['loss']} at step {self.step}; lower the learning rate or warm up"
            raise BankStateError(msg)
        # Of the update just made: the schedule has moved on.
        values["learning_rate"] = self.config.learning_rate * learning_rate_factor(self.step - 1, self.config)
        self._write({f"train/{name}": value for name, value in values.items()})

    def _evaluate(self) -> tuple[encoders.Encoded, dict[str, int | float]]:
        # No random stream moves: how often a run is evaluated does not change what it learns.
        with self.clock.paused(), untouched_random_state():
            workers = self.config.workers
            loader = data.loader(self.split.test, batch_size=EVALUATION_BATCH, num_workers=workers)
            test = encoders.encode(self.method.encoder, loader)
            scores = evaluation.retrieval(test.embeddings, test.labels).as_dict()
            self._write({f"test/{name}": value for name, value in scores.items()})
        return test, scores

    def _write(self, values: dict[str, int | float]) -> None:
        if self.metrics is not None:
            self.metrics.write(self.step, values)
        if self.on_progress is not None and self.accelerator.is_main_process:
            self.on_progress(Progress(self.step, self.config.steps, values))

    def _checkpoint(self, folder: RunFolder) -> None:
        with self.clock.paused():
            state = {
                "step": self.step,
                "data": self.split.train.fingerprint,
                "sampler": self.sampler.state_dict(next_batch=self.step),
                "activation_bytes": self.activation_bytes,
                "metrics_bytes": self.metrics.position() if self.metrics is not None else 0,
                "random": random_state(),
                **{name: part.state_dict() for name, part in self._parts().items()},
            }
            wait = self.accelerator.wait_for_everyone
            save_checkpoint(folder.checkpoint, state, rank=self.rank, ranks=self.ranks, wait=wait)

    def _read_checkpoint(self, folder: RunFolder) -> dict[str, Any] | None:
        wait = self.accelerator.wait_for_everyone
        return load_checkpoint(folder.checkpoint, rank=self.rank, ranks=self.ranks, wait=wait)

    def _restore(self, state: dict[str, Any]) -> None:
        if state["data"] != self.split.train.fingerprint:
            msg = f"the checkpoint at step {state['step']} has seen other images; resume with the same data"
            raise BankStateError(msg)
        self.sampler.load_state_dict(state["sampler"])
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.step, self.activation_bytes = state["step"], state["activation_bytes"]

    def _parts(self) -> dict[str, Any]:
        """What keeps its state in a ``state_dict``, by name in the checkpoint."""
        parts = {
            "method": self.method,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "window": self.window,
            "clock": self.clock,
        }
        return parts if self.accelerator.scaler is None else {**parts, "scaler": self.accelerator.scaler}


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _accelerator(config: TrainingConfig) -> "Accelerator":
    from accelerate import Accelerator

    precision = "no" if config.precision == "fp32" else config.precision
    try:
        return Accelerator(cpu=config.device == "cpu", mixed_precision=precision)
    except ValueError as error:
        msg = f"cannot train with precision {config.precision!r} on device {config.device!r}: {error}"
        raise BankValueError(msg) from error


def _keep_banks_local(method: nn.Module) -> None:
    """Let each process keep its own bank: DDP would copy rank 0's over the others at every forward pass."""
    names = [
        f"{place}.{name}"
        for place, module in method.named_modules()
        if isinstance(module, Bank)
        for name, _ in module.named_buffers()
    ]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(method, names)


def _data_facts(split: data.Split) -> dict[str, Any]:
    return {
        part: {
            "name": images.name,
            "images": len(images),
            "classes": len(images.labels.unique()),
            "fingerprint": images.fingerprint,
        }
        for part, images in (("train", split.train), ("test", split.test))
    }
