"""What a training run is told: one frozen dataclass, saved beside the results."""

from dataclasses import dataclass
from typing import Literal

from torchbank.errors import BankValueError

_POSITIVE = (
    *("steps", "classes_per_batch", "images_per_class", "images_per_batch", "accumulate"),
    *("learning_rate", "log_every"),
)
_NOT_NEGATIVE = (
    *("seed", "weight_decay", "final_weight_decay", "warmup_steps", "local_crops"),
    *("evaluate_every", "checkpoint_every", "workers"),
)


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of the loop, whatever the method.

    Args:
        steps: Updates of the weights.
        seed: Seeds the weights, the batches and the augmentations.
        classes_per_batch: Classes drawn for each batch of each process; several processes cut one batch of all of
            these.
        images_per_class: Images drawn of each of them; the product of the two is the batch size.
        images_per_batch: Images of a shuffled batch, drawn without looking at classes, every image once per pass;
            None draws batches by class.
        last_batch: Whether the short batch at the end of a pass is trained on or left out.
        accumulate: Batches whose gradients are averaged for one update.
        optimizer: Which optimiser; "sgd" and "nesterov" have a momentum of 0.9.
        learning_rate: Highest learning rate.
        weight_decay: Weight decay of the optimiser.
        final_weight_decay: Weight decay at the end, reached along a half cosine; None keeps it constant.
        decayed: What decays: all parameters, or only matrices (no biases, nor scales and shifts of norms).
        schedule: The learning rate after the warm-up: down to zero along a half cosine, constant, or a tenth for the
            last 10 of 34 parts of the steps, as XBM has it on Stanford Online Products.
        warmup_steps: Steps over which the learning rate rises to its highest value.
        augmentation: How training images vary, or which views are drawn of them (`torchbank.data.augmentation`).
        local_crops: Smaller views beside the global ones, of augmentations that have any.
        evaluate_every: Steps between two evaluations on the test classes; 0 evaluates only at the end.
        checkpoint_every: Steps between two checkpoints; 0 keeps none.
        log_every: Steps that one line of metrics averages over.
        device: "auto" takes the accelerator where there is one.
        precision: Of the forward pass; weights stay float32. "fp16" is for GPUs, and slow on a CPU.
        bank_mode: Whose rows the memory bank of several processes holds: "replicated", all of them the rows of all;
            "sharded", each a part of these; "local", each its own.
        batch_mode: Whether each of several processes normalises and compares its "own" batch, or their batches are one,
            "shared" (xbm only): then they learn what one process would learn from all of it.
        workers: Processes that load images; 0 loads them in the training process.

    Raises:
        BankValueError: A number is out of range.

    Example:
        >>> from torchbank.training import TrainingConfig
        >>> TrainingConfig(classes_per_batch=8, images_per_class=2).batch_size
        16
        >>> TrainingConfig(images_per_batch=256).batch_size
        256
    """

    steps: int = 2_000
    seed: int = 0
    classes_per_batch: int = 8
    images_per_class: int = 2
    images_per_batch: int | None = None
    last_batch: Literal["keep", "drop"] = "keep"
    accumulate: int = 1
    optimizer: Literal["adamw", "adam", "sgd", "nesterov"] = "adamw"
    learning_rate: float = 5e-4
    weight_decay: float = 1e-4
    final_weight_decay: float | None = None
    decayed: Literal["all", "matrices"] = "all"
    schedule: Literal["cosine", "constant", "step"] = "cosine"
    warmup_steps: int = 0
    augmentation: str = "none"
    local_crops: int = 10
    evaluate_every: int = 500
    checkpoint_every: int = 500
    log_every: int = 10
    device: Literal["auto", "cpu"] = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    bank_mode: Literal["replicated", "sharded", "local"] = "replicated"
    batch_mode: Literal["own", "shared"] = "own"
    workers: int = 0

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                msg = f"{name} is {getattr(self, name)}; expected a number above 0"
                raise BankValueError(msg)
        for name in _NOT_NEGATIVE:
            if getattr(self, name) is not None and not getattr(self, name) >= 0:
                msg = f"{name} is {getattr(self, name)}; expected 0 or more"
                raise BankValueError(msg)

    @property
    def batch_size(self) -> int:
        """Images in a batch."""
        return self.images_per_batch or self.classes_per_batch * self.images_per_class
