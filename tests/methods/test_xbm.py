"""XBM against its algorithm written out with lists and torch.cat."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

import torchbank as tb
from torchbank.data import Batch
from torchbank.errors import BankError
from torchbank.methods import XBM, XBMConfig, build

IMAGES, CLASSES, DIM, BATCH = 48, 8, 6, 10
SIZE = (1, 4, 4)


def make_images(seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand(CLASSES, *SIZE, generator=generator)
    labels = torch.arange(IMAGES) % CLASSES
    images = centres[labels] + 0.3 * torch.rand(IMAGES, *SIZE, generator=generator)
    return images, labels


def make_encoder(seed=0, norm=False):
    torch.manual_seed(seed)
    middle = [nn.BatchNorm1d(12)] if norm else []
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), *middle, nn.Tanh(), nn.Linear(12, DIM))


def batches(count, seed=1):
    """Random batches; an image may come twice in one."""
    images, labels = make_images()
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        ids = torch.randint(IMAGES, (BATCH,), generator=generator)
        yield Batch(images[ids], labels[ids], ids)


def config(**changes):
    settings = {"dim": DIM, "capacity": 25, "start_step": 3, "margin": 0.3}
    return XBMConfig(**(settings | changes))


def train(method, steps, first=0, learning_rate=0.05):
    """SGD on the given batches; returns the loss of each step."""
    optimizer = torch.optim.SGD(method.parameters(), learning_rate)
    losses = []
    for step, batch in enumerate(batches(steps)):
        if step < first:
            continue
        if method.wants_prefill(step):
            method.prefill(batches(9, seed=2))
        output = method(batch, step=step)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        method.after_step()
        losses.append(output.loss.item())
    return losses


class WrittenOut:
    """The paper's algorithm by hand: lists of rows, all pairs, no library."""

    def __init__(self, encoder, settings):
        self.encoder, self.settings = encoder, settings
        self.rows, self.labels, self.ids, self.steps = torch.zeros(0, DIM), [], [], []

    def pair_loss(self, z, labels, ids, rows, row_labels, row_ids, how, weights=None):
        s = z @ rows.T
        weights = torch.ones_like(s) if weights is None else weights.expand_as(s)
        kept = (weights > 0) & (ids[:, None] != row_ids)
        same = (labels[:, None] == row_labels) & kept
        if self.settings.loss == "triplet":
            return self.triplet_loss(s, same, (labels[:, None] != row_labels) & kept)
        if self.settings.loss == "multi-similarity":
            return self.multi_similarity_loss(s, same, (labels[:, None] != row_labels) & kept)
        active = (labels[:, None] != row_labels) & kept & (s > self.settings.margin)
        if how == "anchor":
            return ((weights * (1 - s))[same].sum() + (weights * s)[active].sum()) / len(z)
        pull = (weights * (1 - s))[same].sum() / weights[same].sum() if same.any() else 0.0
        excess = weights * (s - self.settings.margin)
        return pull + (excess[active].sum() / weights[active].sum() if active.any() else 0.0)

    def triplet_loss(self, s, same, other):
        hinges = [
            line[n] - line[p] + self.settings.margin
            for line, positive, negative in zip(s, same, other, strict=True)
            for p in positive.nonzero()
            for n in negative.nonzero()
        ]
        active = [hinge for hinge in hinges if hinge > 0]
        return sum(active) / len(active) if active else 0.0

    def multi_similarity_loss(self, s, same, other):
        total = 0.0
        for line, positive, negative in zip(s, same, other, strict=True):
            if positive.any() and negative.any():
                lowest, highest, margin = line[positive].min(), line[negative].max(), self.settings.margin
                pull = line[positive & (line - margin < highest)]
                push = line[negative & (line + margin > lowest)]
                total = total + (1 + (-2 * (pull - 0.5)).exp().sum()).log() / 2
                total = total + (1 + (50 * (push - 0.5)).exp().sum()).log() / 50
        return total / len(s)

    def remember(self, z, labels, ids, step):
        capacity = self.settings.capacity
        self.rows = torch.cat([self.rows, z.detach()])[-capacity:]
        self.labels = (self.labels + labels.tolist())[-capacity:]
        self.ids = (self.ids + ids.tolist())[-capacity:]
        self.steps = (self.steps + [step] * len(ids))[-capacity:]

    def loss(self, batch, step):
        settings = self.settings
        z = normalize(self.encoder(batch.images), dim=1)
        loss = self.pair_loss(z, batch.labels, batch.ids, z, batch.labels, batch.ids, settings.batch_normalize)
        if settings.memory and step >= settings.start_step:
            self.remember(z, batch.labels, batch.ids, step)
            ages = step - torch.tensor(self.steps)
            weights = 0.5 ** (ages / (settings.half_life or math.inf))
            weights = torch.where(ages <= (1e9 if settings.max_age is None else settings.max_age), weights, 0.0)
            memory = (self.rows, torch.tensor(self.labels), torch.tensor(self.ids), settings.memory_normalize)
            memory_loss = self.pair_loss(z, batch.labels, batch.ids, *memory, weights=weights)
            loss = loss + settings.memory_weight * memory_loss
        return loss

    def train(self, steps, learning_rate=0.05):
        losses = []
        for step, batch in enumerate(batches(steps)):
            if self.settings.memory and self.settings.prefill and step == self.settings.start_step:
                self.encoder.eval()
                for extra in list(batches(9, seed=2))[:3]:  # 3 batches of 10 fill 25 rows
                    with torch.no_grad():
                        z = normalize(self.encoder(extra.images), dim=1)
                    self.remember(z, extra.labels, extra.ids, step)
                self.encoder.train()
            loss = self.loss(batch, step)
            self.encoder.zero_grad()
            loss.backward()
            with torch.no_grad():
                for parameter in self.encoder.parameters():
                    parameter -= learning_rate * parameter.grad
            losses.append(loss.item())
        return losses


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"memory": False},
        {"prefill": False},
        {"memory_normalize": "active", "memory_weight": 2.0},
        {"batch_normalize": "active"},
        {"max_age": 1},
        {"start_step": 0},
        {"half_life": 2.0},
        {"half_life": 2.0, "max_age": 2, "memory_normalize": "active"},
        {"loss": "triplet"},
        {"loss": "triplet", "max_age": 1},
        {"loss": "multi-similarity"},
    ],
    ids=str,
)
def test_training__equals_the_algorithm_written_out(changes):
    settings = config(**changes)
    encoder = make_encoder(norm=True)
    written_out = WrittenOut(copy.deepcopy(encoder), settings)
    method = XBM(encoder, settings, dataset_size=IMAGES)
    torch.testing.assert_close(train(method, 20), written_out.train(20), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder.state_dict(), written_out.encoder.state_dict(), rtol=1e-3, atol=1e-5)
    if settings.memory:
        remembered = method.bank.ordered()
        torch.testing.assert_close(remembered.embeddings, written_out.rows, rtol=1e-3, atol=1e-4)
        assert remembered.fields["id"].tolist() == written_out.ids
        assert remembered.fields["label"].tolist() == written_out.labels
        assert remembered.steps.tolist() == written_out.steps
    else:
        assert method.bank is None


