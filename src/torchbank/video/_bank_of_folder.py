"""A feature bank of a folder of videos, in one pass that can be stopped and taken up again."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from torchbank.banks import check_size
from torchbank.data import read_video, video_facts
from torchbank.encoders import device_of, evaluation_mode, fingerprint
from torchbank.errors import BankFileNotFoundError, BankTypeError, BankValueError, FileFormatError, check_choice
from torchbank.io import read_tensors, write_pieces, write_tensors
from torchbank.video.feature_bank import KIND, FeatureBank

__all__ = ["build_feature_bank"]

PART_KIND = "feature bank part"
SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Sampling:
    """What is encoded of a video.

    Raises:
        BankValueError: A number is out of range.
        BankTypeError: A count is not an int.
    """

    every: float
    clip: int
    size: tuple[int, int] | None
    batch_size: int

    def __post_init__(self) -> None:
        check_size("clip", self.clip)
        check_size("batch_size", self.batch_size)
        if not 0 < self.every < torch.inf:
            msg = f"every is {self.every}; expected seconds from one feature to the next, more than 0"
            raise BankValueError(msg)
        for side in () if self.size is None else self.size:
            check_size("each side of size", side)

    def clips(self, path: Path) -> Iterator[tuple[float, Float[Tensor, "..."]]]:
        """Each moment of a video, and its frame, ``(3, h, w)``, or the clip that ends with it, ``(3, clip, h, w)``."""
        fps = video_facts(path).fps
        recent: list[Tensor] = []
        due = 0
        for number, picture in enumerate(read_video(path)):
            recent = [*recent, torch.from_numpy(picture)][-self.clip :]
            # A frame is due from its time on, which may be a little less than that by rounding.
            if number / fps + 1e-6 < due * self.every:
                continue
            due = int((number / fps + 1e-6) / self.every) + 1
            # At its start a video has stood still.
            frames = [self._scaled(frame) for frame in [recent[0]] * (self.clip - len(recent)) + recent]
            yield number / fps, frames[0] if self.clip == 1 else torch.stack(frames, dim=1)

    def _scaled(self, frame: Tensor) -> Float[Tensor, "3 height width"]:
        picture = frame.permute(2, 0, 1).float() / 255
        if self.size is None or tuple(picture.shape[1:]) == self.size:
            return picture
        scaled = nn.functional.interpolate(picture[None], self.size, mode="bilinear", antialias=True)
        return scaled[0].clamp(0, 1)


def build_feature_bank(
    folder: str | Path,
    encoder: nn.Module,
    path: str | Path,
    *,
    every: float = 1.0,
    clip: int = 1,
    size: tuple[int, int] | None = None,
    batch_size: int = 32,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    unreadable: str = "error",
    progress: Callable[[str, int, int], None] | None = None,
) -> FeatureBank:
    """Encode every video under a folder once, into one file.

    The offline bank of [Wu et al. 2019, section 3.1](arXiv:1812.05038). Each video is written beside the file, in
    ``PATH.parts``, as soon as it is done: call it again after a crash, and it goes on where it was. Called with a file
    that is there, it encodes only what is new or changed since, by name, size and time of the video file, and
    nothing if encoder and settings are the same and all is there.

    Args:
        folder: Where videos are, also in folders below; their names in the bank are relative to it.
        encoder: ``(batch, 3, h, w)`` in [0, 1], or with ``clip`` above 1 ``(batch, 3, clip, h, w)``, to
            ``(batch, dim)``. It runs in evaluation mode and without gradient.
        path: The file. Its folder must exist.
        every: Seconds from one feature to the next.
        clip: Frames that a feature is made from; the last of them is its moment.
        size: Height and width that frames are scaled to; None leaves them.
        batch_size: Moments that are encoded at once.
        dtype: Of the features in the file.
        device: Where the frames are sent; None is where the encoder is.
        unreadable: What a damaged video does: ``"error"``, which names it, or ``"skip"``, which leaves it out; the
            header of the bank then tells its name under ``"skipped"``.
        progress: ``progress(name, done, videos)`` is called after each video.

    Returns:
        The bank, read from the file.

    Raises:
        BankFileNotFoundError: There is no such folder, or none to write the file into.
        BankValueError: The folder holds no video, a number is out of range, PyAV is not installed, or the encoder
            does not give one vector a moment.
        BankTypeError: A count is not an int, or the dtype not one for rows.
        FileFormatError: A video cannot be read.
    """
    folder, path = Path(folder), Path(path)
    sampling = Sampling(every, clip, size, batch_size)
    check_choice("unreadable", unreadable, "error", "skip")
    if dtype not in DTYPES:
        msg = f"dtype is {dtype}; features are stored as {', '.join(map(str, DTYPES))}"
        raise BankTypeError(msg)
    files = _videos(folder)
    if not path.parent.is_dir():
        msg = f"cannot write {path}: the folder {path.parent} does not exist; create it first"
        raise BankFileNotFoundError(msg)
    settings = {
        "every": every,
        "clip": clip,
        "size": None if size is None else list(size),
        "encoder": fingerprint(encoder),
        "dtype": str(dtype).removeprefix("torch."),
    }
    known = _Known(path, settings)
    skipped = []
    for number, file in enumerate(files, start=1):
        key = _key(folder, file)
        if not known.has(key):
            try:
                known.add(key, *_encode(file, encoder, sampling, dtype, device))
            except FileFormatError:
                if unreadable == "error":
                    raise
                skipped.append(key["video"])
        if progress is not None:
            progress(key["video"], number, len(files))
    return known.finish([_key(folder, file) for file in files], skipped)


class _Known:
    """What is encoded already: in the file, or in its parts.

    Args:
        path: The file.
        settings: What the features depend on beside the videos.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, settings
        self.parts = path.with_name(f"{path.name}.parts")
        self.bank: FeatureBank | None = None
        if path.is_file():
            bank = FeatureBank.load(path)
            self.bank = bank if bank.header.get("settings") == settings else None

    def has(self, key: dict[str, Any]) -> bool:
        """Whether a video need not be encoded."""
        return self._in_bank(key) or self._part(key) is not None

    def _in_bank(self, key: dict[str, Any]) -> bool:
        return self.bank is not None and key in self.bank.header["sources"]

    def _file(self, key: dict[str, Any]) -> Path:
        return self.parts / f"{hashlib.sha256(key['video'].encode()).hexdigest()[:24]}.safetensors"

    def _part(self, key: dict[str, Any]) -> dict[str, Tensor] | None:
        try:
            tensors, header = read_tensors(self._file(key))
        except (BankFileNotFoundError, FileFormatError):
            return None
        return tensors if header == {"kind": PART_KIND, "source": key, "settings": self.settings} else None

    def add(self, key: dict[str, Any], features: Tensor, times: Tensor) -> None:
        """Keep a video."""
        self.parts.mkdir(exist_ok=True)
        header = {"kind": PART_KIND, "source": key, "settings": self.settings}
        write_tensors(self._file(key), {"features": features, "times": times}, header)

    def _columns(self, key: dict[str, Any]) -> dict[str, Tensor]:
        if self.bank is not None and self._in_bank(key):
            rows = self.bank.rows_of(key["video"])
            return {"features": self.bank.features[rows], "times": self.bank.times[rows]}
        return self._part(key) or {}

    def finish(self, keys: list[dict[str, Any]], skipped: list[str]) -> FeatureBank:
        """Put everything into the file, video after video, and take the parts away."""
        keys = [key for key in keys if key["video"] not in skipped]
        whole = self.bank is not None and self.bank.header["sources"] == keys
        if not whole:
            self._write(keys, skipped)
        # The file that was read before is replaced; its rows must not be looked at again.
        self.bank = None
        if self.parts.is_dir():
            for part in self.parts.iterdir():
                part.unlink()
            self.parts.rmdir()
        return FeatureBank.load(self.path)

    def _write(self, keys: list[dict[str, Any]], skipped: list[str]) -> None:
        if not keys:
            msg = f"no video could be read, of {len(skipped)}; look at one of them: {skipped[0]}"
            raise FileFormatError(msg)
        counts, dims = zip(*(self._columns(key)["features"].shape for key in keys), strict=True)
        if len(set(dims)) > 1:
            msg = f"the encoder gave features of {sorted(set(dims))} values; expected one length for all videos"
            raise BankValueError(msg)
        offsets = torch.tensor([0, *counts]).cumsum(0)
        dtype = getattr(torch, self.settings["dtype"])
        tensors = {
            "offsets": offsets,
            "times": torch.empty(int(offsets[-1]), dtype=torch.float64, device="meta"),
            "features": torch.empty(int(offsets[-1]), dims[0], dtype=dtype, device="meta"),
        }
        header = {
            "kind": KIND,
            "videos": [key["video"] for key in keys],
            "sources": keys,
            "settings": self.settings,
            "skipped": skipped,
        }

        def pieces(name: str) -> Iterator[Tensor]:
            if name == "offsets":
                yield offsets
            else:
                yield from (self._columns(key)[name] for key in keys)

        write_pieces(self.path, tensors, pieces, header)


