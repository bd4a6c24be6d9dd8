"""The linker: behind any tracker, it gives an object that returns its old identity back."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from torchbank.errors import BankValueError
from torchbank.tracking import _gallery_file, _linker_file
from torchbank.tracking._assignment import NEW, assign
from torchbank.tracking._candidates import Source, alike, compare, eligible
from torchbank.tracking._doors import unit
from torchbank.tracking._frame import Boxes, Column, Frame, Linked, Quality, read_frame
from torchbank.tracking._history import Decision, Span
from torchbank.tracking._options import LinkerOptions
from torchbank.tracking._presence import Presence
from torchbank.tracking._threshold import Threshold
from torchbank.tracking.adapt import Whitening
from torchbank.tracking.adapters import Adapters, Embedder
from torchbank.tracking.calibrate import Calibration
from torchbank.tracking.gallery import IdentityGallery


class IdentityLinker(Adapters):
    """Stable identities for the track ids of any tracker.

    A new track is looked at for ``evidence_frames`` frames. The mean direction of its embeddings is then compared
    with all identities that it can be: none that was in view since the track began, in this source or in another one
    that does not overlap, none of another class, none that cannot have come here so fast. All tracks that are ready
    decide together, each identity taken once. A track that reaches no identity by the threshold, with the margin, is
    looked at again, ``looks`` times in all, and is then a new identity. A decision stays. From the first frame on, a
    track has a number of its own, which it keeps if it is new; `Linked.final` says whether it is decided.

    Without a threshold the linker calibrates itself on tracks that are in view at once, which are different objects;
    until there are enough of them, every track is a new identity, so that the linker is then the tracker alone.

    Args:
        gallery: Where identities are kept.
        threshold: The least cosine of a match: a number, or a `Calibration`, which knows it at every gallery size.
            None takes the gallery's calibration, if it has one, and goes on calibrating itself.
        margin: By how much the best identity must beat the second best, in the joint decision of all new tracks.
            None takes that of the calibration. Any but a small margin stops a match for ever once an object was given
            two identities by mistake.
        evidence_frames: Frames in a look.
        looks: How often a track is looked at before it is new.
        write_every: Frames between two samples of an identity, at least ``evidence_frames``.
        overlapping: Pairs of sources whose views overlap, where an identity may be live in both.
        travel_time: Seconds that the way between two sources takes at least, by pair; in both directions unless the
            reverse is given as well. It is counted from where an identity was seen last.
        adapt: `Whitening` of the embeddings; None takes the gallery's.
        fps: Frames per second, where `update` is given frames and no time.
        false_merge_rate: Share of new objects that may be taken for known ones, where the linker calibrates itself.
        min_height: Boxes of less height in pixels are no evidence.
        max_overlap: Boxes of which another covers a larger share are no evidence.
        lost_frames: So many updates of its source a track may be missing before its id counts as another track.
        history: How many tracks and decisions `corrected` and `decisions` reach back.
        embedder: ``embedder(image, boxes) -> (n, dim)``, for adapters of trackers that give no embeddings.
        fingerprint: What makes the embeddings; an error if the gallery holds those of another embedder.

    Attributes:
        gallery: As given.
        calibration: The one in use, or None.

    Raises:
        BankValueError: A number is out of range, or the gallery holds other embeddings.

    Example:
        >>> import numpy as np
        >>> from torchbank.tracking import IdentityGallery, IdentityLinker
        >>> ann, bob = np.eye(2)
        >>> linker = IdentityLinker(IdentityGallery(2), threshold=0.8, evidence_frames=2, looks=1)
        >>> for frame in range(3):
        ...     both = linker.update([7, 8], np.stack([ann, bob]), frame=frame)
        >>> both.tolist(), both.final.tolist()
        ([1, 2], [True, True])
        >>> for frame in range(100, 102):  # bob returns; to the tracker he is track 9
        ...     back = linker.update([9], bob[None], frame=frame)
        ...     print(back.tolist(), back.final.tolist())
        [3] [False]
        [2] [True]
        >>> linker.corrected()[("default", 9)]
        [Span(identity=2, first_frame=100, last_frame=101)]
    """

    def __init__(
        self,
        gallery: IdentityGallery,
        *,
        threshold: float | Calibration | None = None,
        margin: float | None = None,
        evidence_frames: int = 5,
        looks: int = 3,
        write_every: int = 15,
        overlapping: Iterable[tuple[str, str]] = (),
        travel_time: Mapping[tuple[str, str], float] | None = None,
        adapt: Whitening | None = None,
        fps: float | None = None,
        false_merge_rate: float = 0.01,
        min_height: float = 0.0,
        max_overlap: float = 0.3,
        lost_frames: int = 900,
        history: int = 100_000,
        embedder: Embedder | None = None,
        fingerprint: str | None = None,
    ) -> None:
        self.options = LinkerOptions(
            evidence_frames, looks, max(write_every, evidence_frames), tuple(overlapping), dict(travel_time or {}),
            fps, false_merge_rate, min_height, max_overlap, lost_frames, history,
        )  # fmt: skip
        _gallery_file.check_fingerprint(gallery, fingerprint, "the gallery")
        self._adapt = _adaptation(gallery, adapt)
        gallery.fingerprint = fingerprint if gallery.fingerprint is None else gallery.fingerprint
        self.gallery = gallery
        self.embedder = embedder
        self._quality = Quality(gallery.min_score, min_height, max_overlap)
        self._threshold = Threshold(gallery, threshold, margin, false_merge_rate=false_merge_rate, comparisons=looks)
        dim = gallery.dim if self._adapt is None else self._adapt.dim
        constraints = self.options.constraints
        self._presence = Presence(gallery, constraints, dim=dim, lost_frames=lost_frames, history=history)
        self._tracks = self._presence.tracks

    # A frame

    def update(
        self,
        track_ids: Column,
        embeddings: np.ndarray | Tensor | None,
        *,
        boxes: Boxes | None = None,
        scores: Column | None = None,
        classes: Column | None = None,
        frame: int | None = None,
        time: float | None = None,
        source: str = "default",
    ) -> Linked:
        """Take what the tracker says of one frame, and give the identities.

        Args:
            track_ids: ``(n,)`` the tracker's ids, each once; negative for a box without a track.
            embeddings: ``(n, dim)`` floating. A row that is not finite or zero, or None for all, is no evidence.
            boxes: ``(n, 4)`` as x1 y1 x2 y2 in pixels, from which it is seen which boxes are good evidence.
            scores: ``(n,)`` detection scores.
            classes: ``(n,)`` integer classes; an object stays in its class.
            frame: Number of the frame, larger than the last one of this source; None counts on by one.
            time: In seconds, on one clock for all sources; None is ``frame / fps`` if the linker has ``fps``.
            source: Which camera or video.

        Returns:
            `Linked` identities, aligned with ``track_ids``.

        Raises:
            BankValueError: A shape does not fit, a track is there twice, or the frame is not after the last one.
                Nothing has changed then.
            BankTypeError: The embeddings are not floating.
        """
        given = read_frame(track_ids, embeddings, boxes, scores, classes, dim=self._tracks.dim, quality=self._quality)
        frame, time = self._when(source, frame, time)
        if self._presence.reconcile():
            self._threshold.forget(self._tracks)
        where = self._presence.begin_frame(source, frame, time)
        rows = self._presence.see(given, where)
        ready = self._gather(rows, given)
        if len(ready):
            self._look(ready, where)
        self._presence.end_frame(where)
        identities, final = np.full(given.given, -1, dtype=np.int64), np.zeros(given.given, dtype=bool)
        identities[given.rows], final[given.rows] = self._tracks["identity"][rows], self._tracks["final"][rows]
        return Linked(identities, final)

    def _when(self, source: str, frame: int | None, time: float | None) -> tuple[int, float | None]:
        where, options = self._presence.sources.get(source), self.options
        last = -1 if where is None else where.frame
        number = last + 1 if frame is None else int(frame)
        if number <= last:
            msg = (
                f"frame {number} of {source!r} comes after frame {last}; give the frames of a source in order, or call "
                f"ended({source!r}) before it starts again"
            )
            raise BankValueError(msg)
        if time is None and options.fps is not None:
            time = number / options.fps
        if time is None and (options.travel_time or self.gallery.retention is not None):
            msg = "travel_time and retention count seconds; give update a time=, or build the linker with fps="
            raise BankValueError(msg)
        if time is not None and not np.isfinite(time):
            msg = f"the time of frame {number} of {source!r} is {time}; expected seconds"
            raise BankValueError(msg)
        return number, time

    # Evidence

    def _gather(self, rows: np.ndarray, given: Frame) -> np.ndarray:
        """Add the frame to the looks of its tracks; the rows whose look is complete."""
        columns = self._tracks.columns
        chosen = rows[given.evidence]
        columns["count"][chosen] += 1
        looking = columns["count"][chosen] > 0
        chosen = chosen[looking]
        columns["look"][chosen] += given.embeddings[given.evidence][looking]
        columns["score"][chosen] += given.scores[given.evidence][looking]
        return chosen[columns["count"][chosen] >= self.options.evidence_frames]

    def _look(self, rows: np.ndarray, where: Source) -> None:
        """Use complete looks: as samples of who is known, and as evidence of who is new."""
        columns, frames = self._tracks.columns, self.options.evidence_frames
        means = columns["look"][rows] / frames
        looks = unit(means) if self._adapt is None else self._adapt.apply(means)
        scores = (columns["score"][rows] / frames).astype(np.float32)
        columns["look"][rows], columns["score"][rows] = 0, 0
        columns["count"][rows] = 0
        # Embeddings that cancel each other, or of which whitening leaves nothing, are no evidence.
        told = looks.any(axis=1)
        rows, looks, scores = rows[told], looks[told], scores[told]
        known = columns["final"][rows]
        if known.any():
            identities = columns["identity"][rows[known]]
            self.gallery.add(identities, looks[known], scores=scores[known], **where.sighting)
        self._threshold.learn(self._tracks, rows, looks, where.frame, frames)
        unknown = rows[~known]
        if len(unknown):
            columns["past"][unknown] += looks[~known]
            columns["looks"][unknown] += 1
            self._decide(unknown, looks[~known], scores[~known], where)
        columns["count"][rows[columns["final"][rows]]] = -self.options.pause

    # Decisions

    @property
    def calibration(self) -> Calibration | None:
        """The calibration in use, None where there is none yet or a threshold was given."""
        return self._threshold.calibration

    @property
    def threshold(self) -> float:
        """The least cosine of a match now: inf while the linker has seen too little to tell."""
        return self._threshold.least

    def _decide(self, rows: np.ndarray, looks: np.ndarray, scores: np.ndarray, where: Source) -> None:
        """Match tracks with identities, all of them together."""
        columns, gallery, threshold = self._tracks.columns, self.gallery, self._threshold.least
        # The mean of looks, not of length 1: its similarity is the mean of theirs, which is what a threshold for one
        # look is fit for. A mean of length 1 is less noisy than a look, and so more similar to everyone.
        queries = columns["past"][rows] / columns["looks"][rows, None]
        may = eligible(gallery, self._tracks, rows, where, self.options.constraints)
        candidates, similarities, rivals = compare(gallery, queries, columns["label"][rows], may)
        margin, same = self._threshold.margin, None
        if margin > 0 and (similarities >= threshold).any():
            same = alike(gallery, candidates) >= threshold
        outcome = assign(similarities, rivals, threshold, margin, same)
        best = similarities.max(axis=1, initial=-np.inf)
        for position, row in enumerate(rows.tolist()):
            choice, is_last_look = int(outcome.choice[position]), columns["looks"][row] >= self.options.looks
            if choice == NEW and not (is_last_look and gallery.table.has_room):
                continue
            identity = int(columns["number"][row] if choice == NEW else candidates[choice])
            similarity = float(best[position] if choice == NEW else similarities[position, choice])
            decision = Decision(
                where.name, int(columns["track"][row]), where.frame, np.nan if where.time is None else where.time,
                identity, "new" if choice == NEW else "returned", similarity, float(outcome.margin[position]),
                threshold, int(columns["number"][row]),
            )  # fmt: skip
            self._settle(row, where, identity, looks[position], scores[position : position + 1])
            self._presence.history.decisions.append(decision)

    def _settle(self, row: int, where: Source, identity: int, look: np.ndarray, score: np.ndarray) -> None:
        """Give a track its identity for good."""
        columns, gallery = self._tracks.columns, self.gallery
        if identity in gallery:
            gallery.add(identity, look, scores=score, **where.sighting)
        else:
            label = int(columns["label"][row])
            gallery.enroll(look, identity=identity, label=label, scores=score, **where.sighting)
        columns["identity"][row], columns["final"][row] = identity, True
        columns["past"][row] = 0
        gallery.pin([identity])
        gallery.see([identity], **where.sighting)

    @property
    def decisions(self) -> list[Decision]:
        """The last decisions, oldest first."""
        return list(self._presence.history.decisions)

    def corrected(self) -> dict[tuple[str, int], list[Span]]:
        """Which identity each track had when, as it is known now: what a past result should have said.

        The frames before a track was decided count to what it turned out to be. `update` tells what could be known
        then; the two should be reported apart.

        Returns:
            For each (source, track id) its spans in order of time, with numbers as they are after merges and renames.
        """
        return self._presence.spans()

    def ended(self, source: str = "default", track_id: int | None = None) -> None:
        """Say that a track is over, or a whole source: its ids may then stand for other objects, its frames restart.

        Args:
            source: Which camera or video.
            track_id: Which track; None is all of the source.
        """
        self._presence.end(source, track_id)

    # Files

    def save(self, path: str | Path) -> None:
        """Write the gallery and where every track stands to one file, whole or not at all.

        `IdentityLinker.load` goes on as if nothing had happened, with the same tracks; `IdentityGallery.load` takes
        the identities alone, for other videos.

        Raises:
            BankStateError: Another gallery may write the file.
            BankFileNotFoundError: The folder does not exist.
        """
        _linker_file.write(self, Path(path))

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        lock: bool = True,
        fingerprint: str | None = None,
        device: torch.device | str | None = None,
        embedder: Embedder | None = None,
    ) -> "IdentityLinker":
        """Go on where a linker that was saved stood, with the same tracks of the same tracker.

        Args:
            path: A file of `save`.
            lock: As for `IdentityGallery.load`.
            fingerprint: As for `IdentityGallery.load`.
            device: As for `IdentityGallery.load`.
            embedder: As for `IdentityLinker`.

        Raises:
            BankFileNotFoundError: There is no such file.
            FileFormatError: The file is damaged, or holds a gallery alone.
            BankStateError: Another gallery may write the file.
            BankValueError: The gallery was filled by another embedder.
        """
        gallery = IdentityGallery.load(path, lock=lock, fingerprint=fingerprint, device=device)
        try:
            return _linker_file.restore(cls, gallery, Path(path), embedder)
        except BaseException:
            gallery.close()
            raise


def _adaptation(gallery: IdentityGallery, adapt: Whitening | None) -> Whitening | None:
    """The whitening in use, which a gallery with samples has settled."""
    if adapt is None:
        return gallery.adaptation
    if len(gallery) and gallery.adaptation != adapt:
        msg = (
            "the gallery holds embeddings that did not go through this whitening; leave adapt out to use the "
            "gallery's own, or start a new gallery"
        )
        raise BankValueError(msg)
    if adapt.out != gallery.dim:
        msg = (
            f"the whitening gives embeddings of length {adapt.out} and the gallery keeps {gallery.dim}; make them equal"
        )
        raise BankValueError(msg)
    gallery.adaptation = adapt
    return adapt