def test_training__with_memory_lowers_the_loss():
    method = XBM(make_encoder(), config(memory_normalize="active"), dataset_size=IMAGES)
    losses = train(method, 100, learning_rate=0.2)
    assert sum(losses[-20:]) < 0.7 * sum(losses[4:24])


def test_training__before_the_start_is_that_without_memory():
    with_memory = XBM(make_encoder(), config(start_step=6), dataset_size=IMAGES)
    without = XBM(make_encoder(), config(memory=False), dataset_size=IMAGES)
    ours, plain = train(with_memory, 8), train(without, 8)
    assert ours[:6] == plain[:6]
    assert ours[6:] != plain[6:]


@pytest.mark.parametrize("stop", [2, 3, 7])
def test_state_dict__goes_on_bit_for_bit(stop):
    settings = config(capacity=0.5, memory_normalize="active")
    straight = XBM(make_encoder(norm=True), settings, dataset_size=IMAGES)
    expected = train(straight, 15)
    first = XBM(make_encoder(norm=True), settings, dataset_size=IMAGES)
    train(first, stop)
    saved = copy.deepcopy(first.state_dict())
    assert all(isinstance(value, torch.Tensor) for value in saved.values())
    second = XBM(make_encoder(seed=5, norm=True), settings, dataset_size=IMAGES)
    second.load_state_dict(saved)
    assert train(second, 15, first=stop) == expected[stop:]
    torch.testing.assert_close(second.state_dict(), straight.state_dict(), rtol=0, atol=0)


def test_prefill__is_due_once():
    method = XBM(make_encoder(), config(), dataset_size=IMAGES)
    assert [step for step in range(10) if method.wants_prefill(step)] == [3]
    for never in (config(prefill=False), config(memory=False)):
        method = XBM(make_encoder(), never, dataset_size=IMAGES)
        assert not any(method.wants_prefill(step) for step in range(10))


