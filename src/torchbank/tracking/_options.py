"""The numbers a linker is built with, which go into its file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torchbank.banks import check_size
from torchbank.errors import BankValueError
from torchbank.tracking._candidates import Constraints
from torchbank.tracking._doors import check_fraction


@dataclass(frozen=True)
class LinkerOptions:
    """See `torchbank.tracking.IdentityLinker`, which has them as its arguments.

    Raises:
        BankValueError: A number is out of range, or a pair is not two sources.
        BankTypeError: A count is no integer.
    """

    evidence_frames: int
    looks: int
    write_every: int
    overlapping: tuple[tuple[str, str], ...]
    travel_time: dict[tuple[str, str], float]
    fps: float | None
    false_merge_rate: float
    min_height: float
    max_overlap: float
    lost_frames: int
    history: int

    def __post_init__(self) -> None:
        for what in ("evidence_frames", "looks", "write_every", "lost_frames", "history"):
            check_size(what, getattr(self, what))
        check_fraction("max_overlap", self.max_overlap)
        if self.fps is not None and not self.fps > 0:
            msg = f"fps is {self.fps}; expected frames per second, more than 0, or None"
            raise BankValueError(msg)
        for what, pairs in (("overlapping", self.overlapping), ("travel_time", self.travel_time)):
            for pair in pairs:
                if isinstance(pair, str) or len(pair) != 2 or pair[0] == pair[1]:
                    msg = f"{what} names {pair!r}; expected two different sources, such as ('cam1', 'cam2')"
                    raise BankValueError(msg)
        late = {pair: seconds for pair, seconds in self.travel_time.items() if not seconds >= 0}
        if late:
            msg = f"travel_time is {late}; expected seconds, 0 or more"
            raise BankValueError(msg)

    @property
    def pause(self) -> int:
        """Frames between the end of a look of a known identity and the start of the next."""
        return max(self.write_every - self.evidence_frames, 0)

    @property
    def constraints(self) -> Constraints:
        """What is known of the cameras."""
        return Constraints(frozenset(map(frozenset, self.overlapping)), self.travel_time)

    def as_header(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "travel_time": [[*pair, seconds] for pair, seconds in self.travel_time.items()]}

    @staticmethod
    def arguments(header: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a linker whose `as_header` this is."""
        travel_time = {(one, other): seconds for one, other, seconds in header["travel_time"]}
        return {**header, "overlapping": [tuple(pair) for pair in header["overlapping"]], "travel_time": travel_time}
