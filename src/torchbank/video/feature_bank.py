"""Long-term feature banks: all of a video in one table, and a head that adds what is around a moment to a clip model.

Axes: batch (clips), length (rows of a window), latent (width of the non-local blocks).
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn

from torchbank.banks import check_size
from torchbank.errors import BankKeyError, BankTypeError, BankValueError, FileFormatError, check_choice
from torchbank.io import read_tensors
from torchbank.video import _doors
from torchbank.video._context import Window
from torchbank.video._read_rules import masked_softmax

__all__ = ["FeatureBank", "FeatureBankHead"]

KIND = "feature bank"
# The width of the paper, for features of 2,048.
LATENT = 512


class FeatureBankHead(nn.Module):
    """Adds what a window of long-term features tells to the feature of a clip.

    The feature bank operator of [Wu et al. 2019, section 3.4](arXiv:1812.05038), as a residual: ``feature +
    head(feature, window)`` goes to the classifier. Its last layer starts at 0, so that a trained clip model is at
    first what it was. Rows that are padding have no part in the attention, the mean or the maximum; of a window
    without rows it adds 0.

    Args:
        dim: Of the clip model's features, and of what is added.
        bank_dim: Of the rows of the window; None for ``dim``.
        operator: ``"nonlocal"``: the feature asks, in ``layers`` steps of attention over the window; ``"average"`` or
            ``"maximum"``: a linear layer of the pooled window, which takes no notice of the clip.
        latent: Width of the attention; None is 512 or, if that is less, ``dim``.
        layers: Steps of attention; 2 or 3 in the paper.
        dropout: Share of the values that are dropped in training.

    Raises:
        BankValueError: A size is not positive, a share out of range or the operator unknown.
        BankTypeError: A size is not an int.

    Example:
        >>> import torch
        >>> from torchbank import video
        >>> memory = video.TemporalMemory(16, capacity=60, streams=2)
        >>> head = video.FeatureBankHead(16)
        >>> clips = torch.randn(2, 16)
        >>> (clips + head(clips, memory.window(time=4.0, seconds=60.0))).shape
        torch.Size([2, 16])
    """

    def __init__(
        self,
        dim: int,
        bank_dim: int | None = None,
        *,
        operator: str = "nonlocal",
        latent: int | None = None,
        layers: int = 2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        bank_dim = dim if bank_dim is None else bank_dim
        latent = min(LATENT, dim) if latent is None else latent
        for what, size in (("dim", dim), ("bank_dim", bank_dim), ("latent", latent), ("layers", layers)):
            check_size(what, size)
        check_choice("operator", operator, "nonlocal", "average", "maximum")
        if not 0 <= dropout < 1:
            msg = f"dropout is {dropout}; expected a share, 0 or more and less than 1"
            raise BankValueError(msg)
        self.dim, self.bank_dim, self.operator = dim, bank_dim, operator
        self.dropout = nn.Dropout(dropout)
        if operator == "nonlocal":
            self.reduce_clip, self.reduce_bank = nn.Linear(dim, latent), nn.Linear(bank_dim, latent)
            self.blocks = nn.ModuleList(NonLocalBlock(latent, dropout) for _ in range(layers))
        self.output = nn.Linear(latent if operator == "nonlocal" else bank_dim, dim)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, features: Float[Tensor, "batch dim"], window: Window) -> Float[Tensor, "batch dim"]:
        """What to add to each feature.

        Args:
            features: ``(batch, dim)``.
            window: What is around each: `FeatureBank.window`, `TemporalMemory.window`, or your own.

        Raises:
            BankValueError: A shape does not fit.
        """
        self._check(features, window)
        valid = window.valid
        rows = window.rows.to(self.output.weight.dtype)
        if self.operator == "nonlocal":
            bank = self.dropout(self.reduce_bank(rows))
            told = self.dropout(self.reduce_clip(features))
            for block in self.blocks:
                told = block(told, bank, valid)
        else:
            told = self.dropout(_pooled(rows, valid, self.operator))
        return self.output(told).masked_fill(~valid.any(dim=1, keepdim=True), 0)

    def _check(self, features: Tensor, window: Window) -> None:
        if features.ndim != 2 or features.shape[1] != self.dim:
            msg = f"features has shape {tuple(features.shape)}; expected (batch, {self.dim})"
            raise BankValueError(msg)
        rows, valid = window.rows, window.valid
        if rows.ndim != 3 or rows.shape[0] != features.shape[0] or rows.shape[2] != self.bank_dim:
            expected = f"({features.shape[0]}, length, {self.bank_dim})"
            msg = f"window.rows has shape {tuple(rows.shape)}; expected {expected}: a window for each feature"
            raise BankValueError(msg)
        if valid.shape != rows.shape[:2] or valid.dtype != torch.bool:
            msg = (
                f"window.valid is {valid.dtype} of {tuple(valid.shape)}; expected torch.bool of {tuple(rows.shape[:2])}"
            )
            raise BankValueError(msg)


class NonLocalBlock(nn.Module):
    """One step of attention of a clip over its window, with a shortcut.

    Args:
        latent: Width of everything.
        dropout: Share of the values that are dropped in training.
    """

    def __init__(self, latent: int, dropout: float) -> None:
        super().__init__()
        self.scale = latent**-0.5
        self.query, self.key, self.value = (nn.Linear(latent, latent) for _ in range(3))
        self.mix = nn.Sequential(nn.LayerNorm(latent), nn.ReLU(), nn.Linear(latent, latent), nn.Dropout(dropout))

    def forward(
        self,
        told: Float[Tensor, "batch latent"],
        bank: Float[Tensor, "batch length latent"],
        valid: Bool[Tensor, "batch length"],
    ) -> Float[Tensor, "batch latent"]:
        """The clip, and what it found."""
        scores = torch.einsum("bd,bnd->bn", self.query(told), self.key(bank))
        weights = masked_softmax(scores, valid, self.scale)
        return told + self.mix(torch.einsum("bn,bnd->bd", weights, self.value(bank)))


def _pooled(
    rows: Float[Tensor, "batch length dim"], valid: Bool[Tensor, "batch length"], operator: str
) -> Float[Tensor, "batch dim"]:
    """The mean or the maximum of what is valid; 0 of nothing."""
    there = valid[:, :, None]
    if operator == "average":
        return rows.masked_fill(~there, 0).sum(dim=1) / there.sum(dim=1).clamp_min(1)
    if rows.shape[1] == 0:
        return rows.sum(dim=1)
    return rows.masked_fill(~there, -torch.inf).amax(dim=1).masked_fill(~there.any(dim=1), 0)


class FeatureBank:
    """The features of whole videos, in order of time: what `build_feature_bank` made.

    Args:
        features: ``(rows, dim)``, video after video.
        times: ``(rows,)`` float64 seconds in each video, ascending.
        offsets: ``(videos + 1,)`` int64: rows ``offsets[i]`` to ``offsets[i + 1]`` are of video i.
        header: What the file tells of them, with ``"videos"``, their names.

    Raises:
        BankValueError: The parts do not fit each other.

    Example:
        >>> import torch
        >>> from torchbank import video
        >>> bank = video.FeatureBank(torch.eye(3), torch.arange(3.0).double(), torch.tensor([0, 3]), {"videos": ["a"]})
        >>> bank.window(["a"], 2.0, seconds=1.0).times
        tensor([[1., 2.]], dtype=torch.float64)
    """

    def __init__(
        self,
        features: Float[Tensor, "rows dim"],
        times: Float64[Tensor, " rows"],
        offsets: Int64[Tensor, " ends"],
        header: dict[str, Any],
    ) -> None:
        self.videos: list[str] = list(header["videos"])
        self.header = header
        self.features, self.times, self.offsets = features, times, offsets
        self._numbers = {name: number for number, name in enumerate(self.videos)}
        ends = offsets.tolist()
        if (
            len(ends) != len(self.videos) + 1
            or ends[0] != 0
            or ends[-1] != len(features)
            or len(times) != len(features)
        ):
            msg = (
                f"{len(self.videos)} videos, {len(features)} features, {len(times)} times and offsets {ends[:3]}... do "
                "not fit; expected a time for each feature, and offsets from 0 to their number, one more than videos"
            )
            raise BankValueError(msg)

    @classmethod
    def load(cls, path: str | Path) -> "FeatureBank":
        """Read a bank; features stay in the file until they are looked at.

        Raises:
            BankFileNotFoundError: There is no such file.
            FileFormatError: The file is damaged or holds no feature bank.
        """
        tensors, header = read_tensors(path)
        if header.get("kind") != KIND:
            msg = f"{path} was written by torchbank but holds no feature bank, but: {header.get('kind')}"
            raise FileFormatError(msg)
        try:
            return cls(tensors["features"], tensors["times"], tensors["offsets"], header)
        except (KeyError, BankValueError) as error:
            msg = f"{path} does not hold the tensors of a feature bank: {error}"
            raise FileFormatError(msg) from error

    @property
    def dim(self) -> int:
        """Length of a feature."""
        return self.features.shape[1]

    def __len__(self) -> int:
        """The features of all videos together."""
        return self.features.shape[0]

    def rows_of(self, video: str) -> slice:
        """Where the features of a video are.

        Raises:
            BankKeyError: The bank has no such video.
        """
        if video not in self._numbers:
            msg = f"there is no video {video!r} in the bank, which has {len(self.videos)}, such as {self.videos[:3]}"
            raise BankKeyError(msg)
        number = self._numbers[video]
        return slice(int(self.offsets[number]), int(self.offsets[number + 1]))

    def window(
        self,
        videos: list[str] | tuple[str, ...],
        time: _doors.Times,
        *,
        seconds: float | None = None,
        causal: bool = True,
        length: int | None = None,
    ) -> Window:
        """What is around some moments, for a `FeatureBankHead`.

        Args:
            videos: The video of each moment.
            time: Seconds in it: a number, or ``(batch,)``.
            seconds: The length of the window; None for all.
            causal: Nothing newer than the time is seen, and all of the window lies before; False puts the time in the
                middle, as the paper does, which looks ahead.
            length: Rows of a window; of more, those that are closest in time. None is what the longest takes.

        Returns:
            `Window`, its rows in order of time and then padding, float32.

        Raises:
            BankKeyError: The bank has no such video.
            BankValueError: A number is out of range.
            BankTypeError: ``videos`` is one name.
        """
        if isinstance(videos, str):
            msg = f"videos is {videos!r}; expected a list, one name for each moment"
            raise BankTypeError(msg)
        _doors.check_window(seconds)
        if length is not None:
            check_size("length", length)
        moments = _doors.as_times(time, len(videos), torch.device("cpu")).tolist()
        parts = [
            self._around(self.rows_of(video), moment, seconds, causal=causal, length=length)
            for video, moment in zip(videos, moments, strict=True)
        ]
        longest = max((part.stop - part.start for part in parts), default=0) if length is None else length
        rows = torch.zeros(len(parts), longest, self.dim)
        times = torch.zeros(len(parts), longest, dtype=torch.float64)
        valid = torch.zeros(len(parts), longest, dtype=torch.bool)
        for number, part in enumerate(parts):
            count = part.stop - part.start
            rows[number, :count] = self.features[part].float()
            times[number, :count] = self.times[part]
            valid[number, :count] = True
        return Window(rows, times, valid)

    def _around(self, own: slice, moment: float, seconds: float | None, *, causal: bool, length: int | None) -> slice:
        """The rows of one window."""
        times = self.times[own]
        reach = torch.inf if seconds is None else seconds
        first, last = (moment - reach, moment) if causal else (moment - reach / 2, moment + reach / 2)
        begin = int(torch.searchsorted(times, first))
        end = int(torch.searchsorted(times, last, right=True))
        if length is not None and end - begin > length:
            begin = begin + _closest(times[begin:end], moment, length)
            end = begin + length
        return slice(own.start + begin, own.start + end)


def _closest(times: Float64[Tensor, " rows"], moment: float, length: int) -> int:
    """Where the run of ``length`` rows begins whose farther end is nearest to the moment."""
    first, last = times[: len(times) - length + 1], times[length - 1 :]
    return int(torch.maximum(moment - first, last - moment).argmin())