def test_prefill__encodes_in_eval_mode_and_changes_nothing_else():
    encoder = make_encoder(norm=True)
    encoder.insert(2, nn.Dropout(0.5))
    encoder[1].eval()  # a frozen part stays frozen
    method = XBM(encoder, config(capacity=25), dataset_size=IMAGES)
    before, random = copy.deepcopy(encoder.state_dict()), torch.get_rng_state()
    taken = []

    def stream():
        for batch in batches(9, seed=2):
            taken.append(batch)
            yield batch

    method.prefill(stream())
    assert len(taken) == 3
    torch.testing.assert_close(encoder.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in encoder] == [True, False, True, True, True, True]
    images, ids = (torch.cat([batch[field] for batch in taken])[-25:] for field in (0, 2))
    rows = method.bank.ordered()
    expected = normalize(copy.deepcopy(encoder).eval()(images), dim=1)
    torch.testing.assert_close(rows.embeddings, expected.detach())
    assert torch.equal(rows.fields["id"], ids)
    assert (rows.steps == 3).all()


def test_prefill__with_fewer_images_than_rows_takes_them_all():
    method = XBM(make_encoder(), config(capacity=100), dataset_size=IMAGES)
    method.prefill(batches(3))
    assert len(method.bank) == 30


def test_own_copies__are_no_pairs_in_memory():
    method = XBM(make_encoder(), config(start_step=0, prefill=False), dataset_size=IMAGES)
    images, labels = make_images()
    batch = Batch(images[:4], labels[:4], torch.arange(4))
    for step in range(3):
        output = method(batch, step=step)
    assert output.logs["memory_positives"] == 0
    twin = Batch(images[:4], labels[:4], torch.arange(4, 8))
    assert method(twin, step=3).logs["memory_positives"] == 3  # three earlier copies under other ids


def test_logs__are_the_terms_and_their_pairs():
    settings = config(start_step=1, memory_weight=0.5, memory_normalize="active", prefill=False)
    method = XBM(make_encoder(), settings, dataset_size=IMAGES)
    first, second, third = batches(3)
    assert set(method(first, step=0).logs) == {
        "batch_loss",
        "batch_positives",
        "batch_active_negatives",
        "batch_active_fraction",
        "batch_positive_distance",
        "batch_negative_distance",
    }
    method(second, step=1)
    output = method(third, step=4)
    logs = output.logs
    assert all(value.ndim == 0 and not value.requires_grad for value in logs.values())
    torch.testing.assert_close(output.loss.detach(), logs["batch_loss"] + 0.5 * logs["memory_loss"])
    rows = method.bank.ordered()
    z = normalize(method.encoder(third.images), dim=1).detach()
    other = third.ids[:, None] != rows.fields["id"]
    same = (third.labels[:, None] == rows.fields["label"]) & other
    active = (third.labels[:, None] != rows.fields["label"]) & (z @ rows.embeddings.T > settings.margin) & other
    assert logs["memory_positives"] == same.sum() / BATCH
    assert logs["memory_active_negatives"] == active.sum() / BATCH
    s = z @ rows.embeddings.T
    torch.testing.assert_close(logs["memory_positive_distance"], (2 - 2 * s[same]).mean())
    torch.testing.assert_close(logs["memory_negative_distance"], (2 - 2 * s[active]).mean())
    torch.testing.assert_close(logs["memory_active_fraction"], active.float().mean())
    assert logs["memory_rows"] == 20
    assert logs["memory_age"] == 1.5


@pytest.mark.parametrize("loss", ["triplet", "multi-similarity"])
def test_logs__of_another_loss_are_the_terms(loss):
    method = XBM(make_encoder(), config(loss=loss, start_step=0, memory_weight=0.5), dataset_size=IMAGES)
    first, second = batches(2)
    method(first, step=0)
    output = method(second, step=1)
    pairs = ("positives", "active_negatives", "active_fraction", "positive_distance", "negative_distance")
    names = {f"{term}_{name}" for term in ("batch", "memory") for name in ("loss", *pairs)}
    assert set(output.logs) == {*names, "memory_rows", "memory_age"}
    total = output.logs["batch_loss"] + 0.5 * output.logs["memory_loss"]
    torch.testing.assert_close(output.loss.detach(), total)


