"""The comparison of self-supervised methods and the trial of MaSSL's claims, on few images for few steps."""

import argparse
import json

import pytest
import torch

from benchmarks import documents, massl_claims, self_supervised, wordnet_text
from torchbank import data
from torchbank.errors import BankValueError

# Memories of the real size outlast so few images.
pytestmark = pytest.mark.filterwarnings("ignore:the bank holds:UserWarning")

TINY = argparse.Namespace(
    data=["kanji", "fashion-mnist"], methods=list(self_supervised.METHODS), seeds=[0], steps=2, batch=16, tiny=True
)


@pytest.fixture(scope="module")
def _fashion_mnist():
    try:
        data.load("fashion-mnist")
    except BankValueError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("_fashion_mnist")
@pytest.mark.parametrize("who", self_supervised.METHODS)
def test_comparison__every_method_has_every_score(who):
    job = next(job for job in self_supervised.jobs(TINY) if job.settings["who"] == who)
    record = {**job.settings, **self_supervised.work(job.settings)}
    json.dumps(record, allow_nan=False)
    missing = {measure.key for measure in self_supervised.MEASURES if record[measure.key] is None}
    # Halves of ten classes of ten images: one or ten per cent of five is none.
    assert missing == {"low_shot_1", "low_shot_10"}
    assert f"| {self_supervised.METHODS[who].title} |" in self_supervised.markdown([record])


def test_comparison__jobs_differ_and_cells_tell_the_spread():
    jobs = self_supervised.jobs(argparse.Namespace(**{**vars(TINY), "seeds": [0, 1]}))
    assert len({job.name for job in jobs}) == len(jobs) == 2 * 6 * 2
    runs = [
        {**job.settings, **{measure.key: 0.5 + job.settings["seed"] / 10 for measure in self_supervised.MEASURES}}
        for job in jobs
    ]
    assert "| MoCo v2, symmetric | 55.0 ± 7.1 |" in self_supervised.markdown(runs)


@pytest.mark.usefixtures("_fashion_mnist")
def test_claims__a_variant_of_each_kind_runs():
    *_, random_vectors = massl_claims.jobs(argparse.Namespace(seeds=[0], steps=2, batch=16, tiny=True))
    assert random_vectors.settings["config"]["memory"] == "random"
    record = {**random_vectors.settings, **massl_claims.work(random_vectors.settings)}
    assert 0 < record["kept_spread"] < 2
    assert "| 1 of 2 |" in massl_claims.markdown([{**record, "kept_spread": 0.9}, {**record, "kept_spread": 0.4}])


def test_claims__the_spread_is_the_distance_from_the_mean():
    assert massl_claims.spread(3 * torch.ones(5, 4)) == pytest.approx(0, abs=1e-6)
    assert massl_claims.spread(torch.cat([torch.eye(4), -2 * torch.eye(4)])) == pytest.approx(1)


def test_page__has_the_markers_of_every_table():
    page = documents.PAGE.read_text()
    for name in ("self-supervised", "massl-claims", "wordnet-text"):
        assert documents.filled(page, name, source="x.json", content="a table") != page


def test_text__the_table_names_both_sides():
    shared = {
        "seed": 0,
        "steps": 2,
        "batch": 8,
        "pairs": 100,
        "minutes": 0.5,
        **dict.fromkeys(wordnet_text.MEASURES, 0.25),
    }
    table = wordnet_text.markdown([{**shared, "who": who} for who in wordnet_text.SIDES])
    assert all(f"| {who} | 25.0 |" in table for who in wordnet_text.SIDES)
