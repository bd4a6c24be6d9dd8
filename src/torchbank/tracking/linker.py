"""The linker: behind any tracker, it gives an object that returns its old identity back."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from torchbank.errors import BankValueError
from torchbank.tracking import _gallery_file, _linker_file
from torchbank.tracking._assignment import NEW, assign
from torchbank.tracking._candidates import Constraints, Source, alike, compare, eligible
from torchbank.tracking._doors import check_count, check_fraction, unit
from torchbank.tracking._frame import Column, Frame, Linked, Quality, read_frame
from torchbank.tracking._history import Decision, History, Span
from torchbank.tracking._self_calibration import SelfCalibration
from torchbank.tracking._tracks import Tracks
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
        for what, count in (
            ("evidence_frames", evidence_frames),
            ("looks", looks),
            ("lost_frames", lost_frames),
            ("history", history),
        ):
            check_count(what, count)
        check_fraction("max_overlap", max_overlap)
        _gallery_file.check_fingerprint(gallery, fingerprint, "the gallery")
        gallery.fingerprint = fingerprint if gallery.fingerprint is None else gallery.fingerprint
        self.gallery = gallery
        self.embedder = embedder
        self.fps = fps
        self._options = {
            "evidence_frames": evidence_frames,
            "looks": looks,
            "write_every": max(write_every, evidence_frames),
            "overlapping": sorted({tuple(sorted(pair)) for pair in overlapping}),
            "travel_time": [[*pair, seconds] for pair, seconds in (travel_time or {}).items()],
            "fps": fps,
            "false_merge_rate": false_merge_rate,
            "min_height": min_height,
            "max_overlap": max_overlap,
            "lost_frames": lost_frames,
            "history": history,
        }
        self._evidence_frames, self._looks, self._pause = evidence_frames, looks, max(write_every - evidence_frames, 0)
        self._lost_frames = lost_frames
        self._quality = Quality(gallery.min_score, min_height, max_overlap)
        self._constraints = Constraints(frozenset(map(frozenset, overlapping)), dict(travel_time or {}))
        self._adapt = _adaptation(gallery, adapt)
        self._threshold = threshold if isinstance(threshold, float | int) else None
        self._margin = margin
        self._self = None
        if isinstance(threshold, Calibration):
            gallery.calibration = threshold
        elif threshold is None:
            self._self = SelfCalibration(gallery.dim, false_merge_rate=false_merge_rate, margin=margin or 0.0)
        self._tracks = Tracks(gallery.dim if self._adapt is None else self._adapt.dim, gallery.dim)
        self._history = History(history)
        self._sources: dict[str, Source] = {}
        self._live: dict[int, set[int]] = {}  # the rows in view of each source, by number
        self._turn = 0
        self._own_calibration = False
        self._edits = gallery.edits

    # A frame

    def update(
        self,
        track_ids: Column,
        embeddings: np.ndarray | Tensor | None,
        *,
        boxes: Column | None = None,
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
        where, frame, time = self._when(source, frame, time)
        if self._edits != self.gallery.edits:
            self._reconcile()
        where.frame, where.updates = frame, where.updates + 1
        self._turn += 1
        where.turn = self._turn
        rows = self._rows(given, where, frame, time)
        self._enter(rows, where)
        tracks = self._tracks
        tracks["last_frame"][rows], tracks["updated"][rows] = frame, where.updates
        self._note(rows[tracks["final"][rows]], frame, time, source)
        ready = self._gather(rows, given)
        if len(ready):
            self._look(ready, where, frame, time)
        where.moment = self.gallery.moment
        if where.updates % 64 == 0:
            self._close_lost(where)
        identities, final = np.full(given.given, -1, dtype=np.int64), np.zeros(given.given, dtype=bool)
        identities[given.rows], final[given.rows] = tracks["identity"][rows], tracks["final"][rows]
        return Linked(identities, final)

    def _when(self, source: str, frame: int | None, time: float | None) -> tuple[Source, int, float | None]:
        where = self._sources.get(source)
        last = -1 if where is None else where.frame
        number = last + 1 if frame is None else int(frame)
        if number <= last:
            msg = (
                f"frame {number} of {source!r} comes after frame {last}; give the frames of a source in order, or call "
                f"ended({source!r}) before it starts again"
            )
            raise BankValueError(msg)
        if time is None and self.fps is not None:
            time = number / self.fps
        if time is None and (self._constraints.travel_time or self.gallery.retention is not None):
            msg = "travel_time and retention count seconds; give update a time=, or build the linker with fps="
            raise BankValueError(msg)
        if where is None:
            where = Source(source, self.gallery.source_number(source), moment=self.gallery.moment)
            self._sources[source] = where
            self._live[where.number] = set()
        return where, number, time

    def _rows(self, given: Frame, where: Source, frame: int, time: float | None) -> np.ndarray:
        """The row of each track of the frame; new tracks get one."""
        tracks, index = self._tracks, self._tracks.index
        rows = np.empty(len(given.tracks), dtype=np.int64)
        for position, track in enumerate(given.tracks.tolist()):
            row = index.get((where.number, track))
            if row is not None and where.updates - tracks["updated"][row] > self._lost_frames:
                self._close(row)
                row = None
            if row is None:
                row = tracks.open(where.number, track)
                self._begin(row, where, frame, time, int(given.labels[position]))
            rows[position] = row
        return rows

    def _begin(self, row: int, where: Source, frame: int, time: float | None, label: int) -> None:
        """A track that nothing is known of yet."""
        columns = self._tracks.columns
        number = self.gallery.reserve()
        columns["identity"][row] = columns["number"][row] = number
        columns["final"][row] = False
        columns["label"][row] = label
        columns["begun"][row] = where.moment + 1
        columns["first_frame"][row] = columns["last_frame"][row] = frame
        columns["first_time"][row] = math.nan if time is None else time
        for name in ("count", "looks", "score", "look", "past"):
            columns[name][row] = 0

    def _enter(self, rows: np.ndarray, where: Source) -> None:
        """Pin who comes into view and unpin who left; an identity that is live elsewhere by now is not given back."""
        now, before = set(rows.tolist()), self._live[where.number]
        if now == before:
            return
        columns = self._tracks.columns
        left = [row for row in before - now if columns["final"][row]]
        self.gallery.unpin(columns["identity"][left])
        self._live[where.number] = now & before
        for row in sorted(now - before):
            if columns["final"][row] and self._is_taken(int(columns["identity"][row]), where):
                self._restart(row, where)
            elif columns["final"][row]:
                if int(columns["identity"][row]) in self.gallery:
                    self.gallery.pin(columns["identity"][[row]])
                else:
                    self._restart(row, where)
            self._live[where.number].add(row)

    def _is_taken(self, identity: int, where: Source) -> bool:
        """Whether an identity is in view of this source as another track, or now of one that sees another place."""
        columns = self._tracks.columns
        for other in self._sources.values():
            # A source that had no frame since the last one of this source has ended, or is behind.
            elsewhere = other.moment > where.moment and not self._constraints.overlap(other.name, where.name)
            if other is where or elsewhere:
                rows = np.fromiter(self._live[other.number], np.int64, len(self._live[other.number]))
                if (columns["final"][rows] & (columns["identity"][rows] == identity)).any():
                    return True
        return False

    def _restart(self, row: int, where: Source) -> None:
        """Look at a track anew, under another number."""
        self._archive(row)
        columns = self._tracks.columns
        time = columns["first_time"][row]
        self._begin(row, where, where.frame, None if math.isnan(time) else float(time), int(columns["label"][row]))

    def _note(self, rows: np.ndarray, frame: int, time: float | None, source: str) -> None:
        self.gallery.see(self._tracks["identity"][rows], frame=frame, time=time, source=source)

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
        return chosen[columns["count"][chosen] >= self._evidence_frames]

    def _look(self, rows: np.ndarray, where: Source, frame: int, time: float | None) -> None:
        """Use complete looks: as samples of who is known, and as evidence of who is new."""
        columns, frames = self._tracks.columns, self._evidence_frames
        looks = self._compared(columns["look"][rows] / frames)
        scores = (columns["score"][rows] / frames).astype(np.float32)
        final = columns["final"][rows]
        known = rows[final]
        when = {"frame": frame, "time": time, "source": where.name}
        if len(known):
            self.gallery.add(columns["identity"][known], looks[final], scores=scores[final], **when)
        if self._self is not None:
            self._calibrate_with(self._self, rows, looks, where, frame)
        unknown = rows[~final]
        if len(unknown):
            columns["past"][unknown] += looks[~final]
            columns["looks"][unknown] += 1
            self._decide(unknown, looks[~final], scores[~final], where, frame, time)
        columns["look"][rows], columns["score"][rows] = 0, 0
        columns["count"][rows] = np.where(columns["final"][rows], -self._pause, 0)

    def _compared(self, means: np.ndarray) -> np.ndarray:
        """Means of unit embeddings as they are compared and kept."""
        return unit(means) if self._adapt is None else self._adapt.apply(means)

    def _calibrate_with(
        self, own: SelfCalibration, rows: np.ndarray, looks: np.ndarray, where: Source, frame: int
    ) -> None:
        columns = self._tracks.columns
        for row, look in zip(rows.tolist(), looks, strict=True):
            own.add(
                int(columns["number"][row]),
                int(columns["identity"][row]),
                where.number,
                look,
                (frame - self._evidence_frames + 1, frame),
                int(columns["first_frame"][row]),
            )
        if own.is_due:
            found, held = own.fit(len(self.gallery)), self.gallery.calibration
            # What came with the gallery is better than what a few tracks tell.
            if found is not None and (held is None or found.track_pairs >= held.track_pairs or self._own_calibration):
                self.gallery.calibration = found
                self._own_calibration = True

    # Decisions

    @property
    def calibration(self) -> Calibration | None:
        """The calibration in use, None where there is none yet or a threshold was given."""
        return None if self._threshold is not None else self.gallery.calibration

    @property
    def threshold(self) -> float:
        """The least cosine of a match now: inf while the linker has seen too little to tell."""
        if self._threshold is not None:
            return float(self._threshold)
        calibration = self.gallery.calibration
        # A new track is compared with everyone at each of its looks.
        return math.inf if calibration is None else calibration.at(max(1, len(self.gallery)) * self._looks)

    @property
    def margin(self) -> float:
        """By how much the best identity must beat the second best now."""
        if self._margin is not None:
            return self._margin
        calibration = self.calibration
        return 0.0 if calibration is None else calibration.margin

    def _decide(
        self,
        rows: np.ndarray,
        looks: np.ndarray,
        scores: np.ndarray,
        where: Source,
        frame: int,
        time: float | None,
    ) -> None:
        columns, gallery = self._tracks.columns, self.gallery
        # The mean of looks, not of length 1: its similarity is the mean of theirs, which is what a threshold for one
        # look is fit for. A mean of length 1 is less noisy than a look, and so more similar to everyone.
        queries = columns["past"][rows] / columns["looks"][rows, None]
        threshold = self.threshold
        may = eligible(gallery, self._tracks, rows, where, self._constraints)
        candidates, similarities, rivals = compare(gallery, queries, columns["label"][rows], may)
        same = None
        if self.margin > 0 and (similarities >= threshold).any():
            same = alike(gallery, candidates) >= threshold
        outcome = assign(similarities, rivals, threshold, self.margin, same)
        best = similarities.max(axis=1, initial=-np.inf)
        for position, row in enumerate(rows.tolist()):
            choice = int(outcome.choice[position])
            when = {"frame": frame, "time": time, "source": where.name}
            if choice != NEW:
                identity = int(candidates[choice])
                gallery.add(identity, looks[position], scores=scores[position : position + 1], **when)
            elif columns["looks"][row] >= self._looks and gallery.has_room:
                identity = int(columns["number"][row])
                label = int(columns["label"][row])
                gallery.enroll(
                    looks[position], identity=identity, label=label, scores=scores[position : position + 1], **when
                )
            else:
                continue
            columns["identity"][row], columns["final"][row] = identity, True
            columns["past"][row] = 0
            gallery.pin([identity])
            gallery.see([identity], **when)
            self._history.decisions.append(
                Decision(
                    where.name,
                    int(columns["track"][row]),
                    frame,
                    math.nan if time is None else time,
                    identity,
                    "new" if choice == NEW else "returned",
                    float(best[position] if choice == NEW else similarities[position, choice]),
                    float(outcome.margin[position]),
                    threshold,
                    int(columns["number"][row]),
                )
            )

    # Ends

    def ended(self, source: str = "default", track_id: int | None = None) -> None:
        """Say that a track is over, or a whole source: its ids may then stand for other objects, its frames restart.

        Args:
            source: Which camera or video.
            track_id: Which track; None is all of the source.
        """
        where = self._sources.get(source)
        if where is None:
            return
        chosen = self._tracks.of(where.number)
        if track_id is not None:
            chosen = chosen[self._tracks["track"][chosen] == track_id]
        else:
            where.frame = -1
        for row in chosen.tolist():
            self._close(row)

    def _close_lost(self, where: Source) -> None:
        rows = self._tracks.of(where.number)
        for row in rows[where.updates - self._tracks["updated"][rows] > self._lost_frames].tolist():
            self._close(row)
        for other in self._sources.values():
            # A video that has stopped without a word.
            if self._turn - other.turn > self._lost_frames * len(self._sources):
                for row in self._tracks.of(other.number).tolist():
                    self._close(row)

    def _close(self, row: int) -> None:
        self._archive(row)
        columns = self._tracks.columns
        live = self._live[int(columns["source"][row])]
        if row in live:
            live.remove(row)
            if columns["final"][row]:
                self.gallery.unpin(columns["identity"][[row]])
        self._tracks.close(row)

    def _archive(self, row: int) -> None:
        columns = self._tracks.columns
        name = self.gallery.sources[int(columns["source"][row])]
        self._history.close(name, int(columns["track"][row]), self._span(row))

    def _span(self, row: int) -> Span:
        columns = self._tracks.columns
        return Span(int(columns["identity"][row]), int(columns["first_frame"][row]), int(columns["last_frame"][row]))

    def _reconcile(self) -> None:
        """Follow what a user changed in the gallery: new numbers, and identities that are gone."""
        self._edits = self.gallery.edits
        columns = self._tracks.columns
        by_number = {where.number: where for where in self._sources.values()}
        for row in self._tracks.used.tolist():
            if not columns["final"][row]:
                continue
            where = by_number[int(columns["source"][row])]
            columns["identity"][row] = identity = self.gallery.resolve(int(columns["identity"][row]))
            live = self._live[where.number]
            if identity not in self.gallery:
                self._restart(row, where)
            elif row in live:
                # Two live tracks may have been merged: one of them keeps the identity.
                live.remove(row)
                if self._is_taken(identity, where):
                    self.gallery.unpin([identity])
                    self._restart(row, where)
                live.add(row)
        if self._self is not None:
            undecided = self._tracks["number"][self._tracks.used]
            self._self.drop({*self.gallery.identities.tolist(), *undecided.tolist()})

    # What was decided

    @property
    def decisions(self) -> list[Decision]:
        """The last decisions, oldest first."""
        return list(self._history.decisions)

    def corrected(self) -> dict[tuple[str, int], list[Span]]:
        """Which identity each track had when, as it is known now: what a past result should have said.

        The frames before a track was decided count to what it turned out to be. `update` tells what could be known
        then; the two should be reported apart.

        Returns:
            For each (source, track id) its spans in order of time, with numbers as they are after merges and renames.
        """
        spans = {key: list(parts) for key, parts in self._history.spans.items()}
        columns, names = self._tracks.columns, self.gallery.sources
        for row in self._tracks.used.tolist():
            key = names[int(columns["source"][row])], int(columns["track"][row])
            spans.setdefault(key, []).append(self._span(row))
        return {
            key: [span._replace(identity=self.gallery.resolve(span.identity)) for span in parts]
            for key, parts in spans.items()
        }

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
