"""The folder that a run leaves behind, and the rule that nothing in it is overwritten by another run."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchbank.errors import BankValueError, FileFormatError
from torchbank.io import write_json


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run, by what they hold.

    Make one with `create` or `open`.

    Example:
        >>> import tempfile
        >>> from torchbank.training import RunFolder
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     run = RunFolder.create(Path(parent) / "first", {"seed": 0})
        ...     run.read_config()
        {'seed': 0}
    """

    path: Path

    @classmethod
    def create(cls, path: str | Path, config: dict[str, Any]) -> "RunFolder":
        """Make the folder of a new run and write its ``config.json``.

        Args:
            path: A folder that does not exist or is empty.
            config: What runs, as JSON.

        Raises:
            BankValueError: Something is there already.
        """
        folder = cls(Path(path))
        folder.check_free()
        folder.path.mkdir(parents=True, exist_ok=True)
        write_json(folder.config, config)
        return folder

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """The folder of a run that was made before.

        Args:
            path: A folder with a ``config.json``.

        Raises:
            BankValueError: There is no run in it.
        """
        folder = cls(Path(path))
        if not folder.config.is_file():
            msg = f"{folder.path} is not a run folder (it has no config.json); give one that a run wrote"
            raise BankValueError(msg)
        return folder

    def check_free(self) -> None:
        """Raise unless a new run may begin here.

        Raises:
            BankValueError: Something is there already.
        """
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            msg = f"{self.path} exists already; give another run folder, or go on with the run in it (--resume)"
            raise BankValueError(msg)

    @property
    def config(self) -> Path:
        """What ran."""
        return self.path / "config.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a line: losses and scores by step."""
        return self.path / "metrics.jsonl"

    @property
    def model(self) -> Path:
        """The weights of the encoder."""
        return self.path / "model.safetensors"

    @property
    def bank(self) -> Path:
        """The memory bank at the end; absent without memory."""
        return self.path / "bank.safetensors"

    @property
    def checkpoint(self) -> Path:
        """All that a resumed run needs."""
        return self.path / "checkpoint"

    @property
    def summary(self) -> Path:
        """The result, and what a reader needs to trust it."""
        return self.path / "summary.json"

    @property
    def tensorboard(self) -> Path:
        """Event files."""
        return self.path / "tensorboard"

    @property
    def features(self) -> Path:
        """What the encoder makes of whole data sets, for evaluations; may be deleted at any time."""
        return self.path / "features"

    @property
    def evaluation(self) -> Path:
        """The scores of the last evaluation after training."""
        return self.path / "evaluation.json"

    @property
    def audit(self) -> Path:
        """Images whose label looks wrong, and near-duplicates."""
        return self.path / "audit"

    @property
    def drift(self) -> Path:
        """How stale the memory was and is, after ``torchbank drift``."""
        return self.path / "drift.json"

    @property
    def plots(self) -> Path:
        """Pictures."""
        return self.path / "plots"

    def read_config(self) -> dict[str, Any]:
        """What ran, as JSON.

        Raises:
            FileFormatError: The file is damaged.
        """
        return _read_json(self.config)

    def read_summary(self) -> dict[str, Any]:
        """The result as JSON.

        Raises:
            BankValueError: The run has not finished.
            FileFormatError: The file is damaged.
        """
        if not self.summary.is_file():
            msg = f"{self.path} has no summary.json: the run has not finished; go on with it (--resume) first"
            raise BankValueError(msg)
        return _read_json(self.summary)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        msg = f"{path} is not JSON ({error}); it is damaged or was not written by torchbank"
        raise FileFormatError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path} holds a {type(content).__name__}; expected a JSON object"
        raise FileFormatError(msg)
    return content
