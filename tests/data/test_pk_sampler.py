"""The P x K sampler: what every batch holds, and where the stream resumes."""

from itertools import chain, islice

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from torchbank.data import PKSampler
from torchbank.errors import BankStateError, BankTypeError, BankValueError


def labels_of(sizes):
    """Shuffled labels with gaps, so many of each class."""
    labels = torch.arange(len(sizes)).mul(3).repeat_interleave(torch.tensor(sizes))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    classes_per_batch=st.integers(1, 6),
    images_per_class=st.integers(1, 6),
    seed=st.integers(0, 2**40),
)
def test_pk_sampler__every_batch_is_full_and_has_no_image_twice(sizes, classes_per_batch, images_per_class, seed):
    assume(len(sizes) >= classes_per_batch)
    assume(sum(min(size, images_per_class) for size in sizes) >= classes_per_batch * images_per_class)
    labels = labels_of(sizes)
    sampler = PKSampler(labels, classes_per_batch=classes_per_batch, images_per_class=images_per_class, seed=seed)
    for batch in islice(sampler, 20):
        assert len(batch) == len(set(batch)) == sampler.batch_size == classes_per_batch * images_per_class
        counts = dict(zip(*(t.tolist() for t in labels[batch].unique(return_counts=True)), strict=True))
        assert len(counts) >= classes_per_batch
        # Each class gives K images or all it has; only the last one taken may be cut where the batch is full.
        full = [count == min(images_per_class, sizes[label // 3]) for label, count in counts.items()]
        assert full.count(False) <= 1
        if min(sizes) >= images_per_class:
            assert list(counts.values()) == [images_per_class] * classes_per_batch


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=24),
    classes_per_batch=st.integers(1, 4),
    images_per_class=st.integers(1, 4),
    ranks=st.integers(1, 4),
)
def test_pk_sampler__processes_cut_the_batch_of_one(sizes, classes_per_batch, images_per_class, ranks):
    def sampler(classes, **words):
        given = {"classes_per_batch": classes, "images_per_class": images_per_class, "seed": 5, **words}
        return PKSampler(labels_of(sizes), **given)

    assume(len(sizes) >= classes_per_batch)
    supply = sum(min(size, images_per_class) for size in sizes)
    assume(supply >= classes_per_batch * images_per_class)
    parts = [sampler(classes_per_batch, rank=rank, ranks=ranks) for rank in range(ranks)]
    together = ranks * classes_per_batch
    if len(sizes) >= together and supply >= together * images_per_class:
        whole = sampler(together)
        for index in range(12):
            assert list(chain(*(part.batch(index) for part in parts))) == whole.batch(index)
            assert parts[0].batches_per_pass == whole.batches_per_pass
    else:
        # Too few for all at once: they take turns.
        one = sampler(classes_per_batch)
        assert [part.batch(3) for part in parts] == [one.batch(3 * ranks + rank) for rank in range(ranks)]


def test_pk_sampler__a_small_class_gives_all_it_has_and_others_fill_up():
    labels = labels_of([2, 5, 5])
    sampler = PKSampler(labels, classes_per_batch=2, images_per_class=4)
    with_small = [batch for batch in islice(sampler, 30) if (labels[batch] == 0).any()]
    assert with_small
    for batch in with_small:
        assert labels[batch].bincount(minlength=7)[0] == 2


def test_pk_sampler__no_class_returns_before_all_had_their_turn():
    labels = labels_of([5] * 10)
    sampler = PKSampler(labels, classes_per_batch=3, images_per_class=2)
    batches = list(islice(sampler, 3 * sampler.batches_per_pass))
    for start in range(0, len(batches), sampler.batches_per_pass):
        seen = torch.cat([labels[batch].unique() for batch in batches[start : start + sampler.batches_per_pass]])
        assert len(seen) == len(seen.unique()) == 9


def test_pk_sampler__all_classes_and_images_come_equally_often():
    labels = labels_of([4] * 7)
    drawn = torch.zeros(len(labels))
    for batch in islice(PKSampler(labels, classes_per_batch=2, images_per_class=2), 2_100):
        drawn[batch] += 1
    # 300 each; binomial with a standard deviation below 15.
    assert drawn.min() > 225
    assert drawn.max() < 375


def test_pk_sampler__seeds_and_batches_differ():
    labels = labels_of([6] * 12)
    streams = [
        tuple(
            tuple(batch) for batch in islice(PKSampler(labels, classes_per_batch=3, images_per_class=2, seed=seed), 50)
        )
        for seed in range(5)
    ]
    assert len(set(streams)) == 5
    assert all(len(set(stream)) == 50 for stream in streams)


def test_pk_sampler__leaves_the_global_generators_alone():
    before = torch.get_rng_state()
    list(islice(PKSampler(labels_of([3, 3]), classes_per_batch=2, images_per_class=2), 5))
    assert torch.equal(torch.get_rng_state(), before)


class Resuming(RuleBasedStateMachine):
    """Draw, save, lose and resume in any order: the batches stay those of one uninterrupted stream."""

    def fresh(self):
        return PKSampler(self.labels, classes_per_batch=3, images_per_class=2, seed=11)

    @initialize(sizes=st.lists(st.integers(1, 5), min_size=6, max_size=9))
    def start(self, sizes):
        self.labels = labels_of(sizes)
        assume(sum(min(size, 2) for size in sizes) >= 6)
        self.oracle = list(islice(self.fresh(), 60))
        self.sampler, self.at = self.fresh(), 0
        self.saved = (self.sampler.state_dict(), 0)

    @rule(n=st.integers(1, 4))
    def draw(self, n):
        batches = list(islice(self.sampler, min(n, 50 - self.at)))
        assert batches == self.oracle[self.at : self.at + len(batches)]
        self.at += len(batches)

    @rule(ahead=st.integers(1, 5))
    def save_behind_a_loader_that_reads_ahead(self, ahead):
        used = self.at
        list(islice(self.sampler, ahead))
        self.saved = (self.sampler.state_dict(next_batch=used), used)
        self.sampler = self.fresh()
        self.sampler.load_state_dict(self.saved[0])

    @rule()
    def save(self):
        self.saved = (self.sampler.state_dict(), self.at)

    @rule()
    def resume(self):
        self.sampler = self.fresh()
        self.sampler.load_state_dict(self.saved[0])
        self.at = self.saved[1]

    @invariant()
    def knows_its_place(self):
        assert self.sampler.next_batch == self.at
        assert self.sampler.batch(self.at) == self.oracle[self.at]


TestResuming = Resuming.TestCase


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed 1, but this sampler has 0"),
        ({"classes_per_batch": 1}, "classes_per_batch 1, but this sampler has 2"),
        ({"images_per_class": 2}, "images_per_class 2, but this sampler has 3"),
        ({"labels": labels_of([3, 3, 3, 4])}, "labels_checksum"),
        ({"rank": 1, "ranks": 2}, "rank 1, but this sampler has 0"),
    ],
)
def test_pk_sampler__refuses_the_state_of_another_stream(changes, message):
    arguments = {"labels": labels_of([3, 3, 3]), "classes_per_batch": 2, "images_per_class": 3}
    sampler = PKSampler(**arguments)
    state = PKSampler(**(arguments | changes)).state_dict()
    with pytest.raises(BankStateError, match=message):
        sampler.load_state_dict(state)
    assert sampler.next_batch == 0


