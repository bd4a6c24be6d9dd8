"""The gallery against a dictionary: who is there, who gives way, who is nearest; files, locks and mistakes."""

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from torchbank.errors import (
    BankError,
    BankFileNotFoundError,
    BankKeyError,
    BankStateError,
    BankTypeError,
    BankValueError,
    FileFormatError,
)
from torchbank.tracking import IdentityGallery

SEATS, KEPT = 3, 2
VECTORS = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
UNIT = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
vectors = st.integers(0, len(VECTORS) - 1)


class GalleryMachine(RuleBasedStateMachine):
    """Beside it a dictionary from identities to [samples], in the order in which they were seen last."""

    def __init__(self):
        super().__init__()
        self.gallery = IdentityGallery(4, SEATS, KEPT, rule="newest")
        self.people: dict[int, list[int]] = {}
        self.pinned: dict[int, int] = {}
        self.bytes = self.gallery.nbytes

    def one(self, data):
        return data.draw(st.sampled_from(sorted(self.people)))

    def touch(self, identity):
        self.people[identity] = self.people.pop(identity)

    @rule(vector=vectors)
    def enroll(self, vector):
        free = [identity for identity in self.people if not self.pinned.get(identity)]
        if len(self.people) == SEATS and not free:
            with pytest.raises(BankStateError, match="live and pinned"):
                self.gallery.enroll(VECTORS[vector])
            return
        if len(self.people) == SEATS:
            del self.people[free[0]]
        self.people[self.gallery.enroll(VECTORS[vector])] = [vector]

    @precondition(lambda self: self.people)
    @rule(data=st.data(), vector=vectors)
    def add(self, data, vector):
        identity = self.one(data)
        assert self.gallery.add(identity, VECTORS[vector]) == 1
        self.people[identity] = [*self.people[identity], vector][-KEPT:]
        self.touch(identity)

    @precondition(lambda self: self.people)
    @rule(data=st.data())
    def see(self, data):
        identity = self.one(data)
        self.gallery.see([identity])
        self.touch(identity)

    @precondition(lambda self: self.people)
    @rule(data=st.data(), more=st.booleans())
    def pin_or_unpin(self, data, more):
        identity = self.one(data)
        (self.gallery.pin if more else self.gallery.unpin)([identity])
        self.pinned[identity] = max(0, self.pinned.get(identity, 0) + (1 if more else -1))

    @precondition(lambda self: self.people)
    @rule(data=st.data())
    def forget(self, data):
        identity = self.one(data)
        self.gallery.forget(identity)
        del self.people[identity]
        self.pinned.pop(identity, None)

    @precondition(lambda self: self.people)
    @rule(data=st.data())
    def rename(self, data):
        identity = self.one(data)
        new = max(self.people) + 1000
        self.gallery.rename(identity, new)
        self.people = {new if name == identity else name: samples for name, samples in self.people.items()}
        self.pinned[new] = self.pinned.pop(identity, 0)
        assert self.gallery.resolve(identity) == new

    @precondition(lambda self: len(self.people) > 1)
    @rule(data=st.data())
    def merge(self, data):
        kept, gone = data.draw(st.permutations(sorted(self.people)))[:2]
        before = self.people[kept] + self.people[gone]
        order = list(self.people)
        self.gallery.merge(kept, gone)
        samples = self.gallery.samples(kept).embeddings.numpy()
        after = [int(np.abs(UNIT - sample).sum(axis=1).argmin()) for sample in samples]
        assert len(after) == min(KEPT, len(before))
        assert not Counter(after) - Counter(before)
        self.people[kept] = after
        del self.people[gone]
        self.pinned[kept] = self.pinned.get(kept, 0) + self.pinned.pop(gone, 0)
        if order.index(gone) > order.index(kept):
            names = [kept if name == gone else name for name in order if name != kept]
            self.people = {name: self.people[name] for name in names}

    @invariant()
    def holds_the_same(self):
        assert self.gallery.identities.tolist() == sorted(self.people)
        assert self.gallery.nbytes == self.bytes
        assert all(self.gallery[name].live == bool(self.pinned.get(name)) for name in self.people)

    @invariant()
    def finds_the_same(self):
        found = self.gallery.nearest(VECTORS, k=SEATS)
        for query, names, similarities in zip(UNIT, found.identities, found.similarities, strict=True):
            best = {name: max(float(UNIT[s] @ query) for s in samples) for name, samples in self.people.items()}
            expected = sorted(best.values(), reverse=True) + [-np.inf] * (SEATS - len(best))
            np.testing.assert_allclose(similarities, expected, atol=1e-6)
            for name, similarity in zip(names.tolist(), similarities, strict=True):
                assert name == 0 if np.isinf(similarity) else best[name] == pytest.approx(similarity, abs=1e-6)


