"""The identity gallery: a bounded memory of who was seen, and of what they looked like."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from torchbank.banks import BankView, check_size
from torchbank.errors import BankValueError
from torchbank.tracking import _gallery_file
from torchbank.tracking._doors import as_embeddings, as_identities, as_integers, as_scores, check_fraction
from torchbank.tracking._editing import Editing
from torchbank.tracking._identities import NOBODY, Identities, Sighting
from torchbank.tracking._lock import Ownership
from torchbank.tracking._matches import IdentityRecord, Matches, distinct
from torchbank.tracking._sample_bank import SampleBank, rounds

if TYPE_CHECKING:
    from torchbank.tracking.adapt import Whitening
    from torchbank.tracking.calibrate import Calibration


class IdentityGallery(Editing):
    """Samples of many identities in a fixed number of bytes, in one file, for one writer at a time.

    An identity is a number from 1 on that is never given twice. Its samples lie in a bank whose replacement rule
    says which of them stay. When all seats are taken, the identity that was seen least recently gives way, but none
    that is pinned because it is in view. The gallery keeps no images.

    Args:
        dim: Length of an embedding.
        max_identities: Seats. More than can be in view at once, or new identities find no room.
        samples_per_identity: Samples of each.
        rule: Which samples stay: ``"uniform"``, spread over the lifetime; ``"newest"``; ``"diverse"``, those that
            are least alike; ``"mean"``, one running mean of all, whose score is the mean of all of their scores.
        retention: Forget an identity so many seconds after it was last seen; None keeps it. Needs times with
            every sample and sighting, of one clock.
        min_score: A sample with a lower detection score is not kept.
        novelty: A sample is not kept if its cosine distance to a kept one of its identity is smaller.
        device: Where the samples lie.
        dtype: Of the samples: ``torch.float32``, ``torch.bfloat16`` or ``torch.float16``.
        fingerprint: What made the embeddings, such as a model's name and a checksum of its weights. It is kept in
            the file, and loading with another one is an error.

    Attributes:
        table: The seats: which identity has each, when and where it was seen, and whether it is in view.
        bank: The samples.
        nbytes: Bytes of all samples and of the table of identities; never changes.
        calibration: `Calibration` that goes with the embeddings, kept in the file; None before there is one.
        adaptation: `Whitening` that the samples went through, kept in the file; None for none.
        sources: Names of the cameras or videos, by their numbers in ``table``.
        moment: A count that grows with every sighting and every sample.
        edits: How many merges, splits, renamings and deletions there were.

    Raises:
        BankValueError: A size, rule, share or time is out of range.
        BankTypeError: A size or dtype is of the wrong type.

    Example:
        >>> import numpy as np
        >>> from torchbank.tracking import IdentityGallery
        >>> gallery = IdentityGallery(2, max_identities=100)
        >>> ann, bob = gallery.enroll(np.array([1.0, 0.0])), gallery.enroll(np.array([0.0, 1.0]))
        >>> gallery.add(ann, np.array([[0.8, 0.6]]))
        1
        >>> gallery.nearest(np.array([[0.6, 0.8]]), k=2).identities
        array([[1, 2]])
        >>> gallery.forget(ann)
        >>> gallery.identities.tolist()
        [2]
    """

    def __init__(
        self,
        dim: int,
        max_identities: int = 1000,
        samples_per_identity: int = 8,
        *,
        rule: str = "uniform",
        retention: float | None = None,
        min_score: float = 0.0,
        novelty: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        fingerprint: str | None = None,
    ) -> None:
        check_size("max_identities", max_identities)
        check_size("samples_per_identity", samples_per_identity)
        check_fraction("min_score", min_score)
        check_fraction("novelty", novelty, top=2.0)
        if retention is not None and not retention > 0:
            msg = f"retention is {retention}; expected seconds, more than 0, or None to keep identities"
            raise BankValueError(msg)
        self.bank = SampleBank(max_identities, samples_per_identity, dim, rule=rule, dtype=dtype, device=device)
        self.dim, self.rule = dim, rule
        self.max_identities, self.samples_per_identity = max_identities, samples_per_identity
        self.retention, self.min_score, self.novelty = retention, min_score, novelty
        self.fingerprint = fingerprint
        self.calibration: Calibration | None = None
        self.adaptation: Whitening | None = None
        self.table = Identities(max_identities)
        self.sources: list[str] = []
        self.moment = self.edits = 0
        self._next = 1
        self._aliases: dict[int, int] = {}
        self._sweep_due = -np.inf
        self.ownership = Ownership()

    # Who is there

    def __len__(self) -> int:
        """How many identities there are."""
        return len(self.table.seats)

    def __contains__(self, identity: int) -> bool:
        return identity in self.table.seats

    def __getitem__(self, identity: int) -> IdentityRecord:
        """What is known of an identity.

        Raises:
            BankKeyError: It is not in the gallery.
        """
        seat = self.table.seat(identity)
        row = self.table.row(seat)
        source = self.sources[number] if (number := row.pop("source")) >= 0 else None
        return IdentityRecord(samples=len(self.bank.slots_of(seat)), source=source, **row)

    @property
    def identities(self) -> np.ndarray:
        """``(len(gallery),)`` int64, in order of their numbers."""
        return np.array(sorted(self.table.seats), dtype=np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes of all samples and of the table of identities: fixed when the gallery is built."""
        return self.bank.nbytes + self.table.nbytes

    def samples(self, identity: int) -> BankView:
        """A copy of the samples of an identity, oldest first, with scores, frames, times and sources.

        Raises:
            BankKeyError: It is not in the gallery.
        """
        return self.bank.gather(self.bank.slots_of(self.table.seat(identity)))

    # Writing

    def reserve(self) -> int:
        """A new number, which no identity had or will have."""
        self._next += 1
        return self._next - 1

    def enroll(
        self,
        embeddings: np.ndarray | Tensor,
        *,
        identity: int | None = None,
        label: int = -1,
        scores: np.ndarray | None = None,
        frame: int | None = None,
        time: float | None = None,
        source: str | None = None,
    ) -> int:
        """Take in a new identity with its first samples.

        Args:
            embeddings: ``(dim,)`` or ``(samples, dim)``, finite and not zero.
            identity: A number from `reserve`; None takes the next one.
            label: Its class: a query with classes finds it only under the same one.
            scores: ``(samples,)``, detection scores in [0, 1]. Of samples that are all below ``min_score`` the best
                is kept.
            frame: When, in frames of the source.
            time: When, in seconds.
            source: Where.

        Returns:
            The identity.

        Raises:
            BankValueError: The embeddings do not fit, or the number is taken.
            BankStateError: Every identity in the gallery is live.
        """
        rows = as_embeddings(embeddings, self.dim)
        if not len(rows):
            msg = "an identity is enrolled with at least one embedding; none was given"
            raise BankValueError(msg)
        if identity is not None and (identity in self or not 0 < identity < self._next):
            msg = f"identity {identity} cannot be enrolled; give a number from reserve() that is not in the gallery"
            raise BankValueError(msg)
        given, sighting = as_scores(scores, len(rows)), self._sighting(frame, time, source)
        number = self.reserve() if identity is None else identity
        seat, evicted = self.table.take_seat(number, label, sighting)
        if evicted != NOBODY:
            self.bank.empty(seat)
        good = given >= min(self.min_score, given.max())
        self._push(rows[good], given[good], np.full(int(good.sum()), number), sighting)
        return number

    def add(
        self,
        identity: int | Sequence[int] | np.ndarray,
        embeddings: np.ndarray | Tensor,
        *,
        scores: np.ndarray | None = None,
        frame: int | None = None,
        time: float | None = None,
        source: str | None = None,
    ) -> int:
        """Offer more samples of identities that are there.

        Args:
            identity: One number for all samples, or ``(samples,)``, one for each.
            embeddings: ``(dim,)`` or ``(samples, dim)``, finite and not zero.
            scores: ``(samples,)``, detection scores in [0, 1].
            frame: When, in frames of the source.
            time: When, in seconds.
            source: Where.

        Returns:
            How many samples were good and new enough to be kept.

        Raises:
            BankKeyError: An identity is not in the gallery.
            BankValueError: The embeddings do not fit.
        """
        rows = as_embeddings(embeddings, self.dim)
        owners = as_identities(identity, len(rows))
        self.table.seats_of(owners)
        given, sighting = as_scores(scores, len(rows)), self._sighting(frame, time, source)
        good = given >= self.min_score
        return self._push(rows[good], given[good], owners[good], sighting)

    def _push(self, rows: np.ndarray, scores: np.ndarray, owners: np.ndarray, sighting: Sighting) -> int:
        """In rounds, each with one sample of an identity at most, in the order that they were given."""
        seats, labels = self.table.seats_of(owners), self.table.columns["label"]
        kept = 0
        for chosen in rounds(seats):
            if self.novelty > 0:
                chosen = chosen[self.bank.distances(rows[chosen], seats[chosen]) >= self.novelty]
            if not len(chosen):
                continue
            self.moment += 1
            held = {"identity": owners[chosen], "label": labels[seats[chosen]], "score": scores[chosen]}
            when = {"frame": sighting.frame, "time": sighting.time, "source": sighting.source}
            self.bank.take(rows[chosen], seats[chosen], {**held, **when}, step=self.moment)
            kept += len(chosen)
        if len(seats):
            self.table.note(np.unique(seats), sighting._replace(moment=self.moment), counted=0)
        return kept

    # Looking up

    def nearest(
        self,
        embeddings: np.ndarray | Tensor,
        k: int = 2,
        *,
        classes: np.ndarray | None = None,
        eligible: np.ndarray | None = None,
    ) -> Matches:
        """The k identities that are most similar to each embedding, each by its most similar sample.

        One exact read of the bank for all embeddings.

        Args:
            embeddings: ``(dim,)`` or ``(batch, dim)``, finite.
            k: How many identities.
            classes: ``(batch,)`` int64; only identities enrolled under the same label are found.
            eligible: ``(max_identities,)`` bool, by the seats of ``table``: which identities are looked at.

        Returns:
            `Matches` of identities and similarities, each ``(batch, k)``.

        Raises:
            BankValueError: The embeddings or classes do not fit.
        """
        check_size("k", k)
        rows = as_embeddings(embeddings, self.dim)
        labels = None if classes is None else as_integers("classes", classes, len(rows))
        return distinct(*self.bank.best(rows, k, labels, eligible), k)

    # Who is in view

    def see(
        self,
        identities: Sequence[int] | np.ndarray,
        *,
        frame: int | None = None,
        time: float | None = None,
        source: str | None = None,
    ) -> int:
        """Note that identities are seen now, and forget those whose retention has ended.

        Returns:
            The moment: a count that grows with every sighting.

        Raises:
            BankKeyError: An identity is not in the gallery.
            BankValueError: The gallery has a retention and there is no time.
        """
        seats = self.table.seats_of(identities)
        sighting = self._sighting(frame, time, source)
        self.moment += 1
        self.table.note(seats, sighting._replace(moment=self.moment))
        if self.retention is not None and time is not None and time >= self._sweep_due:
            self.expire(time)
        return self.moment

    def pin(self, identities: Sequence[int] | np.ndarray) -> None:
        """Keep identities from being evicted or expired until as many calls of `unpin`.

        Raises:
            BankKeyError: One is not in the gallery.
        """
        self.table.pin(identities, 1)

    def unpin(self, identities: Sequence[int] | np.ndarray) -> None:
        """Undo one `pin`; identities that are gone meanwhile are passed over."""
        self.table.pin([int(identity) for identity in identities if int(identity) in self], -1)

    def source_number(self, source: str) -> int:
        """The number of a source in the columns, a new one for a new name."""
        if source not in self.sources:
            self.sources.append(source)
        return self.sources.index(source)

    def _sighting(self, frame: int | None, time: float | None, source: str | None) -> Sighting:
        if self.retention is not None and time is None:
            msg = f"this gallery forgets after {self.retention} s; give time= in seconds with every sample and sighting"
            raise BankValueError(msg)
        return Sighting(
            self.moment,
            -1 if source is None else self.source_number(source),
            -1 if frame is None else int(frame),
            np.nan if time is None else float(time),
        )

    # Files

    def save(self, path: str | Path) -> None:
        """Write the gallery to one file, whole or not at all, and hold the right to write it from now on.

        Args:
            path: The file. Its folder must exist.

        Raises:
            BankStateError: Another gallery holds that right, or this one was loaded from there with ``lock=False``.
            BankFileNotFoundError: The folder does not exist.
        """
        self.ownership.take(Path(path))
        _gallery_file.write(self, path)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        lock: bool = True,
        fingerprint: str | None = None,
        device: torch.device | str | None = None,
    ) -> "IdentityGallery":
        """Read a gallery; nobody is in view.

        Args:
            path: A file of `save`, or of `IdentityLinker.save`.
            lock: Hold the right to write the file until `close`; False reads only.
            fingerprint: What makes the embeddings that will be compared; None does not check.
            device: Where the samples go.

        Raises:
            BankFileNotFoundError: There is no such file.
            FileFormatError: The file is damaged or holds no gallery.
            BankStateError: Another gallery, here or in another process, may write the file.
            BankValueError: The gallery was filled by another embedder.
        """
        return _gallery_file.read(Path(path), lock=lock, fingerprint=fingerprint, device=device)

    def close(self) -> None:
        """Give up the right to write the file. The gallery can be used on."""
        self.ownership.release()

    def __enter__(self) -> "IdentityGallery":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"IdentityGallery({len(self)} of {self.max_identities} identities, dim={self.dim}, rule={self.rule!r})"
