"""The bank: storage, a replacement rule, and everything that does not depend on which."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from torchbank.banks import _loading
from torchbank.banks._admission import Admitted, admit_batch, admit_on_cpu
from torchbank.banks._contents import Contents
from torchbank.banks._doors import (
    METRICS,
    check_embeddings,
    check_handles,
    check_step,
)
from torchbank.banks._placement import Placement
from torchbank.banks._reading import Reading, Table
from torchbank.banks._replacement import Replacement
from torchbank.banks._schema import FieldDeclaration, Schema, parse_fields
from torchbank.banks._view import BankView
from torchbank.banks._writing import REFUSED, Storage, rewrite_slots, write_operator, write_run, write_slots
from torchbank.errors import BankStateError, BankTypeError, BankValueError

COUNTERS = ("total", "pushes", "clock", "rejected")


class Bank(Contents, Reading, nn.Module, ABC):
    """Storage plus a `Replacement` rule; the base of every bank.

    A bank of your own is a subclass with two methods: ``__init__``, which hands a rule to this one, and
    `options`, from which a saved bank is built again.

    ``storage`` says where rows lie when there are more than a device holds. Reads, pushes and `state_dict` are the
    same, to the bit on one device; `device` is where queries and batches must be.

    - ``"module"``: all on ``device``.
    - ``"host"``: the embeddings in host memory, pinned where there is CUDA; fields, stamps and counters on
      ``device``. ``.to(device)`` moves the latter only. A read on a GPU copies a block of rows while it computes
      with the one before; it waits for the device once, to learn how many rows there are, and a push waits until
      its rows have arrived.
    - A path: embeddings, fields, stamps and generations in a new memory-mapped file. Pages that a read or a push
      has passed are given back after 64 MB, so what they keep in memory does not grow with the rows, but for what
      they make per row: a mask of 1 byte for `view` and `ordered` and, for a keyed bank, in each read, with a
      bias of 4 bytes there and wherever ``max_age``, ``half_life`` or ``bias`` is given. `ordered`, `age`,
      `sample`, `blocks` and ``impl="reference"`` copy rows or slots as ever; a user of ``view()`` gives no pages
      back; loading into another capacity holds all rows. The file is working storage of this bank alone: it stays
      when the bank is gone and is not opened again; `save` writes the durable format. While it is in use nothing
      else may shorten it. A bank in a file is not copied or pickled.

    Args:
        capacity: How many rows the bank holds.
        dim: Length of an embedding.
        replacement: Which slots a batch takes.
        fields: What is stored beside each embedding, as for `MemoryBank`.
        metric: ``"cosine"`` (rows and queries are L2-normalised), ``"dot"`` or ``"euclidean"`` (``nearest`` only).
        dtype: Of the rows: ``torch.float32``, ``torch.bfloat16`` or ``torch.float16``. Fixed from here on:
            ``.half()`` or ``.to(dtype)`` on a parent module leaves the bank as it is.
        device: Where the bank lies; moves with ``.to(device)``.
        storage: Where its rows lie: ``"module"``, ``"host"`` or the path of a new file. A string without a dot or a
            slash is a word, not a path.

    Attributes:
        embeddings: ``(capacity, dim)`` the rows by slot, 0 where nothing was written.
        steps: ``(capacity,)`` int64, the stamp of the push that wrote each slot.
        generations: ``(capacity,)`` int64, how often each slot was written; 0 is never.
        total: 0-d int64, the rows ever taken.
        pushes: 0-d int64, the pushes so far.
        clock: 0-d int64, the stamp of the latest push.
        rejected: 0-d int64, the rows that were refused because they were not finite or had no direction.

    Raises:
        BankValueError: A size, metric or field name is out of range.
        BankTypeError: A size, dtype or field declaration is of the wrong type.
        BankFileExistsError: The path is taken.
        BankFileNotFoundError: The folder of the path does not exist.
        BankFileError: The file cannot be created, or the disk has no space for it.
    """

    registry: ClassVar[dict[str, type["Bank"]]] = {}
    """Every bank class by name, so that a file can name its class."""

    is_shared: ClassVar[bool] = False
    """Whether several processes have it together: see `torchbank.replicate` and `torchbank.shard`."""

    # Files lie above banks in the house, so torchbank.io puts its writer here when it is imported.
    _writer: ClassVar[Callable[..., None] | None] = None

    embeddings: Tensor
    steps: Tensor
    generations: Tensor
    total: Tensor
    pushes: Tensor
    clock: Tensor
    rejected: Tensor
    metric_code: Tensor

    def __init_subclass__(cls, *, registered: bool = True, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if not registered:
            return
        known = Bank.registry.get(cls.__name__, cls)
        # Only ours are kept: a class of a user's own may be defined again, as a notebook cell does.
        if known.__module__.startswith("torchbank.") and known.__module__ != cls.__module__:
            msg = f"torchbank has a bank named {cls.__name__!r}; give this one a name of its own, which its files bear"
            raise BankValueError(msg)
        Bank.registry[cls.__name__] = cls

    def __init__(
        self,
        capacity: int,
        dim: int,
        *,
        replacement: Replacement,
        fields: Mapping[str, FieldDeclaration] | None = None,
        metric: str = "cosine",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        storage: str | Path = "module",
    ) -> None:
        super().__init__()
        self.schema = Schema(capacity, dim, parse_fields(fields), metric, dtype)
        self.capacity = capacity
        self.dim = dim
        self.metric = metric
        self.replacement = replacement
        counters = {name: torch.zeros((), dtype=torch.int64, device=device) for name in COUNTERS}
        code = torch.tensor(METRICS.index(metric), device=device)
        # Of a bank that only describes another one, the rule keeps its values.
        if not code.is_meta:
            replacement.to(code.device)
        # Last of what may fail, so that no file is left behind.
        self._placement = Placement(self.schema, storage, code.device)
        for name, tensor in {**self._placement.columns, **counters, "metric_code": code}.items():
            self.register_buffer(name, tensor)
        # The buffers may be replaced, as by .to(device).
        self._placement.columns = {}

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The keyword arguments that ``__init__`` takes beyond those of `MemoryBank`, as JSON can hold them."""

    # What is there

    def of_all_ranks(self, numbers: Float[Tensor, " n"]) -> Float[Tensor, "ranks n"]:
        """What each of the ranks that share the bank gives here, in rank order; of a bank of one process, its own.

        By this they decide together on what each would else decide by its own clock or measurements.

        Args:
            numbers: ``(n,)`` floating, as many on each rank.
        """
        return numbers[None]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors of the bank, on the device, in host memory or in a file."""
        return sum(buffer.nbytes for buffer in self.buffers())

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the rows."""
        return self.schema.dtype

    @property
    def device(self) -> torch.device:
        """Where the bank lies and queries must be; offloaded rows lie on the host all the same."""
        return self.total.device

    @property
    def storage(self) -> str | Path:
        """Where the rows lie: ``"module"``, ``"host"`` or the path of a file."""
        return self._placement.storage

    @property
    def fields(self) -> dict[str, Tensor]:
        """The field of each slot, ``(capacity, *shape)``, by name."""
        return {name: getattr(self, f"field_{name}") for name in self.schema.fields}

    # Writing

    def push(
        self, embeddings: Tensor, *, step: int | Tensor | None = None, check: bool = False, **fields: Tensor
    ) -> Int64[Tensor, " batch"]:
        """Store a batch; rows of the batch beyond what the bank keeps are dropped by its rule.

        Never waits for the device, and compiles to one graph. On an error the bank is as it was.

        Args:
            embeddings: ``(batch, dim)`` of any floating dtype; stored without gradient, cast to the bank's dtype.
            step: The stamp of the rows, an int or a 0-d integer tensor; None counts the pushes from 0.
            check: On CUDA, raise for bad rows instead of counting them in ``rejected``, which waits for the device.
            **fields: Every declared field, ``(batch, *shape)``, and what the rule takes beside them.

        Returns:
            ``(batch,)`` int64, the slot of each row, -1 for a row that was not kept.

        Raises:
            BankValueError: A shape or device does not fit; on the CPU or with ``check``, a row is not finite
                after the cast, or has no direction under cosine.
            BankTypeError: The embeddings are not floating, or a field is of a dtype that its column cannot hold.
            BankKeyError: A field is missing or unknown.
        """
        return self._push(embeddings, fields, step=step, check=check)

    def _push(
        self, embeddings: Tensor, given: Mapping[str, Tensor], *, step: int | Tensor | None, check: bool
    ) -> Int64[Tensor, " batch"]:
        storage, rule, schema = self._storage(), self.replacement, self.schema
        columns = schema.check_push(embeddings, given, storage.counters[0].device, rule.inputs)
        check_step(step)
        embeddings = embeddings.detach()
        total, pushes, _, _ = storage.counters
        now = pushes if step is None else step
        cosine = schema.metric == "cosine"
        if embeddings.is_cpu and not torch.compiler.is_compiling():
            start = rule.span(total, schema.capacity)
            if start is not None:
                quotient = admit_on_cpu(embeddings, schema.dtype, cosine)
                slots = write_run(storage, quotient, [columns[name] for name in schema.fields], start, int(now))
                if self._placement.mapping is not None:
                    self._placement.mapping.touch(slots.shape[0])
                return slots
        strict = check or embeddings.is_cpu
        stamp = self._stamp(now)
        admitted = admit_batch(embeddings, stamp, total, dtype=schema.dtype, cosine=cosine, strict=strict)
        return self._place(admitted, columns, strict=strict)

    def _place(self, admitted: Admitted, columns: dict[str, Tensor], *, strict: bool) -> Int64[Tensor, " batch"]:
        """Ask the rule for slots, and write."""
        stamp, batch = admitted.stamp, admitted.rows.shape[0]
        rows = BankView(admitted.rows, columns, stamp.expand(batch), admitted.accepted)
        stored = self._slots_view()
        rule = type(self.replacement).__name__
        slots = self.replacement.slots(rows, stored, admitted.total)
        if slots.shape != (batch,) or slots.dtype != torch.int64:
            msg = f"{rule}.slots gave {slots.dtype} of shape {tuple(slots.shape)}; expected torch.int64 of ({batch},)"
            raise BankTypeError(msg)
        slots = torch.where(rows.valid, slots, REFUSED)
        embeddings = self.replacement.merge(rows, slots, stored)
        kept = [columns[name] for name in self.schema.fields]
        merged = self.replacement.merges_duplicates
        write = write_operator if torch.compiler.is_compiling() else write_slots
        return write(*self._storage(), embeddings, kept, slots, stamp, merged, rule, strict)

    def update(
        self, slots: Tensor, generations: Tensor, embeddings: Tensor, *, step: int | Tensor | None = None
    ) -> Int64[Tensor, ""]:
        """Write new embeddings of rows that are still where they were, as after encoding them again.

        Fields and generations stay as they are; the stamp becomes ``step``. Rows that were overwritten since are
        left alone.

        Args:
            slots: ``(batch,)`` int64, where the rows were; the last of equal slots wins.
            generations: ``(batch,)`` int64, ``bank.generations[slots]`` at that time.
            embeddings: ``(batch, dim)`` of any floating dtype.
            step: The stamp of the new embeddings; None is the latest.

        Returns:
            0-d int64: how many rows were stale and not written.

        Raises:
            BankValueError: A shape or device does not fit, a slot does not exist or, on the CPU, a row is not
                finite after the cast or has no direction under cosine.
            BankTypeError: A tensor is of the wrong dtype.
        """
        check_embeddings(embeddings, self.dim, self.device)
        check_handles(slots, generations, embeddings.shape[0], self.capacity)
        check_step(step)
        stamp = self._stamp(self.clock if step is None else step)
        cosine, strict = self.metric == "cosine", embeddings.is_cpu
        admitted = admit_batch(
            embeddings.detach(), stamp, self.total, dtype=self.schema.dtype, cosine=cosine, strict=strict
        )
        return rewrite_slots(self._storage(), admitted.rows, slots, generations, admitted.accepted, admitted.stamp)

    def _stamp(self, step: int | Tensor) -> Int64[Tensor, ""]:
        """A tensor of its own: the counters it comes from change during a push."""
        if isinstance(step, Tensor):
            return step.detach().to(self.device, torch.int64, copy=True)
        return torch.full((), step, dtype=torch.int64, device=self.device)

    def _storage(self) -> Storage:
        # Straight from the dictionary: attribute access on a module costs more than the copies of a small push.
        buffers: dict[str, Any] = self._buffers
        return Storage(
            buffers["embeddings"],
            [buffers[f"field_{name}"] for name in self.schema.fields],
            buffers["steps"],
            buffers["generations"],
            [buffers["total"], buffers["pushes"], buffers["clock"], buffers["rejected"]],
        )

    def _table(self) -> Table:
        count = self.replacement.filled(self.total, self.capacity)
        valid = self._placement.written(self.generations).to(self.device) if count is None else None
        home = self.device if self._placement.offloaded else None
        mapping = None if torch.compiler.is_compiling() else self._placement.mapping
        return Table(self.embeddings, self.fields, self.steps, self.clock, count, valid, home, mapping)

    # State

    def save(self, path: str | Path, *, encoder: str | None = None, data: str | None = None) -> None:
        """Write the bank to one file that `torchbank.load` reads: see `torchbank.io.save`.

        Args:
            path: The file, which is replaced as a whole or not at all.
            encoder: A fingerprint of what made the embeddings, kept in the file.
            data: A fingerprint of what was embedded, kept in the file.

        Raises:
            BankFileNotFoundError: The folder does not exist.
        """
        if Bank._writer is None:
            msg = "saving needs torchbank.io, which `import torchbank` loads; import it first"
            raise BankStateError(msg)
        Bank._writer(self, path, encoder=encoder, data=data)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        _loading.prepare(self, state_dict, prefix)
        _loading.fill(self, state_dict, prefix, self._placement.offloaded)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Bank":
        """Move to another device what is not offloaded, and keep every dtype."""
        staying = {id(self.get_buffer(name)) for name in self._placement.offloaded}

        def keep_dtype(tensor: Tensor) -> Tensor:
            if id(tensor) in staying:
                return tensor
            # Asked of no elements, so that a refused conversion copies nothing.
            asked = fn(tensor.new_empty(0))
            return fn(tensor) if asked.dtype == tensor.dtype else tensor.to(asked.device)

        return super()._apply(keep_dtype, recurse)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy of the bank is made from.

        Raises:
            BankStateError: The rows lie in a file, which two banks cannot share.
        """
        if self._placement.mapping is not None:
            msg = (
                f"a bank in {self.storage} cannot be copied or pickled, as its rows are the file; save it, and give "
                "torchbank.load(saved, storage=...) another place"
            )
            raise BankStateError(msg)
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.embeddings = self._placement.settled(self.embeddings)

    def extra_repr(self) -> str:
        """Size, metric, dtype, fields and storage, and the options of the class."""
        shown: dict[str, Any] = {"capacity": self.capacity, "dim": self.dim, "metric": self.metric, "dtype": self.dtype}
        if self.schema.fields:
            shown["fields"] = list(self.schema.fields)
        if self.storage != "module":
            shown["storage"] = str(self.storage)
        return ", ".join(f"{name}={value!r}" for name, value in {**shown, **self.options()}.items())