@pytest.mark.parametrize(("loss", "margin"), [("contrastive", 0.5), ("triplet", 0.1), ("multi-similarity", 0.1)])
def test_margin__is_the_papers_for_each_loss_unless_given(loss, margin):
    default, same, other = (
        XBM(make_encoder(), config(loss=loss, margin=given), dataset_size=IMAGES)(next(batches(1)), step=0).loss
        for given in (None, margin, -0.3)
    )
    assert default == same
    assert default != other


def test_drift__is_read_from_the_start_step_on():
    method = XBM(make_encoder(), config(memory=False), dataset_size=IMAGES)
    train(method, 30)
    observed = method.drift.by_age()
    assert observed.count.sum() > 100
    assert observed.age.max() <= 27
    assert (observed.mean > 0).all()
    assert XBM(make_encoder(), config(monitor_drift=False)).drift is None


AUTOMATIC = {"start_step": "auto", "max_age": "auto", "fidelity_floor": 0.1, "memory_normalize": "active"}


def test_automatic_start__begins_full_once_fidelity_was_measured():
    method = XBM(make_encoder(), config(**AUTOMATIC), dataset_size=IMAGES)
    without = XBM(make_encoder(), config(memory=False), dataset_size=IMAGES)
    losses, plain = train(method, 103), train(without, 103)
    assert losses[:100] == plain[:100]
    assert losses[100:] != plain[100:]
    assert int(method.started) == 100
    assert [step for step in range(200) if method.wants_prefill(step)] == [100]
    assert method.bank.total_pushed == 30 + 3 * BATCH  # three batches fill it, and three steps
    assert method.gate.is_open


def test_automatic_start__never_comes_where_fidelity_stays_below_its_floor():
    method = XBM(make_encoder(), config(**{**AUTOMATIC, "fidelity_floor": 0.9999}), dataset_size=IMAGES)
    train(method, 103, learning_rate=0.3)
    assert int(method.started) == -1
    assert len(method.bank) == 0


def test_automatic_gate__reads_nothing_until_it_opens():
    settings = config(**{**AUTOMATIC, "start_step": 0, "prefill": False})
    method = XBM(make_encoder(), settings, dataset_size=IMAGES)
    logs = [method(batch, step=step).logs for step, batch in enumerate(batches(4))]
    assert all(each["memory_loss"] == 0 and each["memory_age_limit"] == -1 for each in logs)
    assert len(method.bank) == 25
    train(method, 103)
    logs = method(next(batches(1)), step=103).logs
    assert logs["memory_loss"] > 0
    assert logs["memory_age_limit"] == method.gate.limit.clamp_max(103)


def test_automatic_gate__is_open_at_the_start_step_where_the_warm_up_was_measured():
    method = XBM(make_encoder(), config(**{**AUTOMATIC, "start_step": 102}), dataset_size=IMAGES)
    train(method, 103)
    assert method.gate.is_open
    assert method.bank.total_pushed == 30 + BATCH  # the memory began full, and read its first batch
    assert method.drift.by_age().count.sum() <= BATCH  # the tables are of the memory


@pytest.mark.parametrize("stop", [60, 101])
@pytest.mark.parametrize("correction", ["none", "sdc"])
def test_state_dict__automatic_runs_go_on_bit_for_bit(stop, correction):
    settings = config(capacity=0.5, correction=correction, **AUTOMATIC)
    straight = XBM(make_encoder(), settings, dataset_size=IMAGES)
    expected = train(straight, 110)
    first, second = (XBM(make_encoder(seed), settings, dataset_size=IMAGES) for seed in (0, 5))
    train(first, stop)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert train(second, 110, first=stop) == expected[stop:]
    torch.testing.assert_close(second.state_dict(), straight.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("loss", ["contrastive", "triplet", "multi-similarity"])
@pytest.mark.parametrize("correction", ["xbn", "axbn", "sdc"])
def test_correction__is_of_the_rows_that_the_loss_sees(loss, correction):
    settings = config(loss=loss, correction=correction, start_step=0, prefill=False)
    method = XBM(make_encoder(), settings, dataset_size=IMAGES)
    train(method, 12)
    batch = next(batches(1, seed=7))
    output = method(batch, step=12)
    rows = method.bank.ordered()
    corrected = normalize(method.correction(method.bank.view()), dim=1)
    assert not torch.allclose(corrected, method.bank.view().embeddings, atol=1e-3)
    memory = tb.Rows(corrected, "cosine", **method.bank.view().fields)
    fields = {"label": batch.labels, "id": batch.ids}
    expected = method.row_loss(method.encoder(batch.images), memory, fields)
    torch.testing.assert_close(output.logs["memory_loss"], expected.detach(), rtol=1e-4, atol=1e-5)
    assert rows.embeddings.shape == corrected.shape


def test_probes__are_compared_over_fixed_lags():
    method = XBM(make_encoder(), config(), dataset_size=IMAGES)
    images, labels = make_images()
    method.probe([Batch(images, labels, torch.arange(IMAGES))])
    logs = {}
    for step, batch in enumerate(batches(111)):
        output = method(batch, step=step)
        logs |= {(step, name): value for name, value in output.logs.items() if name.startswith("drift_")}
        method.encoder[1].bias.data += 0.01  # it drifts although it is not trained
    assert set(logs) == {(10, "drift_10"), (100, "drift_100"), (110, "drift_10")}
    assert 0 < logs[10, "drift_10"] < logs[100, "drift_100"]


def test_capacity__rows_or_share():
    assert XBM(make_encoder(), config(capacity=7), dataset_size=IMAGES).bank.capacity == 7
    assert XBM(make_encoder(), config(capacity=0.5), dataset_size=IMAGES).bank.capacity == 24
    assert XBM(make_encoder(), config(capacity=2.0), dataset_size=IMAGES).bank.capacity == 96


def test_autocast__trains_on_bfloat16_embeddings():
    method = XBM(make_encoder(), config(start_step=0), dataset_size=IMAGES)
    with torch.autocast("cpu", torch.bfloat16):
        output = method(next(batches(1)), step=0)
    assert output.loss.dtype == torch.float32
    output.loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in method.encoder.parameters())


