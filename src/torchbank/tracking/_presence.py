"""Who is in view: the tracks of every source from their first frame to their last, and the identity that each has."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from torchbank.tracking._candidates import Constraints, Source
from torchbank.tracking._frame import Frame
from torchbank.tracking._history import History, Span
from torchbank.tracking._tracks import Tracks
from torchbank.tracking.gallery import IdentityGallery


class Presence:
    """The tracks that a linker follows. A track that is decided pins its identity while it is in view.

    Args:
        gallery: Where identities are kept.
        constraints: What is known of the cameras.
        dim: Length of an embedding as the tracker gives it.
        lost_frames: So many updates of its source a track may be missing before its id counts as another track.
        history: How many ended tracks and decisions are remembered.

    Attributes:
        tracks: Theirs.
        history: Of those that have ended.
        sources: By name.
        live: The rows of the tracks in view of each source, by its number.
        turn: Frames of all sources so far.
    """

    def __init__(
        self, gallery: IdentityGallery, constraints: Constraints, *, dim: int, lost_frames: int, history: int
    ) -> None:
        self.gallery = gallery
        self.constraints = constraints
        self.lost_frames = lost_frames
        self.tracks = Tracks(dim, gallery.dim)
        self.history = History(history)
        self.sources: dict[str, Source] = {}
        self.live: dict[int, set[int]] = {}
        self.turn = 0
        self._edits = gallery.edits

    # A frame

    def begin_frame(self, name: str, frame: int, time: float | None) -> Source:
        """Move a source, which may be new, on to a frame."""
        where = self.sources.get(name)
        if where is None:
            where = Source(name, self.gallery.source_number(name), moment=self.gallery.moment)
            self.sources[name] = where
            self.live[where.number] = set()
        self.turn += 1
        where.frame, where.time, where.updates, where.turn = frame, time, where.updates + 1, self.turn
        return where

    def see(self, given: Frame, where: Source) -> np.ndarray:
        """The row of each track of the frame, new ones too; who left is unpinned, who came is pinned."""
        tracks = self.tracks
        named = zip(given.tracks.tolist(), given.labels.tolist(), strict=True)
        rows = np.array([self._row(track, label, where) for track, label in named], dtype=np.int64)
        self._enter(rows, where)
        tracks["last_frame"][rows], tracks["updated"][rows] = where.frame, where.updates
        self.gallery.see(tracks["identity"][rows[tracks["final"][rows]]], **where.sighting)
        return rows

    def end_frame(self, where: Source) -> None:
        """Nothing more will be said of a frame."""
        where.moment = self.gallery.moment
        if where.updates % 64 == 0:
            self._close_lost(where)

    def _row(self, track: int, label: int, where: Source) -> int:
        tracks, key = self.tracks, (where.number, track)
        row = tracks.index.get(key)
        if row is not None and where.updates - tracks["updated"][row] > self.lost_frames:
            self.close(row)
            row = None
        if row is None:
            row = tracks.open(*key)
            self._begin(row, where, where.time, label)
        return row

    def _begin(self, row: int, where: Source, time: float | None, label: int) -> None:
        """A track that nothing is known of yet."""
        columns = self.tracks.columns
        columns["identity"][row] = columns["number"][row] = self.gallery.reserve()
        columns["final"][row] = False
        columns["label"][row] = label
        columns["begun"][row] = where.moment + 1
        columns["first_frame"][row] = columns["last_frame"][row] = where.frame
        columns["first_time"][row] = math.nan if time is None else time
        for name in ("count", "looks", "score", "look", "past"):
            columns[name][row] = 0

    def restart(self, row: int, where: Source) -> None:
        """Look at a track anew, under another number."""
        self._archive(row)
        columns = self.tracks.columns
        time = float(columns["first_time"][row])
        self._begin(row, where, None if math.isnan(time) else time, int(columns["label"][row]))

    # In view

    def _enter(self, rows: np.ndarray, where: Source) -> None:
        """Pin who comes into view and unpin who left; an identity that is live elsewhere by now is not given back."""
        now, before = set(rows.tolist()), self.live[where.number]
        if now == before:
            return
        tracks = self.tracks
        left = [row for row in before - now if tracks["final"][row]]
        self.gallery.unpin(tracks["identity"][left])
        live = self.live[where.number] = now & before
        for row in sorted(now - before):
            identity = int(tracks["identity"][row])
            if tracks["final"][row]:
                if identity in self.gallery and not self._is_taken(identity, where):
                    self.gallery.pin([identity])
                else:
                    self.restart(row, where)
            live.add(row)

    def _is_taken(self, identity: int, where: Source) -> bool:
        """Whether an identity is in view of this source as another track, or now of one that sees another place."""
        tracks = self.tracks
        for other in self.sources.values():
            # A source that had no frame since the last one of this source has ended, or is behind.
            elsewhere = other.moment > where.moment and not self.constraints.overlap(other.name, where.name)
            if other is where or elsewhere:
                rows = np.fromiter(self.live[other.number], np.int64, len(self.live[other.number]))
                if (tracks["final"][rows] & (tracks["identity"][rows] == identity)).any():
                    return True
        return False

    # Ends

    def end(self, name: str, track_id: int | None) -> None:
        """A track is over, or with None a whole source."""
        where = self.sources.get(name)
        if where is None:
            return
        rows = self.tracks.of(where.number)
        if track_id is None:
            where.frame = -1
        else:
            rows = rows[self.tracks["track"][rows] == track_id]
        for row in rows.tolist():
            self.close(row)

    def _close_lost(self, where: Source) -> None:
        rows = self.tracks.of(where.number)
        lost = rows[where.updates - self.tracks["updated"][rows] > self.lost_frames]
        # A video that has stopped without a word.
        silent = [other for other in self.sources.values() if self.turn - other.turn > self._silence]
        for row in [*lost.tolist(), *(row for other in silent for row in self.tracks.of(other.number).tolist())]:
            self.close(row)

    @property
    def _silence(self) -> int:
        return self.lost_frames * len(self.sources)

    def close(self, row: int) -> None:
        """End a track."""
        self._archive(row)
        tracks = self.tracks
        live = self.live[int(tracks["source"][row])]
        if row in live:
            live.remove(row)
            if tracks["final"][row]:
                self.gallery.unpin(tracks["identity"][[row]])
        tracks.close(row)

    # What was said

    def _archive(self, row: int) -> None:
        self.history.close(*self._key(row), self._span(row))

    def _key(self, row: int) -> tuple[str, int]:
        return self.gallery.sources[int(self.tracks["source"][row])], int(self.tracks["track"][row])

    def _span(self, row: int) -> Span:
        tracks = self.tracks
        return Span(int(tracks["identity"][row]), int(tracks["first_frame"][row]), int(tracks["last_frame"][row]))

    def spans(self) -> dict[tuple[str, int], list[Span]]:
        """Of each (source, track id), with numbers as they are after merges and renames."""
        spans = {key: list(parts) for key, parts in self.history.spans.items()}
        for row in self.tracks.used.tolist():
            spans.setdefault(self._key(row), []).append(self._span(row))
        resolve = self.gallery.resolve
        return {key: [span._replace(identity=resolve(span.identity)) for span in parts] for key, parts in spans.items()}

    # Changes from outside

    def reconcile(self) -> bool:
        """Follow what a user changed in the gallery: new numbers, and identities that are gone. Whether there was."""
        if self._edits == self.gallery.edits:
            return False
        self._edits = self.gallery.edits
        tracks, by_number = self.tracks, {where.number: where for where in self.sources.values()}
        for row in tracks.used.tolist():
            if not tracks["final"][row]:
                continue
            where = by_number[int(tracks["source"][row])]
            tracks["identity"][row] = identity = self.gallery.resolve(int(tracks["identity"][row]))
            live = self.live[where.number]
            if identity not in self.gallery:
                self.restart(row, where)
            elif row in live:
                # Two live tracks may have been merged: one of them keeps the identity.
                live.remove(row)
                if self._is_taken(identity, where):
                    self.gallery.unpin([identity])
                    self.restart(row, where)
                live.add(row)
        return True

    # Files

    def state(self) -> dict[str, dict[str, np.ndarray]]:
        """Tracks and history, as arrays."""
        live = [[number, self.tracks["track"][row]] for number, rows in self.live.items() for row in sorted(rows)]
        return {
            "tracks": self.tracks.state(),
            "history": self.history.state(self.gallery.sources),
            "view": {"live": np.array(live, dtype=np.int64).reshape(-1, 2)},
        }

    def load(
        self, sources: Sequence[Mapping[str, Any]], turn: int, state: Mapping[str, Mapping[str, np.ndarray]]
    ) -> None:
        """Take what `state` gave, with the sources and the turn of the time; who was in view is so again."""
        self.tracks.load(state["tracks"])
        self.history.load(state["history"], self.gallery.sources)
        self.turn = turn
        for source in sources:
            where = Source(**source)
            self.sources[where.name], self.live[where.number] = where, set()
        for number, track in state["view"]["live"].tolist():
            row = self.tracks.index[number, track]
            self.live[number].add(row)
            if self.tracks["final"][row]:
                self.gallery.pin(self.tracks["identity"][[row]])
