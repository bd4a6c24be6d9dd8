"""Videos, through the optional package PyAV."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from torchbank.errors import BankFileNotFoundError, BankValueError, FileFormatError

__all__ = ["VideoFacts", "VideoWriter", "read_video", "video_facts"]

DEFAULT_FPS = 25.0
"""What is assumed of a video that does not say."""


class VideoFacts(NamedTuple):
    """What the head of a video says.

    Attributes:
        fps: Frames per second.
        width: Pixels.
        height: Pixels.
        frames: How many there are, about; 0 if the head does not tell.
    """

    fps: float
    width: int
    height: int
    frames: int


def video_facts(path: str | Path) -> VideoFacts:
    """Read the head of a video.

    Raises:
        BankFileNotFoundError: There is no such file.
        FileFormatError: It is not a video.
        BankValueError: PyAV is not installed.
    """
    with _opened(Path(path)) as (container, stream):
        fps = float(stream.average_rate or DEFAULT_FPS)
        seconds = float(container.duration or 0) / 1e6
        frames = stream.frames or round(seconds * fps)
        return VideoFacts(fps, stream.codec_context.width, stream.codec_context.height, frames)


def read_video(path: str | Path) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """The frames of a video in order, as RGB.

    Raises:
        BankFileNotFoundError: There is no such file.
        FileFormatError: It is not a video, or is damaged.
        BankValueError: PyAV is not installed.
    """
    with _opened(Path(path)) as (container, stream):
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            yield frame.to_ndarray(format="rgb24")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    av = _av()
    if not path.is_file():
        msg = f"there is no video {path}"
        raise BankFileNotFoundError(msg)
    try:
        with av.open(str(path)) as container:
            # FFmpeg takes any text for a film of a terminal.
            if not container.streams.video or container.format.name == "tty":
                msg = f"{path} has no picture in it; expected a video"
                raise FileFormatError(msg)
            yield container, container.streams.video[0]
    except av.error.FFmpegError as error:
        msg = f"{path} is damaged or not a video ({error.strerror})"
        raise FileFormatError(msg) from error


class VideoWriter:
    """Writes frames to a video (H.264 in MP4, by the file's name); a context manager.

    What was written is a whole video also when the block ends early.

    Args:
        path: The file; its folder must exist.
        fps: Frames per second.
        width: Of the frames. An odd last column is cut off.
        height: Of the frames. An odd last row is cut off.

    Raises:
        BankFileNotFoundError: The folder does not exist.
        BankValueError: PyAV is not installed.
    """

    def __init__(self, path: str | Path, *, fps: float, width: int, height: int) -> None:
        if not Path(path).parent.is_dir():
            msg = f"cannot write {path}: the folder {Path(path).parent} does not exist; create it first"
            raise BankFileNotFoundError(msg)
        self._av = _av()
        self._container = self._av.open(str(path), mode="w")
        self._stream = self._container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        # The most players ask for even sides and this format of pixels.
        self._stream.width, self._stream.height = width - width % 2, height - height % 2
        self._stream.pix_fmt = "yuv420p"

    def write(self, image: UInt8[np.ndarray, "height width 3"]) -> None:
        """Add a frame, RGB."""
        cut = np.ascontiguousarray(image[: self._stream.height, : self._stream.width])
        frame = self._av.VideoFrame.from_ndarray(cut, format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        msg = "videos need the package av; pip install 'torchbank[tracking]'"
        raise BankValueError(msg) from error
    return av
