"""One update of the weights: forward and backward of its batches, then the optimiser's step."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from torchbank.errors import BankValueError
from torchbank.sharding import Ranks, keep_local, replicate, shard, share_batch_norm
from torchbank.training._batches import AnyBatch
from torchbank.training._config import TrainingConfig
from torchbank.training._saved_bytes import count_saved_bytes
from torchbank.training._schedule import apply_schedules, build_optimizer

if TYPE_CHECKING:
    from accelerate import Accelerator

_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Update:
    """Updates a method's weights.

    The gradient is the mean over ``config.accumulate`` batches. The method sees them one after the other and is told
    with ``after_step()`` that the weights have moved: that is when it lets its memory grow. With "fp16", a step whose
    gradients overflow leaves the weights as they are.

    Args:
        method: Moved to the device and, with several processes, wrapped; its bank is shared as the settings say.
        config: The settings.
        accelerator: Device and processes.
    """

    def __init__(self, method: nn.Module, config: TrainingConfig, accelerator: "Accelerator") -> None:
        self.method: Any = method
        self.config, self.accelerator = config, accelerator
        method.to(accelerator.device)
        if accelerator.num_processes > 1:
            _share_bank(method, config)
            _share_batch(method, config)
        keep_local(method)
        self.forward = accelerator.prepare_model(method)
        self.optimizer = build_optimizer(method.parameters(), config)
        # It does nothing where it is not enabled.
        self.scaler = torch.amp.GradScaler(accelerator.device.type, enabled=config.precision == "fp16")
        self.activation_bytes = 0

    def __call__(
        self, draw: Callable[[], AnyBatch], *, step: int, observe: Callable[[dict[str, Tensor]], None]
    ) -> None:
        """Make one update.

        Args:
            draw: Gives the next batch.
            step: Updates made so far.
            observe: Is told the loss and logs of each batch, before anything has changed by them.
        """
        apply_schedules(self.optimizer, self.config, step=step)
        batches = self.config.accumulate
        for number in range(batches):
            is_last = number + 1 == batches
            # Gradients of several processes are averaged once, with the last batch.
            with nullcontext() if is_last else self.accelerator.no_sync(self.forward):
                output = self._forward(draw(), step)
                observe({"loss": output.loss, **output.logs})
                # In float32: a scaled loss of 16 bits overflows.
                loss = output.loss.float()
                self.scaler.scale(loss / batches if batches > 1 else loss).backward()
        if hasattr(self.method, "before_step"):
            self.scaler.unscale_(self.optimizer)
            self.method.before_step()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.method.after_step()

    def _forward(self, batch: AnyBatch, step: int) -> Any:
        is_last = step + 1 == self.config.steps
        with self._autocast(), count_saved_bytes(self.method) if is_last else nullcontext() as saved:
            output = self.forward(batch, step=step)
        if saved is not None:
            self.activation_bytes = saved.total
        return output

    def _autocast(self) -> torch.autocast:
        device, dtype = self.accelerator.device.type, _PRECISIONS[self.config.precision]
        return torch.autocast(device, dtype, enabled=dtype != torch.float32)

    def parts(self) -> dict[str, Any]:
        """What keeps its state in a ``state_dict``, by name in the checkpoint."""
        return {"method": self.method, "optimizer": self.optimizer, "scaler": self.scaler}


def build_accelerator(config: TrainingConfig) -> "Accelerator":
    """Device and processes of a run."""
    from accelerate import Accelerator

    # Precision is no part of it: accelerate keeps that of the first run of a process, and refuses another to the next.
    return Accelerator(cpu=config.device == "cpu", mixed_precision="no")


def _share_bank(method: Any, config: TrainingConfig) -> None:
    """Let the bank be one of all processes, where it is to be."""
    if config.bank_mode == "local" or method.bank is None:
        return
    share = replicate if config.bank_mode == "replicated" else shard
    # The short batch at the end of a pass falls to one of the processes.
    method.bank = share(method.bank, uneven=config.images_per_batch is not None and config.last_batch == "keep")


def _share_batch(method: Any, config: TrainingConfig) -> None:
    """Let the batches of all processes be one, where they are to be."""
    if config.batch_mode == "own":
        return
    if not hasattr(method, "share_batch"):
        msg = (
            f"batch_mode='shared' is for xbm, whose batch term can be over the images of all processes; "
            f"{type(method).__name__} takes batch_mode='own'"
        )
        raise BankValueError(msg)
    method.share_batch(Ranks())
    share_batch_norm(method)
