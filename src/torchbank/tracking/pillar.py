"""The virtual pillar: how many identities come back after g seconds behind it, in a user's own video."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from torchbank.errors import BankValueError
from torchbank.tracking._doors import as_integers, as_matrix
from torchbank.tracking.calibrate import adapt_and_calibrate, calibrate
from torchbank.tracking.gallery import IdentityGallery
from torchbank.tracking.linker import IdentityLinker


@dataclass(frozen=True, eq=False)
class PillarCurve:
    """What became of the tracks that were hidden, by the length of the gap.

    Attributes:
        gaps: ``(g,)`` float64 seconds.
        trials: ``(g,)`` int64, how many tracks were long enough to be hidden so long.
        recovered: ``(g,)`` int64, how many of them got their identity back.
        confused: ``(g,)`` int64, how many got that of another track; the rest became new identities.
    """

    gaps: np.ndarray
    trials: np.ndarray
    recovered: np.ndarray
    confused: np.ndarray

    @property
    def recovery(self) -> np.ndarray:
        """``(g,)`` the share that was recovered, NaN without trials."""
        return np.where(self.trials > 0, self.recovered / np.maximum(self.trials, 1), np.nan)


@dataclass(frozen=True, eq=False)
class VirtualPillar:
    """The curve of the embeddings as they are, and after whitening."""

    raw: PillarCurve
    adapted: PillarCurve


def virtual_pillar(
    frames: np.ndarray,
    track_ids: np.ndarray,
    embeddings: np.ndarray | Tensor,
    gaps_seconds: Sequence[float],
    fps: float,
    *,
    boxes: np.ndarray | None = None,
    scores: np.ndarray | None = None,
    false_merge_rate: float = 0.01,
    evidence_frames: int = 5,
    looks: int = 3,
    shrinkage: float = 0.1,
) -> VirtualPillar:
    """Hide tracks of one video for a while and see whether a linker gives them their identity back.

    Each track in turn is cut: the middle ``gap`` seconds are taken away, and what follows gets another track id. All
    other tracks stay as they are, so that there is somebody to be taken for. Threshold and whitening are learned on
    one half of the tracks while those of the other half are hidden, and the other way round. A tracker that lost an
    object once has it in both halves, which flatters a little.

    Args:
        frames: ``(rows,)`` integers.
        track_ids: ``(rows,)`` ids of the tracker, negative for none.
        embeddings: ``(rows, dim)``.
        gaps_seconds: How long tracks are hidden.
        fps: Frames per second.
        boxes: ``(rows, 4)`` as x1 y1 x2 y2, as for `IdentityLinker.update`.
        scores: ``(rows,)``.
        false_merge_rate: As for `calibrate`.
        evidence_frames: As for `IdentityLinker`.
        looks: As for `IdentityLinker`.
        shrinkage: As for `Whitening.fit`.

    Returns:
        `VirtualPillar`: the curves before and after whitening.

    Raises:
        BankStateError: Half of the tracks are too few to learn a threshold or a whitening from.
        BankValueError: The shapes do not fit, or a gap or ``fps`` is not positive.
    """
    rows = as_matrix(embeddings)
    moments = as_integers("frames", frames, len(rows))
    tracks = as_integers("track_ids", track_ids, len(rows))
    gaps = np.asarray(gaps_seconds, dtype=np.float64).reshape(-1)
    if not (gaps > 0).all() or not fps > 0:
        msg = f"gaps of {gaps.tolist()} s at {fps} frames per second; expected positive numbers"
        raise BankValueError(msg)
    names = np.unique(tracks[tracks >= 0])
    options = {"evidence_frames": evidence_frames, "looks": looks}
    counts = np.zeros((2, 3, len(gaps)), dtype=np.int64)
    for turn in range(2):
        hidden = names[turn::2]
        others = (tracks >= 0) & ~np.isin(tracks, hidden)
        learned = tracks[others], moments[others], rows[others]
        asked = {
            "false_merge_rate": false_merge_rate, "gallery_size": len(names), "evidence_frames": evidence_frames
        }  # fmt: skip
        adapted = adapt_and_calibrate(*learned, shrinkage=shrinkage, **asked)
        for kind, (adapt, found) in enumerate(((None, calibrate(*learned, **asked)), adapted)):
            for place, gap in enumerate(gaps):
                linker = IdentityLinker(
                    IdentityGallery(rows.shape[1], max(1, 2 * len(names))), threshold=found, adapt=adapt, **options
                )
                visible, cut, parts = _cut(moments, tracks, hidden, gap * fps, evidence_frames * looks)
                seen = None if boxes is None else np.asarray(boxes)[visible]
                sure = None if scores is None else np.asarray(scores)[visible]
                linker.link_all(moments[visible], cut[visible], rows[visible], boxes=seen, scores=sure)
                counts[kind, :, place] += _outcomes(linker, parts)
    raw, adapted = (PillarCurve(gaps, *part) for part in counts)
    return VirtualPillar(raw, adapted)


def _cut(
    frames: np.ndarray, tracks: np.ndarray, hidden: np.ndarray, gap: float, least: int
) -> tuple[np.ndarray, np.ndarray, dict[int, int]]:
    """Take the middle out of tracks that have enough rows on both sides of it.

    Returns:
        Which rows stay, the ids with new ones for what follows a gap, and the id after it by that before it.
    """
    visible, cut, parts = np.ones(len(frames), dtype=bool), tracks.copy(), {}
    fresh = int(tracks.max(initial=0)) + 1
    for track in hidden.tolist():
        rows = np.flatnonzero(tracks == track)
        middle = (frames[rows].min() + frames[rows].max()) / 2
        away = np.abs(frames[rows] - middle) < gap / 2
        after = ~away & (frames[rows] > middle)
        if after.sum() >= least and (~away & ~after).sum() >= least:
            visible[rows[away]] = False
            cut[rows[after]] = parts[track] = fresh
            fresh += 1
    return visible, cut, parts


def _outcomes(linker: IdentityLinker, parts: dict[int, int]) -> tuple[int, int, int]:
    """Trials, recovered and confused."""
    spans = {track: identities[-1].identity for (_, track), identities in linker.corrected().items()}
    outcome = {decision.track_id: decision.outcome for decision in linker.decisions}
    recovered = sum(spans[before] == spans[after] for before, after in parts.items())
    returned = sum(outcome.get(after) == "returned" for after in parts.values())
    return len(parts), recovered, returned - recovered
