"""One update of the weights: forward and backward of its batches, then the optimiser's step."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from torchbank.errors import BankValueError
from torchbank.sharding import keep_local, replicate, shard
from torchbank.training._batches import AnyBatch
from torchbank.training._config import TrainingConfig
from torchbank.training._saved_bytes import count_saved_bytes
from torchbank.training._schedule import apply_schedules, build_optimizer

if TYPE_CHECKING:
    from accelerate import Accelerator


class Update:
    """Updates a method's weights.

    The gradient is the mean over ``config.accumulate`` batches. The method sees them one after the other and is told
    with ``after_step()`` that the weights have moved: that is when it lets its memory grow. With "fp16", a step whose
    gradients overflow leaves the weights as they are.

    Args:
        method: Moved to the device and, with several processes, wrapped; its bank is shared as the settings say.
        config: The settings.
        accelerator: Device, precision and processes.
    """

    def __init__(self, method: nn.Module, config: TrainingConfig, accelerator: "Accelerator") -> None:
        self.method: Any = method
        self.config, self.accelerator = config, accelerator
        method.to(accelerator.device)
        if accelerator.num_processes > 1:
            _share_bank(method, config)
        keep_local(method)
        self.forward = accelerator.prepare_model(method)
        self.optimizer = accelerator.prepare_optimizer(build_optimizer(method.parameters(), config))
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
                self.accelerator.backward(output.loss / batches if batches > 1 else output.loss)
        if hasattr(self.method, "before_step"):
            self.accelerator.unscale_gradients(self.optimizer)
            self.method.before_step()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.method.after_step()

    def _forward(self, batch: AnyBatch, step: int) -> Any:
        if step + 1 < self.config.steps:
            return self.forward(batch, step=step)
        with count_saved_bytes(self.method) as saved:
            output = self.forward(batch, step=step)
        self.activation_bytes = saved.total
        return output

    def parts(self) -> dict[str, Any]:
        """What keeps its state in a ``state_dict``, by name in the checkpoint."""
        scaler = self.accelerator.scaler
        parts = {"method": self.method, "optimizer": self.optimizer}
        return parts if scaler is None else {**parts, "scaler": scaler}


def build_accelerator(config: TrainingConfig) -> "Accelerator":
    """Device, precision and processes of a run.

    Raises:
        BankValueError: The device cannot run at that precision.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    precision = "no" if config.precision == "fp32" else config.precision
    # accelerate remembers the precision of the first run of a process and would refuse another one to the next.
    if AcceleratorState._shared_state.get("_mixed_precision", precision) != precision:
        AcceleratorState._reset_state()
    try:
        return Accelerator(cpu=config.device == "cpu", mixed_precision=precision)
    except ValueError as error:
        msg = f"cannot train with precision {config.precision!r} on device {config.device!r}: {error}"
        raise BankValueError(msg) from error


def _share_bank(method: Any, config: TrainingConfig) -> None:
    """Let the bank be one of all processes, where it is to be."""
    if config.bank_mode == "local" or method.bank is None:
        return
    share = replicate if config.bank_mode == "replicated" else shard
    # The short batch at the end of a pass falls to one of the processes.
    method.bank = share(method.bank, uneven=config.images_per_batch is not None and config.last_batch == "keep")