@pytest.mark.plain
def test_compile__pushes_without_recompiling():
    method = XBM(make_encoder(), config(start_step=0, memory_normalize="active"), dataset_size=IMAGES)
    eager = copy.deepcopy(method)
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(method, backend="aot_eager", fullgraph=True)
    for step, batch in enumerate(batches(6)):
        loss, expected = compiled(batch, step=step).loss, eager(batch, step=step).loss
        loss.backward()
        expected.backward()
        torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(method.state_dict(), eager.state_dict())
    # The first step, and one graph for all others with the step as a symbol.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2


@pytest.mark.plain
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"capacity": 0}, "capacity is 0; expected a number above 0"),
        ({"dim": -1}, "dim is -1"),
        ({"start_step": -1}, "start_step is -1; expected 0 or more"),
        ({"max_age": -1}, "max_age is -1"),
        ({"memory_weight": -0.5}, "memory_weight is -0.5"),
        ({"memory_normalize": "pairs"}, "memory_normalize='pairs' is unknown"),
        ({"half_life": 0.0}, "half_life is 0.0; expected a number above 0"),
        ({"correction": "pca"}, "correction='pca' is unknown; choose one of 'none', 'xbn', 'axbn', 'sdc'"),
        ({"fidelity_floor": 1.0}, "expected a fidelity between -1"),
        ({"max_age": "auto", "monitor_drift": False}, "leave monitor_drift=True"),
        ({"correction": "sdc", "monitor_drift": False}, "leave monitor_drift=True"),
        ({"loss": "angular"}, "loss='angular' is unknown; choose one of 'contrastive', 'triplet', 'multi-similarity'"),
    ],
)
def test_config__bad_settings(changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        config(**changes)
    assert isinstance(raised.value, BankError)


@pytest.mark.plain
@pytest.mark.parametrize("changes", [{"capacity": 0.5, "monitor_drift": False}, {"monitor_drift": True}])
def test_dataset_size__is_asked_for_where_it_is_needed(changes):
    with pytest.raises(ValueError, match="dataset_size is needed"):
        XBM(make_encoder(), config(**changes))


@pytest.mark.plain
def test_dim__other_than_the_encoders_is_refused():
    method = XBM(make_encoder(), config(dim=5, start_step=0), dataset_size=IMAGES)
    with pytest.raises(ValueError, match=r"expected \(batch, 5\)"):
        method(next(batches(1)), step=0)


def test_build__by_name():
    method = build("xbm", make_encoder(), config(), dataset_size=IMAGES)
    assert isinstance(method, XBM)
    assert build("xbm", make_encoder(), dataset_size=IMAGES).config == XBMConfig()


@pytest.mark.plain
def test_build__unknown_name_or_foreign_config():
    with pytest.raises(KeyError, match="no method is called 'mocov9'; choose one of 'xbm'"):
        build("mocov9", make_encoder())
    with pytest.raises(TypeError, match="xbm was given a dict; expected a XBMConfig"):
        build("xbm", make_encoder(), {"dim": 3})
