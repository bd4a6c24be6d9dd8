"""Looks: the unit in which the room compares. A look is the mean direction of a few frames of one track.

A single frame may be blurred or half hidden; five in a row rarely all are. What a new track is compared by, what a
gallery keeps and what a threshold is calibrated on are all looks of as many frames.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from torchbank.errors import BankValueError
from torchbank.tracking._doors import unit, usable
from torchbank.tracking.adapt import Whitening


class Looks(NamedTuple):
    """Looks of several tracks, track by track in order of time.

    Attributes:
        embeddings: ``(looks, dim)`` float32, of length 1.
        owners: ``(looks,)`` int64, which track each is of: an index into the next two.
        spans: ``(looks, 2)`` int64, first and last frame.
        presence: ``(tracks, 2)`` int64, first and last frame of each track, with or without evidence.
        sources: ``(tracks,)`` int64, where each track was; two tracks of one source and one time are two objects.
    """

    embeddings: np.ndarray
    owners: np.ndarray
    spans: np.ndarray
    presence: np.ndarray
    sources: np.ndarray


def gather_looks(
    track_ids: np.ndarray,
    frames: np.ndarray,
    embeddings: np.ndarray,
    *,
    evidence_frames: int,
    adapt: Whitening | None = None,
) -> Looks:
    """Cut tracks of one source into looks.

    Args:
        track_ids: ``(rows,)`` int64; rows of a negative id belong to no track.
        frames: ``(rows,)`` int64, in any order.
        embeddings: ``(rows, dim)`` float32; rows that are no evidence are passed over.
        evidence_frames: Frames in a look; what is left of a track at its end is left out.
        adapt: Applied to each look.

    Raises:
        BankValueError: A track has two rows in one frame.
    """
    tracked = track_ids >= 0
    order = np.lexsort((frames, track_ids))
    order = order[tracked[order]]
    tracks, moments, rows = track_ids[order], frames[order], embeddings[order]
    twice = (tracks[1:] == tracks[:-1]) & (moments[1:] == moments[:-1])
    if twice.any():
        row = int(twice.argmax())
        msg = f"track {tracks[row]} is in frame {moments[row]} twice; ids of different videos must differ"
        raise BankValueError(msg)
    names, owner, counts = np.unique(tracks, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    presence = np.stack([moments[ends - counts], moments[ends - 1]], axis=1) if len(names) else np.empty((0, 2), int)
    good = usable(rows)
    owner, moments, rows = owner[good], moments[good], unit(rows[good])
    number = np.arange(len(owner)) - np.searchsorted(owner, owner)
    whole = number < np.bincount(owner, minlength=len(names))[owner] // evidence_frames * evidence_frames
    owner, moments, rows = owner[whole], moments[whole], rows[whole]
    starts = np.arange(0, len(owner), evidence_frames)
    means = np.add.reduceat(rows, starts) / evidence_frames if len(starts) else rows
    spans = np.stack([moments[starts], moments[starts + evidence_frames - 1]], axis=1)
    looks = unit(means) if adapt is None else adapt.apply(means)
    return Looks(looks, owner[starts], spans, presence, np.zeros(len(names), dtype=np.int64))


def joined(parts: Sequence[Looks]) -> Looks:
    """Looks of several sources, each as `gather_looks` gives it."""
    ends = np.cumsum([len(part.presence) for part in parts])
    return Looks(
        np.concatenate([part.embeddings for part in parts]),
        np.concatenate([part.owners + end - len(part.presence) for part, end in zip(parts, ends, strict=True)]),
        np.concatenate([part.spans for part in parts]),
        np.concatenate([part.presence for part in parts]),
        np.repeat(np.arange(len(parts)), [len(part.presence) for part in parts]),
    )


def thin(looks: Looks, kept: int) -> Looks:
    """At most so many looks of each track, spread evenly over it."""
    counts = np.bincount(looks.owners, minlength=len(looks.presence))[looks.owners]
    number = np.arange(len(looks.owners)) - np.searchsorted(looks.owners, looks.owners)
    # The first look, the last, and even steps between: place p is taken where floor(p * steps) changes.
    step = (kept - 1) / np.maximum(counts - 1, 1)
    chosen = (counts <= kept) | (number == 0) | (np.floor(number * step) > np.floor((number - 1) * step))
    return looks._replace(embeddings=looks.embeddings[chosen], owners=looks.owners[chosen], spans=looks.spans[chosen])