@pytest.mark.parametrize("missing", ["seed", "next_batch"])
def test_pk_sampler__refuses_a_state_that_is_not_whole(missing):
    sampler = PKSampler(labels_of([3, 3]), classes_per_batch=2, images_per_class=2)
    state = sampler.state_dict()
    del state[missing]
    with pytest.raises(BankStateError, match=missing):
        sampler.load_state_dict(state)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"classes_per_batch": 4}, BankValueError, "classes_per_batch is 4, but the labels hold 3 classes"),
        ({"images_per_class": 4}, BankValueError, "needs 8 different images, but .* there are 7"),
        ({"labels": torch.zeros(0, dtype=torch.int64)}, BankValueError, "hold 0 classes"),
        ({"classes_per_batch": 0}, BankValueError, "classes_per_batch is 0"),
        ({"images_per_class": 0}, BankValueError, "images_per_class 0"),
        ({"seed": -1}, BankValueError, "seed -1"),
        ({"rank": 2, "ranks": 2}, BankValueError, "rank is 2 and ranks 2"),
        ({"labels": torch.rand(4)}, BankTypeError, "labels are torch.float32"),
        ({"labels": torch.zeros(2, 2, dtype=torch.int64)}, BankValueError, r"shape \(2, 2\)"),
    ],
)
def test_pk_sampler__refuses(changes, error, message):
    arguments = {"labels": labels_of([2, 2, 3]), "classes_per_batch": 2, "images_per_class": 2} | changes
    with pytest.raises(error, match=message):
        PKSampler(**arguments)
