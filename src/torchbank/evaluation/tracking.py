"""How well a tracker keeps identities: HOTA, CLEAR and identity scores, by the package motrics."""

from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from torchbank.errors import BankValueError
from torchbank.evaluation._tracks import Tracks, check_tracks, frames_of_both

__all__ = ["TrackingScores", "tracking_scores"]


@dataclass(frozen=True)
class TrackingScores:
    """Scores of one output, each 1 at best.

    Attributes:
        hota: The mean over localisation thresholds 0.05 to 0.95 of sqrt(DetA AssA)
            ([Luiten et al. 2020](arXiv:2009.07736)).
        det_a: Detection accuracy, TP / (TP + FN + FP), the mean over thresholds.
        ass_a: Association accuracy: the mean over true positives of how much of both tracks agrees.
        ass_re: Association recall; falls when an identity is forgotten.
        ass_pr: Association precision; falls when two identities are confused.
        idf1: F1 under the best one-to-one map of whole identities ([Ristani et al. 2016](arXiv:1609.01775)).
        mota: 1 - (FN + FP + IDSW) / truth: nearly blind to identities.
        id_switches: How often a true identity gets another id than it had last, a gap of any length before it.
        ids: Identities in the output.
        true_ids: Identities in the truth.
    """

    hota: float
    det_a: float
    ass_a: float
    ass_re: float
    ass_pr: float
    idf1: float
    mota: float
    id_switches: int
    ids: int
    true_ids: int

    def as_dict(self) -> dict[str, float]:
        """Names and numbers, for logs and JSON."""
        return asdict(self)


def tracking_scores(
    truth: Tracks | tuple[Any, Any, Any], output: Tracks | tuple[Any, Any, Any], *, iou: float = 0.5
) -> TrackingScores:
    """Score the identities of an output against the truth.

    Judge identity by ``idf1`` and ``ass_a``: a memory that gives ids back may leave ``mota`` where it was and raise
    ``id_switches``, for an id that is provisional for some frames is two switches.

    Args:
        truth: Frames, ids and boxes.
        output: The same. Leave out the frames for which there is no truth.
        iou: Overlap from which boxes can match, for ``idf1``, ``mota`` and ``id_switches``.

    Raises:
        BankTypeError: Frames or ids are no integers.
        BankValueError: The truth is empty, shapes or boxes do not fit, an id is twice in a frame, or the package
            motrics is not installed.

    Example:
        One object whose id is lost in the middle of four frames:

        >>> box = [[0, 0, 10, 10]] * 4
        >>> scores = tracking_scores(([1, 2, 3, 4], [1, 1, 1, 1], box), ([1, 2, 3, 4], [7, 7, 8, 8], box))
        >>> round(scores.hota, 3), scores.ass_a, scores.idf1, scores.mota, scores.id_switches
        (0.707, 0.5, 0.5, 0.75, 1)
    """
    motrics = _motrics()
    true_rows, rows = check_tracks("truth", truth), check_tracks("output", output)
    if not len(true_rows.frames):
        msg = "the truth has no rows; expected one box at least"
        raise BankValueError(msg)
    sides: list[tuple[list, list]] = [([], []), ([], [])]
    for _, *parts in frames_of_both(true_rows, rows):
        for (ids, boxes), tracks, part in zip(sides, (true_rows, rows), parts, strict=True):
            ids.append(tracks.ids[part].tolist())
            boxes.append(tracks.boxes[part])
    result = motrics.evaluate(*(motrics.Frames(ids=ids, boxes=boxes) for ids, boxes in sides), iou_threshold=iou)
    return TrackingScores(
        hota=result.hota.hota,
        det_a=result.hota.deta,
        ass_a=result.hota.assa,
        ass_re=fmean(result.hota.ass_re_alphas),
        ass_pr=fmean(result.hota.ass_pr_alphas),
        idf1=result.identity.idf1,
        mota=result.clear.mota,
        id_switches=result.clear.num_switches,
        ids=len(set(rows.ids.tolist())),
        true_ids=len(set(true_rows.ids.tolist())),
    )


def _motrics() -> Any:
    try:
        import motrics
    except ImportError as error:
        msg = "tracking scores need the package motrics; pip install 'torchbank[tracking]'"
        raise BankValueError(msg) from error
    return motrics
