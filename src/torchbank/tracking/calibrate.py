"""The threshold of a match, from a user's own footage and without labels.

Two tracks that are in view at once are two objects: their similarities are those of impostors. A track compared with
its own past is one object, the harder the longer ago. Neither needs a label.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from torchbank.banks import check_size
from torchbank.errors import BankStateError, BankValueError
from torchbank.tracking._doors import as_integers, as_matrix
from torchbank.tracking._looks import Looks, gather_looks, joined, thin
from torchbank.tracking.adapt import Whitening

FEWEST_PAIRS = 10
"""Different pairs of tracks that were in view at once, below which nothing is calibrated."""

TAIL = 0.1
"""The share of impostor similarities that the tail is fitted to."""

LIGHTEST = -0.25
"""The lightest tail that is fitted."""

BETTER_THAN_CHANCE = 10.0
"""The odds that a known object is found must be so many times those that a new one is taken for a known one."""

CAUTION = 0.25
"""How far the threshold is raised towards the similarities of one object. Where the two are far apart little is lost by
that, and a tail that was estimated from a few tracks may err so much without a false merge."""

SHOWN = 1000
MOST_PAIRS = 20_000


@dataclass(frozen=True, eq=False)
class Calibration:
    """What similarities of one and of two objects look like, and the threshold between them.

    Attributes:
        threshold: A match needs at least this cosine; inf where the embeddings do not tell objects apart.
        margin: By how much a match must beat the next best identity.
        false_merge_rate: Share of new objects that may be taken for known ones.
        gallery_size: Among how many known ones.
        samples_per_identity: With how many samples each.
        pairs: ``(n,)`` float32 similarities of two tracks that were in view at once, ascending.
        impostor: ``(1000,)`` float32, the best such similarity among ``gallery_size`` objects: even quantiles of its
            distribution.
        genuine: ``(m,)`` float32 similarities of a track with its own past.
        gaps: ``(m,)`` int64, how many frames ago that past ended.
        track_pairs: How many different pairs of tracks were in view at once.
        recall: Share of ``genuine``, at the longer half of the gaps of each track, that reaches the threshold.
        usual: What 95 % of those reach.
    """

    threshold: float
    margin: float
    false_merge_rate: float
    gallery_size: int
    samples_per_identity: int
    pairs: np.ndarray
    impostor: np.ndarray
    genuine: np.ndarray
    gaps: np.ndarray
    track_pairs: int
    recall: float
    usual: float

    def at(self, gallery_size: int) -> float:
        """The threshold among so many known objects, at the same rate of false merges; inf stays inf."""
        if math.isinf(self.threshold):
            return math.inf
        return _threshold(self.pairs, self.false_merge_rate, gallery_size * self.samples_per_identity, self.usual)

    def tensors(self) -> dict[str, Tensor]:
        """What a file keeps."""
        scalars = [self.threshold, self.margin, self.false_merge_rate, self.recall, self.usual]
        return {
            "pairs": torch.from_numpy(self.pairs),
            "genuine": torch.from_numpy(self.genuine),
            "gaps": torch.from_numpy(self.gaps),
            "scalars": torch.tensor(scalars, dtype=torch.float64),
            "counts": torch.tensor([self.gallery_size, self.samples_per_identity, self.track_pairs]),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Calibration":
        """From what a file kept."""
        threshold, margin, rate, recall, usual = tensors["scalars"].tolist()
        size, kept, track_pairs = tensors["counts"].tolist()
        pairs, genuine, gaps = (tensors[name].numpy().copy() for name in ("pairs", "genuine", "gaps"))
        best = _best_of(pairs, size * kept)
        return cls(threshold, margin, rate, size, kept, pairs, best, genuine, gaps, track_pairs, recall, usual)


def calibrate(
    track_ids: np.ndarray,
    frames: np.ndarray,
    embeddings: np.ndarray | Tensor,
    *,
    false_merge_rate: float = 0.01,
    gallery_size: int = 100,
    samples_per_identity: int = 8,
    evidence_frames: int = 5,
    margin: float = 0.0,
    adapt: Whitening | None = None,
) -> Calibration:
    """Find the threshold for a stated rate of false merges from the tracks of one video.

    Impostors are looks of two tracks at one time. The best of n impostor samples has distribution F ** n, so its
    quantile at ``1 - false_merge_rate`` is a quantile of F far out in the tail, which is fitted by a generalised
    Pareto distribution above the upper tenth (peaks over threshold,
    [Pickands 1975](https://doi.org/10.1214/aos/1176343003)). Taking the samples of one identity for as many draws,
    which they are not quite, errs towards a higher threshold. From that quantile the threshold is raised a quarter of
    the way to what 95 % of the genuine similarities reach, if that is higher.

    Args:
        track_ids: ``(rows,)`` ids of a tracker, negative for none.
        frames: ``(rows,)`` integer frames, in any order.
        embeddings: ``(rows, dim)``; rows that are not finite or zero are passed over.
        false_merge_rate: Share of new objects that may be taken for known ones, in (0, 1).
        gallery_size: Among how many known ones: the most identities that the gallery will hold.
        samples_per_identity: As in the gallery.
        evidence_frames: As in the linker.
        margin: By how much a match must beat the next best identity; kept as it is.
        adapt: Whitening that the linker will use as well, learned from other tracks than these; `adapt_and_calibrate`
            learns both from the same.

    Returns:
        `Calibration`. Its threshold is inf where the embeddings find a known object hardly more often than they
        mistake a new one: then no match is better than any.

    Raises:
        BankStateError: Fewer than 10 pairs of tracks were in view at once.
        BankValueError: The shapes do not fit, or a rate or size is out of range.

    Example:
        >>> import numpy as np
        >>> from torchbank.tracking import calibrate
        >>> rng = np.random.default_rng(0)
        >>> who = rng.normal(size=(8, 64))  # eight people, all in view for 100 frames
        >>> tracks, frames = np.tile(np.arange(8), 100), np.repeat(np.arange(100), 8)
        >>> found = calibrate(tracks, frames, who[tracks] + 0.5 * rng.normal(size=(800, 64)))
        >>> 0.3 < found.threshold < 0.8, found.recall, found.track_pairs
        (True, 1.0, 28)
    """
    check_size("evidence_frames", evidence_frames)
    rows = as_matrix(embeddings)
    tracks = as_integers("track_ids", track_ids, len(rows))
    moments = as_integers("frames", frames, len(rows))
    looks = gather_looks(tracks, moments, rows, evidence_frames=evidence_frames, adapt=adapt)
    return calibrate_looks(
        looks,
        false_merge_rate=false_merge_rate,
        gallery_size=gallery_size,
        samples_per_identity=samples_per_identity,
        margin=margin,
    )


def adapt_and_calibrate(
    track_ids: np.ndarray,
    frames: np.ndarray,
    embeddings: np.ndarray | Tensor,
    *,
    shrinkage: float = 0.1,
    false_merge_rate: float = 0.01,
    gallery_size: int = 100,
    samples_per_identity: int = 8,
    evidence_frames: int = 5,
    margin: float = 0.0,
) -> tuple[Whitening, Calibration]:
    """Learn a whitening, and find the threshold that goes with it, from the same tracks.

    A whitening does more for the tracks that it was learned from than for those to come, so that a threshold found on
    them would be too low. Here every second track is judged by a whitening of the others, and the other way round;
    the whitening that is returned is of all tracks.

    Args:
        track_ids: As for `calibrate`, as all that are not named here.
        frames: As for `calibrate`.
        embeddings: As for `calibrate`.
        shrinkage: As for `Whitening.fit`.
        false_merge_rate: As for `calibrate`.
        gallery_size: As for `calibrate`.
        samples_per_identity: As for `calibrate`.
        evidence_frames: As for `calibrate`.
        margin: As for `calibrate`.

    Returns:
        `Whitening` and `Calibration`, both for `IdentityLinker`.

    Raises:
        BankStateError: There are fewer than four tracks of two embeddings each, or fewer than 10 pairs of tracks that
            were in view at once and judged together.
        BankValueError: The shapes do not fit, or a rate, share or size is out of range.
    """
    check_size("evidence_frames", evidence_frames)
    rows = as_matrix(embeddings)
    tracks = as_integers("track_ids", track_ids, len(rows))
    moments = as_integers("frames", frames, len(rows))
    names, parts = np.unique(tracks[tracks >= 0]), []
    for turn in range(2):
        judged = np.isin(tracks, names[turn::2])
        others = (tracks >= 0) & ~judged
        adapt = Whitening.fit(tracks[others], rows[others], shrinkage=shrinkage)
        alone = np.where(judged, tracks, -1)
        parts.append(gather_looks(alone, moments, rows, evidence_frames=evidence_frames, adapt=adapt))
    found = calibrate_looks(
        joined(parts),
        false_merge_rate=false_merge_rate,
        gallery_size=gallery_size,
        samples_per_identity=samples_per_identity,
        margin=margin,
    )
    return Whitening.fit(tracks[tracks >= 0], rows[tracks >= 0], shrinkage=shrinkage), found


def calibrate_looks(
    looks: Looks, *, false_merge_rate: float, gallery_size: int, samples_per_identity: int, margin: float
) -> Calibration:
    """`calibrate` for tracks that are cut into looks already.

    Raises:
        BankStateError: Fewer than 10 pairs of tracks were in view at once.
        BankValueError: A rate or size is out of range.
    """
    check_size("gallery_size", gallery_size)
    check_size("samples_per_identity", samples_per_identity)
    if not 0 < false_merge_rate < 1:
        msg = f"false_merge_rate is {false_merge_rate}; expected a share between 0 and 1, such as 0.01"
        raise BankValueError(msg)
    pairs, track_pairs = impostor_scores(looks)
    if track_pairs < FEWEST_PAIRS:
        msg = (
            f"{track_pairs} pairs of tracks were in view at once with enough frames; a threshold needs at least "
            f"{FEWEST_PAIRS}, so give more footage, or give the linker a threshold of your own"
        )
        raise BankStateError(msg)
    genuine, gaps, long = genuine_scores(thin(looks, samples_per_identity))
    draws = gallery_size * samples_per_identity
    usual = float(np.quantile(genuine[long], 0.05)) if long.any() else -1.0
    threshold = _threshold(pairs, false_merge_rate, draws, usual)
    recall = float((genuine[long] >= threshold).mean()) if long.any() else 0.0
    better_than_chance = recall * (1 - false_merge_rate) >= BETTER_THAN_CHANCE * false_merge_rate * (1 - recall)
    # Embeddings that are all alike reach any threshold, up to rounding.
    if not better_than_chance or (pairs >= threshold - 1e-6).mean() > TAIL:
        threshold = math.inf
    return Calibration(
        threshold,
        margin,
        false_merge_rate,
        gallery_size,
        samples_per_identity,
        pairs,
        _best_of(pairs, draws),
        genuine,
        gaps,
        track_pairs,
        recall,
        usual,
    )


def impostor_scores(looks: Looks) -> tuple[np.ndarray, int]:
    """Similarities of looks of two tracks that were taken at one time, and how many pairs of tracks they are from.

    Only at one time are two tracks surely two objects: a tracker that exchanges two ids at a crossing makes the past
    of one track the object of the other.

    Returns:
        ``(n,)`` float32 ascending, at most `MOST_PAIRS` even quantiles of them; and the number of pairs.
    """
    first, last = looks.spans[:, 0], looks.spans[:, 1]
    source = looks.sources[looks.owners]
    together = (first[:, None] <= last) & (first <= last[:, None]) & (source[:, None] == source)
    # Each pair of looks once.
    one, other = np.nonzero(np.triu(together & (looks.owners[:, None] != looks.owners)))
    scores = np.sort(np.einsum("nd,nd->n", looks.embeddings[one], looks.embeddings[other]))
    if len(scores) > MOST_PAIRS:
        scores = scores[np.linspace(0, len(scores) - 1, MOST_PAIRS).round().astype(int)]
    tracks = np.stack([looks.owners[one], looks.owners[other]])
    return scores.astype(np.float32), len(np.unique(np.sort(tracks, axis=0), axis=1).T)


def genuine_scores(looks: Looks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Similarities of each look with the past of its own track, at gaps of 1, 2, 4, ... looks.

    Returns:
        ``(m,)`` float32 similarities with the best look of that past, ``(m,)`` int64 frames since it ended, and
        ``(m,)`` bool, whether the gap is at least half of the longest of its track.
    """
    scores, gaps, long = [], [], []
    for members in np.split(np.arange(len(looks.owners)), np.flatnonzero(np.diff(looks.owners)) + 1):
        if len(members) < 2:
            continue
        alike = looks.embeddings[members] @ looks.embeddings[members].T
        spans = looks.spans[members]
        longest = spans[-1, 0] - spans[0, 1]
        step = 1
        while step < len(members):
            later = np.arange(step, len(members))
            past = np.maximum.accumulate(alike, axis=1)[later, later - step]
            ago = spans[later, 0] - spans[later - step, 1]
            scores.append(past)
            gaps.append(ago)
            long.append(2 * ago >= longest)
            step *= 2
    if not scores:
        return np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, bool)
    return np.concatenate(scores).astype(np.float32), np.concatenate(gaps), np.concatenate(long)


def _threshold(pairs: np.ndarray, rate: float, draws: int, usual: float) -> float:
    """The quantile of the best impostor, and `CAUTION` of the way from there to what is usual for one object."""
    least = float(_quantile(pairs, np.array([rate]), draws)[0])
    return least + CAUTION * max(0.0, usual - least)


def _quantile(pairs: np.ndarray, rates: np.ndarray, size: int) -> np.ndarray:
    """What the best of ``size`` draws exceeds at each of some rates."""
    # The best of them exceeds t with probability 1 - F(t) ** size.
    each = -np.expm1(np.log1p(-rates) / size)
    above = max(1, math.floor(TAIL * len(pairs)))
    start = float(pairs[-above - 1]) if above < len(pairs) else float(pairs[0])
    share = above / len(pairs)
    excess = pairs[-above:] - start
    scale, shape = _tail(excess.astype(np.float64))
    ratio = share / each
    tail = start + scale * (np.log(ratio) if shape == 0 else np.expm1(shape * np.log(ratio)) / shape)
    inside = np.quantile(pairs, 1 - each)
    return np.where(each < share, tail, inside)


def _tail(excess: np.ndarray) -> tuple[float, float]:
    """Scale and shape of a generalised Pareto distribution by its moments, the shape held between -1/4 and 0.

    Similarities are bounded, so their tail is no heavier than an exponential one (shape 0); a few dozen pairs of
    tracks do not tell how much lighter it is, and -1/4 is near that of a normal distribution at this depth.
    """
    mean, variance = float(excess.mean()), float(excess.var())
    if variance <= 0 or mean <= 0:
        return mean, 0.0
    shape = min(0.0, max(LIGHTEST, (1 - mean * mean / variance) / 2))
    return mean * (1 - shape), shape


def _best_of(pairs: np.ndarray, size: int) -> np.ndarray:
    rates = 1 - (np.arange(SHOWN) + 0.5) / SHOWN
    return _quantile(pairs, rates, size).astype(np.float32)
