"""The loop around a method: batches, device, precision, evaluation, metrics and checkpoints."""

from torchbank.training._checkpoint import load_checkpoint, recover_checkpoint, save_checkpoint
from torchbank.training._clock import StepClock
from torchbank.training._config import TrainingConfig
from torchbank.training._evaluation import EVALUATION_BATCH, Evaluated, evaluate, retrieve
from torchbank.training._finite import LossWatch
from torchbank.training._loop import FitResult, Loop, Progress, fit
from torchbank.training._metrics import LogWindow, MetricsWriter, read_metrics
from torchbank.training._packing import pack, unpack
from torchbank.training._processes import is_main_process, process_count, told_by_first
from torchbank.training._random import (
    random_state,
    restore_random_state,
    seed_everything,
    untouched_random_state,
)
from torchbank.training._run_folder import RunFolder
from torchbank.training._saved_bytes import SavedBytes, count_saved_bytes
from torchbank.training._schedule import apply_schedules, build_optimizer, learning_rate_factor, weight_decay_at
from torchbank.training._summary import peak_process_bytes

__all__ = [
    "EVALUATION_BATCH",
    "Evaluated",
    "FitResult",
    "LogWindow",
    "Loop",
    "LossWatch",
    "MetricsWriter",
    "Progress",
    "RunFolder",
    "SavedBytes",
    "StepClock",
    "TrainingConfig",
    "apply_schedules",
    "build_optimizer",
    "count_saved_bytes",
    "evaluate",
    "fit",
    "is_main_process",
    "learning_rate_factor",
    "load_checkpoint",
    "pack",
    "peak_process_bytes",
    "process_count",
    "random_state",
    "read_metrics",
    "recover_checkpoint",
    "restore_random_state",
    "retrieve",
    "save_checkpoint",
    "seed_everything",
    "told_by_first",
    "unpack",
    "untouched_random_state",
    "weight_decay_at",
]