TestGalleryMachine = GalleryMachine.TestCase
TestGalleryMachine.settings = settings(max_examples=8, stateful_step_count=12, deadline=None)


def test_add__takes_good_and_new_samples_only():
    gallery = IdentityGallery(2, min_score=0.5, novelty=0.1)
    identity = gallery.enroll(np.array([[1.0, 0.0], [0.0, 1.0]]), scores=np.array([0.9, 0.2]))
    assert len(gallery.samples(identity).steps) == 1
    assert gallery.add(identity, np.array([0.0, 1.0]), scores=np.array([0.4])) == 0  # unsure
    assert gallery.add(identity, np.array([0.99, 0.05]), scores=np.array([0.9])) == 0  # nothing new
    assert gallery.add(identity, np.array([0.0, 1.0]), scores=np.array([0.9])) == 1
    # Of samples that are all unsure, the best is kept: an identity has one at least.
    unsure = gallery.enroll(np.array([[1.0, 0.0], [0.0, 1.0]]), scores=np.array([0.1, 0.2]))
    assert gallery.samples(unsure).embeddings.tolist() == [[0.0, 1.0]]


def test_nearest__looks_at_one_class_and_at_eligible_seats():
    gallery = IdentityGallery(2)
    person, car = gallery.enroll(np.array([1.0, 0.0]), label=0), gallery.enroll(np.array([1.0, 0.0]), label=2)
    query = np.array([[1.0, 0.0]])
    assert gallery.nearest(query, 2, classes=np.array([2])).identities.tolist() == [[car, 0]]
    only = gallery.table.columns["identity"] == person
    assert gallery.nearest(query, 2, eligible=only).identities.tolist() == [[person, 0]]
    assert gallery.nearest(query, 2, eligible=only).margins.tolist() == [np.inf]
    assert gallery.nearest(query, 2).margins.tolist() == [0.0]


def test_retention__forgets_who_was_not_seen_for_long():
    gallery = IdentityGallery(2, retention=10.0)
    old = gallery.enroll(np.array([1.0, 0.0]), time=0.0)
    young = gallery.enroll(np.array([0.0, 1.0]), time=8.0)
    live = gallery.enroll(np.array([1.0, 1.0]), time=0.0)
    gallery.pin([live])
    assert gallery.expire(9.0) == []
    gallery.see([young], time=12.0)
    assert gallery.identities.tolist() == [young, live]
    assert not gallery.bank.embeddings.numpy()[: gallery.bank.kept].any()
    assert old not in gallery


def test_split__parts_samples_of_two_people():
    gallery = IdentityGallery(2)
    identity = gallery.enroll(np.array([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1]]))
    new = gallery.split(identity, [1])
    assert gallery.samples(new).embeddings.tolist() == [[0.0, 1.0]]
    assert len(gallery.samples(identity).steps) == 2
    gallery.merge(identity, new)
    assert len(gallery.samples(identity).steps) == 3


def test_save__and_load_give_the_same_gallery(tmp_path):
    gallery = IdentityGallery(3, 5, 2, rule="diverse", retention=60.0, min_score=0.2, fingerprint="net@1")
    first = gallery.enroll(np.eye(3), frame=7, time=1.5, source="cam1", label=4)
    gallery.rename(first, 77)
    gallery.save(tmp_path / "people.safetensors")
    gallery.close()
    with IdentityGallery.load(tmp_path / "people.safetensors", fingerprint="net@1") as again:
        assert again[77] == gallery[77]
        assert again.resolve(first) == 77
        assert again.enroll(np.ones(3), time=2.0) == gallery.enroll(np.ones(3), time=2.0)
        assert (again.retention, again.min_score, again.rule, again.nbytes) == (60.0, 0.2, "diverse", gallery.nbytes)


def test_forget__leaves_nothing_of_a_person_in_the_file(tmp_path):
    gallery = IdentityGallery(4, 4)
    vector = np.array([0.1234567, -0.7654321, 0.3141592, 0.5], dtype=np.float32)
    identity = gallery.enroll(vector)
    stored = gallery.samples(identity).embeddings.numpy().tobytes()
    gallery.enroll(np.ones(4))
    gallery.save(tmp_path / "a.safetensors")
    assert stored in (tmp_path / "a.safetensors").read_bytes()
    gallery.forget(identity)
    gallery.save(tmp_path / "a.safetensors")
    assert stored not in (tmp_path / "a.safetensors").read_bytes()
    with pytest.raises(BankKeyError, match="never enrolled, or evicted, expired or forgotten"):
        gallery[identity]


