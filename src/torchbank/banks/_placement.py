"""Where the columns of a bank lie: in the module, partly in host memory, or in one mapped file."""

from pathlib import Path

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from torchbank.banks._rows_file import create_mapped
from torchbank.banks._schema import Schema
from torchbank.errors import BankTypeError, BankValueError
from torchbank.reads import MappedRows, file_size, take

WORDS = ("module", "host")


class Placement:
    """Allocates the columns of a bank, and reaches into them wherever they lie.

    Args:
        schema: What the bank holds.
        storage: ``"module"``, ``"host"`` or a path, which is created.
        device: Of the module.

    Attributes:
        storage: ``"module"``, ``"host"`` or the path.
        columns: The new columns by the name of their buffer. The bank takes them out.
        offloaded: The names of those that do not follow the module to another device.
        mapping: The file, if there is one.

    Raises:
        BankValueError: ``storage`` is an unknown word.
        BankTypeError: ``storage`` is neither a string nor a path.
        BankFileExistsError: The path is taken.
        BankFileNotFoundError: The folder of the path does not exist.
        BankFileError: The file cannot be created, or there is no space for it.
    """

    def __init__(self, schema: Schema, storage: str | Path, device: torch.device) -> None:
        self.storage = parse_storage(storage)
        self.mapping: MappedRows | None = None
        self.offloaded: tuple[str, ...] = ()
        specs = {
            "embeddings": (schema.dtype, (schema.dim,)),
            **{f"field_{name}": (field.dtype, field.shape) for name, field in schema.fields.items()},
            "steps": (torch.int64, ()),
            "generations": (torch.int64, ()),
        }
        if isinstance(self.storage, Path):
            memory = create_mapped(self.storage, file_size(schema.capacity, specs))
            self.mapping = MappedRows(memory, schema.capacity, specs)
            self.columns = self.mapping.columns
            self.offloaded = tuple(specs)
            return
        if self.storage == "host":
            self.offloaded = ("embeddings",)
        self.columns = {
            name: torch.zeros(
                schema.capacity,
                *shape,
                dtype=dtype,
                device="cpu" if name in self.offloaded else device,
                pin_memory=name in self.offloaded and torch.cuda.is_available(),
            )
            for name, (dtype, shape) in specs.items()
        }

    def at(self, column: Tensor, slots: Int64[Tensor, "..."], device: torch.device) -> Tensor:
        """A copy of a column's rows at ``slots``, on ``device``."""
        if self.offloaded and not torch.compiler.is_compiling():
            return take(column, slots, device)
        # Spelt out: it compiles.
        return column[slots.to(column.device)].to(device)

    def written(self, generations: Int64[Tensor, " capacity"]) -> Bool[Tensor, " capacity"]:
        """Which slots were ever written."""
        if self.mapping is None or torch.compiler.is_compiling():
            return generations > 0
        written = torch.empty(generations.shape, dtype=torch.bool)
        for run in self.mapping.runs():
            torch.gt(generations[run], 0, out=written[run])
        return written

    def settled(self, embeddings: Tensor) -> Tensor:
        """Rows as they should lie, after a copy of the bank was made that knew nothing of it."""
        if self.storage != "host":
            return embeddings
        embeddings = embeddings.cpu()
        return embeddings.pin_memory() if torch.cuda.is_available() else embeddings


def parse_storage(storage: str | Path) -> str | Path:
    """Tell a word from a path.

    Raises:
        BankValueError: A word that is unknown, such as a misspelt one.
        BankTypeError: Neither a string nor a path.
    """
    if isinstance(storage, Path) or storage in WORDS:
        return storage
    if not isinstance(storage, str):
        msg = f"storage is a {type(storage).__name__}; expected 'module', 'host' or the path of a new file"
        raise BankTypeError(msg)
    if not storage or not set(storage) & set("/\\."):
        msg = f"storage is {storage!r}; expected 'module', 'host' or a path; a file of that name is Path({storage!r})"
        raise BankValueError(msg)
    return Path(storage)
