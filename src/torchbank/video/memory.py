"""The temporal memory: long context for models that see seconds, in a fixed number of bytes."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from torchbank.banks import check_size
from torchbank.errors import BankTypeError, BankValueError, check_choice
from torchbank.video import _doors, _memory_file
from torchbank.video._compress_rules import CompressRule
from torchbank.video._context import Context, StreamView
from torchbank.video._evict_rules import EvictRule, Fifo
from torchbank.video._ledger import ROW_COLUMNS
from torchbank.video._live_rows import Graphs, LiveRows
from torchbank.video._offer import Part, prepare
from torchbank.video._read_rules import Attention, ReadRule
from torchbank.video._reading import Reading
from torchbank.video._rule import check_rule, describe_rule
from torchbank.video._stream_bank import INPUTS, StreamBank, StreamRule
from torchbank.video._write_rules import EveryNth, WriteRule

__all__ = ["TemporalMemory"]

EVERY_ROW, OLDEST_GOES, ATTENTION = EveryNth(1), Fifo(), Attention()


class TemporalMemory(Reading, nn.Module):
    """Rows of many streams, of which each keeps ``capacity``, with times; read by queries that may not see the future.

    Put it behind any encoder of frames or clips: `step` reads the past of each stream and then stores what came. Its
    bytes are fixed when it is built, and the cost of a step does not depend on how long a stream is. What is stored,
    what gives way, what is merged and what a query gets are rules: small objects, published ones, or your own.

    All state is in ``state_dict()`` and moves with ``.to(device)``; the dtype of the rows is fixed. Nothing waits for
    the device unless ``stream_ids`` lie on it: give them on the CPU.

    Args:
        dim: Length of a feature.
        capacity: Rows of each stream.
        streams: How many streams there are, such as the videos of a batch.
        write: Which rows are taken: one rule, or several that must all agree.
        evict: Which row of a full stream gives way.
        compress: How a full stream is compressed before anything is lost; None for not at all.
        read: What a query gets.
        fields: What is stored beside each row, as for `torchbank.MemoryBank`.
        metric: ``"cosine"``: rows and queries are normalised; or ``"dot"``.
        dtype: Of the rows: ``torch.float32``, ``torch.bfloat16`` or ``torch.float16``.
        device: Where the memory lies; moves with ``.to(device)``.
        gradient_writes: So many last calls of `write` or `step` are read with their graph, so that a loss on what
            is read teaches what was written; older rows are constants. 0 for none. See `detach`.

    Attributes:
        bank: The rows, as slots ``stream * capacity + place`` of a bank.
        ledger: What is known of them, and which of the slots are held.

    Raises:
        BankValueError: A size, metric or field name is out of range, or a rule does not fit the capacity.
        BankTypeError: A size, dtype, rule or field declaration is of the wrong type.

    Example:
        >>> import torch
        >>> from torchbank import video
        >>> memory = video.TemporalMemory(2, capacity=3, metric="dot", read=video.Nearest())
        >>> for second, feature in enumerate([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]):
        ...     context = memory.step(torch.tensor([feature]), float(second))
        >>> context.value, context.valid.tolist()
        (tensor([[0., 1.]]), [[True, True, False]])
        >>> memory.read(torch.tensor([[1.0, 0.0]]), time=10.0, window=9.0).value
        tensor([[0., 1.]])
    """

    def __init__(
        self,
        dim: int,
        capacity: int,
        *,
        streams: int = 1,
        write: WriteRule | tuple[WriteRule, ...] = EVERY_ROW,
        evict: EvictRule = OLDEST_GOES,
        compress: CompressRule | None = None,
        read: ReadRule = ATTENTION,
        fields: Mapping[str, Any] | None = None,
        metric: str = "cosine",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        gradient_writes: int = 0,
    ) -> None:
        super().__init__()
        for what, size in (("dim", dim), ("capacity", capacity), ("streams", streams)):
            check_size(what, size)
        check_choice("metric", metric, "cosine", "dot")
        _check_gradient_writes(gradient_writes)
        taken = sorted({*INPUTS} & set(fields or {}))
        if taken:
            msg = f"a field cannot be named {taken[0]!r}, which write takes by itself; choose another name"
            raise BankValueError(msg)
        self.dim, self.capacity, self.streams, self.metric = dim, capacity, streams, metric
        self.write_rules = write if isinstance(write, tuple) else (write,)
        self.evict_rule, self.compress_rule, self.read_rule = evict, compress, read
        self._check_rules()
        # Both are dot products over sqrt(dim) of vectors whose values have variance 1.
        self.scale = 1 / math.sqrt(dim) if metric == "dot" else math.sqrt(dim)
        self.gradient_writes = gradient_writes
        rule = StreamRule(streams, capacity, scale=self.scale, write=self.write_rules, evict=evict, compress=compress)
        self.bank = StreamBank(
            streams, capacity, dim, rule=rule, fields=fields, metric=metric, dtype=dtype, device=device
        )
        self._graphs = Graphs(gradient_writes)

    def _check_rules(self) -> None:
        for what, rules, kind in (
            ("write", self.write_rules, WriteRule),
            ("evict", (self.evict_rule,), EvictRule),
            ("compress", () if self.compress_rule is None else (self.compress_rule,), CompressRule),
            ("read", (self.read_rule,), ReadRule),
        ):
            for rule in rules:
                check_rule(what, rule, kind).check_capacity(self.capacity)

    # What is there

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the rows."""
        return self.bank.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors; never changes.

        A row takes ``dim`` values of the dtype, its fields, and 66 bytes of times, size, use and stamps; a stream 32
        bytes beside its rows, and a memory 40. Graphs that ``gradient_writes`` keeps come on top.
        """
        return self.bank.nbytes

    def __len__(self) -> int:
        """The rows of all streams together. Waits for the device."""
        return int(self.counts().sum())

    def counts(self) -> Int64[Tensor, " streams"]:
        """The rows of each stream."""
        return (self.ledger.size > 0).sum(dim=1)

    def view(self, stream_id: int = 0) -> StreamView:
        """A copy of the rows of a stream, in order of time. Waits for the device.

        Raises:
            BankKeyError: There is no such stream.
        """
        _doors.check_known(torch.tensor([stream_id]), self.streams)
        held = (self.ledger.size[stream_id] > 0).nonzero().squeeze(1)
        place = held[self.ledger.get_buffer("number")[stream_id, held].argsort()]
        slots = stream_id * self.capacity + place
        known = {name: self.ledger.get_buffer(name)[stream_id, place] for name in ROW_COLUMNS}
        return StreamView(
            embeddings=self.bank.embeddings[slots],
            times=known["time"],
            latest=known["latest"],
            sizes=known["size"],
            usage=known["usage"],
            pinned=known["pinned"],
            slots=slots,
            valid=torch.ones_like(slots, dtype=torch.bool),
            fields={name: column[slots] for name, column in self.bank.fields.items()},
        )

    # Writing

    def write(
        self,
        features: Tensor,
        time: _doors.Times,
        *,
        stream_ids: Tensor | Sequence[int] | None = None,
        quality: Tensor | Sequence[float] | float | None = None,
        pin: Tensor | Sequence[bool] | bool | None = None,
        **fields: Tensor,
    ) -> Int64[Tensor, " batch"]:
        """Offer rows to their streams. Several rows of one stream are taken one after the other.

        On an error the memory is as it was. On CUDA, where values are not looked at, a row that is not finite, has no
        direction under cosine or is older than its stream is never written, and ``bank.rejected`` counts it.

        Args:
            features: ``(batch, dim)`` of any floating dtype.
            time: Seconds on the clock of each stream, not before its last: a number, or ``(batch,)`` float64.
            stream_ids: ``(batch,)`` int64, best on the CPU. None: row i is of stream i, or all are of the only one.
            quality: ``(batch,)``, for `Quality`.
            pin: ``(batch,)`` bool, the rows that are to stay, whatever the write rules say; False by default.
            **fields: Every declared field, ``(batch, *shape)``.

        Returns:
            ``(batch,)`` int64, the slot of each row; -1 for one that was not taken or was merged into another.

        Raises:
            BankValueError: A shape or device does not fit, time goes backwards, or a value is not finite.
            BankTypeError: A dtype does not fit.
            BankKeyError: There is no such stream or field, or a field is missing.
        """
        offer = prepare(self, features, time, stream_ids, quality, pin, fields)
        self._graphs.begin()
        return offer.join([self._write(part) for part in offer.parts()])

    def step(
        self,
        features: Tensor,
        time: _doors.Times,
        *,
        stream_ids: Tensor | Sequence[int] | None = None,
        queries: Tensor | None = None,
        quality: Tensor | Sequence[float] | float | None = None,
        pin: Tensor | Sequence[bool] | bool | None = None,
        window: float | None = None,
        read: ReadRule | None = None,
        **fields: Tensor,
    ) -> Context:
        """Read what was before, and then write: one moment of each stream, at a constant cost.

        Only rows of strictly earlier times are seen. Several rows of one stream step one after the other.

        Args:
            features: ``(batch, dim)``, see `write`.
            time: Seconds, see `write`.
            stream_ids: See `write`.
            queries: ``(batch, dim)``, what to read with; None for the features.
            quality: See `write`.
            pin: See `write`.
            window: See `read`.
            read: See `read`.
            **fields: See `write`.

        Raises:
            BankError: As `read` and `write` do; the memory is as it was then.
        """
        offer = prepare(self, features, time, stream_ids, quality, pin, fields)
        queries = features if queries is None else queries
        self._check_queries(queries, features.shape[0])
        _doors.check_window(window)
        rule = self.read_rule if read is None else check_rule("read", read, ReadRule)
        self._graphs.begin()
        contexts = []
        for part in offer.parts():
            asked = queries if part.index is None else queries[part.index.to(queries.device)]
            streams, times = part.inputs["stream"], part.inputs["time"]
            valid = self._visible(streams, times, causal=True, window=window, strictly=True)
            contexts.append(self._read(asked, streams, valid, rule))
            self._write(part)
        return Context(
            *(offer.join([context[column] for context in contexts]) for column in range(len(Context._fields)))
        )

    def _write(self, part: Part) -> Int64[Tensor, " part"]:
        slots = self.bank.take(part.features, part.inputs)
        if self.gradient_writes and part.features.requires_grad and torch.is_grad_enabled():
            self._graphs.add(self._live(part.features, slots))
        return slots

    def _live(self, features: Tensor, slots: Int64[Tensor, " part"]) -> LiveRows:
        """Rows with the values that are stored and the gradient of what they were made from."""
        rows = features.to(torch.promote_types(features.dtype, torch.float32))
        rows = nn.functional.normalize(rows, dim=1) if self.metric == "cosine" else rows
        held = slots.clamp_min(0)
        return LiveRows(self.bank.embeddings[held] + (rows - rows.detach()), slots, self.bank.generations[held])

    def reset(self, stream_ids: Tensor | Sequence[int] | None = None) -> None:
        """Forget everything of some streams, before another video begins in them; None for all.

        Raises:
            BankKeyError: There is no such stream.
            BankTypeError: They are not integers.
        """
        count = self.streams if stream_ids is None else len(stream_ids)
        given = _doors.as_streams(stream_ids, count, self.streams)
        streams = torch.arange(self.streams) if given is None else given
        streams = streams.to(self.device)
        self.bank.erase(streams)
        gone = torch.zeros(self.streams, self.capacity, dtype=torch.bool, device=self.device)
        self._graphs.forget(gone.index_fill_(0, streams, value=True).flatten())

    def detach(self) -> None:
        """Let go of all graphs that ``gradient_writes`` keeps.

        A graph reaches as far back as what a row was made from: where features depend on what was read before, call
        this after each ``backward()``, as in truncated backpropagation through time.
        """
        self._graphs.clear()

    # State

    def save(self, path: str | Path) -> None:
        """Write the memory to one file, whole or not at all; `torchbank.video.load` goes on exactly from there.

        Raises:
            BankFileNotFoundError: The folder does not exist.
        """
        _memory_file.write(self, path)

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
        given = state_dict.get(f"{prefix}bank.replacement.ledger.size")
        if given is not None and tuple(given.shape) != (self.streams, self.capacity):
            msg = (
                f"the state has {given.shape[0]} streams of {given.shape[1]} rows and this memory {self.streams} of "
                f"{self.capacity}; build it as the one that was saved"
            )
            raise BankValueError(msg)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        self.detach()

    def extra_repr(self) -> str:
        """Sizes and rules."""
        rules = {
            "write": [describe_rule(rule) for rule in self.write_rules],
            "evict": describe_rule(self.evict_rule),
            "compress": None if self.compress_rule is None else describe_rule(self.compress_rule),
            "read": describe_rule(self.read_rule),
        }
        sizes = f"dim={self.dim}, capacity={self.capacity}, streams={self.streams}"
        return f"{sizes}, " + ", ".join(f"{name}={rule}" for name, rule in rules.items())


def _check_gradient_writes(writes: int) -> None:
    if isinstance(writes, bool) or not isinstance(writes, int):
        msg = f"gradient_writes is {writes!r}; expected an int"
        raise BankTypeError(msg)
    if writes < 0:
        msg = f"gradient_writes is {writes}; expected 0 or more"
        raise BankValueError(msg)