TRY = """
import sys
from torchbank.errors import BankStateError
from torchbank.tracking import IdentityGallery
try:
    IdentityGallery.load(sys.argv[1])
except BankStateError as error:
    print("locked:", error)
print(len(IdentityGallery.load(sys.argv[1], lock=False)))
"""


@pytest.mark.plain
def test_lock__lets_one_process_write_and_all_read(tmp_path):
    path = tmp_path / "people.safetensors"
    with IdentityGallery(2) as gallery:
        gallery.enroll(np.ones(2))
        gallery.save(path)
        done = subprocess.run([sys.executable, "-c", TRY, path], capture_output=True, text=True, check=True)
        told, count = done.stdout.splitlines()
        assert told.startswith("locked:")
        assert "open for writing elsewhere" in told
        assert count == "1"
        with pytest.raises(BankStateError, match="open for writing elsewhere"):
            IdentityGallery.load(path)
        reader = IdentityGallery.load(path, lock=False)
        with pytest.raises(BankStateError, match="to read only"):
            reader.save(path)
    IdentityGallery.load(path).close()


@pytest.mark.plain
def test_load__tells_what_is_wrong_with_a_file(tmp_path):
    path = tmp_path / "people.safetensors"
    with pytest.raises(BankFileNotFoundError, match="people"):
        IdentityGallery.load(path)
    gallery = IdentityGallery(2, fingerprint="osnet@1")
    gallery.save(path)
    gallery.close()
    with pytest.raises(BankValueError, match=r"osnet@1.*cannot be compared with those of 'resnet@2'"):
        IdentityGallery.load(path, fingerprint="resnet@2")
    whole = path.read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(FileFormatError):
            IdentityGallery.load(path)
    path.write_bytes(whole)
    # After every failure the lock is free again.
    IdentityGallery.load(path, fingerprint="osnet@1").close()
    with pytest.raises(BankFileNotFoundError, match="create it first"):
        gallery.save(tmp_path / "nowhere" / "a.safetensors")


BAD_ROWS = {
    "not finite": (np.array([[1.0, np.nan]]), BankValueError, "row 0 of embeddings is not finite"),
    "zero": (np.array([[1.0, 0.0], [0.0, 0.0]]), BankValueError, "row 1 of embeddings is all zeros"),
    "length": (np.ones((1, 3)), BankValueError, r"shape \(1, 3\); expected \(rows, 2\)"),
    "integers": (np.ones((1, 2), dtype=int), BankTypeError, "expected a floating dtype"),
    "none": (np.ones((0, 2)), BankValueError, "at least one embedding"),
}


@pytest.mark.plain
@pytest.mark.parametrize("case", BAD_ROWS)
def test_enroll__refuses_what_is_no_embedding_and_changes_nothing(case):
    rows, error, message = BAD_ROWS[case]
    gallery = IdentityGallery(2)
    with pytest.raises(error, match=message):
        gallery.enroll(rows)
    assert len(gallery) == 0
    assert gallery.enroll(np.ones(2)) == 1


@pytest.mark.plain
def test_gallery__refuses_what_cannot_be():
    for options in ({"max_identities": 0}, {"rule": "best"}, {"retention": 0.0}, {"novelty": 3.0}, {"min_score": -1.0}):
        with pytest.raises(BankError):
            IdentityGallery(2, **options)
    gallery = IdentityGallery(2, retention=5.0)
    with pytest.raises(BankValueError, match="give time= in seconds"):
        gallery.enroll(np.ones(2))
    gallery = IdentityGallery(2)
    identity = gallery.enroll(np.ones((2, 2)) + np.eye(2))
    for wrong in (lambda: gallery.merge(identity, identity), lambda: gallery.split(identity, [0, 1]),
                  lambda: gallery.rename(identity, identity), lambda: gallery.enroll(np.ones(2), identity=identity),
                  lambda: gallery.add(99, np.ones(2)), lambda: gallery.add(identity, np.ones(2), scores=np.ones(2)),
                  lambda: gallery.expire(0.0)):  # fmt: skip
        with pytest.raises(BankError):
            wrong()
    assert gallery.identities.tolist() == [identity]