def _videos(folder: Path) -> list[Path]:
    if not folder.is_dir():
        msg = f"there is no folder {folder}; expected one with videos in it"
        raise BankFileNotFoundError(msg)
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        msg = f"{folder} holds no video; expected files of {', '.join(sorted(SUFFIXES))}"
        raise BankValueError(msg)
    return files


def _key(folder: Path, file: Path) -> dict[str, Any]:
    """What tells a video from another one, and from itself before it changed."""
    facts = file.stat()
    return {"video": file.relative_to(folder).as_posix(), "bytes": facts.st_size, "modified": facts.st_mtime_ns}


@torch.no_grad()
def _encode(
    file: Path, encoder: nn.Module, sampling: Sampling, dtype: torch.dtype, device: torch.device | str | None
) -> tuple[Float[Tensor, "rows dim"], Float64[Tensor, " rows"]]:
    """The features of a video and their moments."""
    device = device_of(encoder) if device is None else torch.device(device)
    features, times, waiting = [], [], []

    def flush() -> None:
        embedded = encoder(torch.stack(waiting).to(device))
        if not isinstance(embedded, Tensor) or embedded.ndim != 2 or len(embedded) != len(waiting):
            given = tuple(embedded.shape) if isinstance(embedded, Tensor) else type(embedded).__name__
            msg = f"the encoder gave {given} for {len(waiting)} moments; expected ({len(waiting)}, dim)"
            raise BankValueError(msg)
        features.append(embedded.to("cpu", dtype))
        waiting.clear()

    with evaluation_mode(encoder):
        for moment, frames in sampling.clips(file):
            times.append(moment)
            waiting.append(frames)
            if len(waiting) == sampling.batch_size:
                flush()
        if waiting:
            flush()
    if not times:
        msg = f"{file} has no frame that can be read"
        raise FileFormatError(msg)
    rows = torch.cat(features)
    if not rows.isfinite().all():
        moment = times[int(rows.isfinite().all(dim=1).int().argmin())]
        msg = f"the encoder gave a feature of {file} at {moment:.2f} s that is not finite in {dtype}; check the encoder"
        raise BankValueError(msg)
    return rows, torch.tensor(times, dtype=torch.float64)
