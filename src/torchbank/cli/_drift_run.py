"""How stale the memory of a run was, and is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchbank import data, encoders, methods, training
from torchbank.banks import Bank, BankView
from torchbank.cli._config import RunConfig
from torchbank.cli._recipe import build_encoder, draw_drift, load_split
from torchbank.drift import DriftMonitor
from torchbank.errors import BankValueError
from torchbank.io import load, read_tensors, write_json
from torchbank.training import RunFolder

Table = dict[str, list[float]]


@dataclass(frozen=True)
class DriftReport:
    """Drift and fidelity by age, each column by its name; None for what was not measured.

    Args:
        drift: While the run trained, from images that were seen again.
        fidelity: The same of gradients.
        final_drift: Of the rows that the memory holds, encoded again by the trained encoder.
        final_fidelity: The same of gradients.
        oldest: The age of the oldest row of the memory.
        batch_size: Rows that a step pushed.
        pictures: What was drawn.
    """

    drift: Table
    fidelity: Table | None
    final_drift: Table | None
    final_fidelity: Table | None
    oldest: int | None
    batch_size: int
    pictures: tuple[Path, ...]


def drift_of_run(path: str, *, rows: int) -> DriftReport:
    """Read what a finished run measured, encode rows of its memory again, draw, and write ``drift.json``.

    Args:
        path: The run folder.
        rows: How many rows of the memory are encoded again; 0 looks at no image.

    Raises:
        BankError: There is no finished run, it measured nothing, or its data is gone.
    """
    folder = RunFolder.open(path)
    config = RunConfig.from_json(folder.read_config())
    summary = folder.read_summary()
    drift, fidelity = summary["drift"], summary.get("fidelity")
    if drift is None:
        msg = f"{folder.path} measured no drift; train with --monitor-drift, and a memory to look at"
        raise BankValueError(msg)
    bank = load(folder.bank, device="cpu") if folder.bank.is_file() else None
    final_drift = final_fidelity = None
    # Other methods remember what their projection makes of an image, and a run keeps its encoder alone.
    encodes = hasattr(methods.METHODS[config.method_name].method, "row_loss")
    if rows and bank is not None and len(bank) and encodes:
        monitor = _encode_again(folder, config, bank, rows)
        final_drift = _columns(monitor.by_age())
        final_fidelity = _columns(monitor.fidelity_by_age())
    oldest = None if bank is None or not len(bank) else int(bank.age()[bank.view().valid].max())
    pictures = tuple(draw_drift(config, folder, summary))
    found = DriftReport(drift, fidelity, final_drift, final_fidelity, oldest, summary["batch_size"], pictures)
    tables = {name: getattr(found, name) for name in ("drift", "fidelity", "final_drift", "final_fidelity", "oldest")}
    write_json(folder.drift, tables)
    return found


def _encode_again(folder: RunFolder, config: RunConfig, bank: Bank, rows: int) -> DriftMonitor:
    """Drift and fidelity of the memory as the run left it."""
    split = load_split(config.data)
    encoder, images = build_encoder(config, split), split.train
    encoder.load_state_dict(read_tensors(folder.model)[0])
    method: Any = methods.build(config.method_name, encoder, config.method, dataset_size=len(images))
    monitor = DriftMonitor(config.method.dim, fields={"label": torch.int64}, pairs=rows)

    def encode(view: BankView) -> Tensor:
        blocks = [ids.tolist() for ids in view.fields["id"].split(training.EVALUATION_BATCH)]
        return encoders.encode(encoder, data.loader(images, batch_sampler=blocks)).embeddings

    generator = torch.Generator().manual_seed(config.training.seed)
    monitor.observe_rows(bank, encode, rows=rows, generator=generator)
    monitor.measure(method.row_loss)
    return monitor


def _columns(table: Any) -> Table:
    return {name: values.tolist() for name, values in table._asdict().items()}
