"""`torchbank evaluate` on a run of kanji-like classes that were never seen, and its refusals."""

import json

import pytest

from torchbank.training import RunFolder

_TINY = (
    *("--data", "folder", "--image-size", "12", "--steps", "3", "--classes-per-batch", "4", "--dim", "8"),
    *("--memory-normalize", "active", "--evaluate-every", "0", "--device", "cpu"),
)


@pytest.fixture(scope="module")
def trained(torchbank, photos, tmp_path_factory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "trained")
    done = torchbank("train", "xbm", "--root", photos, "--run", folder.path, *_TINY)
    assert done.code == 0, done.err
    return folder


def test_evaluate__every_protocol_says_what_it_depends_on(torchbank, trained, photos):
    done = torchbank(
        *("evaluate", trained.path, "--protocol", "knn", "linear", "lowshot", "transfer", "retrieval"),
        *("--ks", "1", "5", "--seed", "3", "--to", "folder", "--to-root", photos),
    )
    assert done.code == 0, done.err
    for word in ("features of dim 8", "k 1, T 0.07", "k 5, T 0.07", "weight decay", "transfer to folder, k-NN", "mAP"):
        assert word in done.out
    assert "half of each class (seed 3) is labelled" in done.out
    assert "low-shot 1% of photos is less than one image a class" in done.out
    result = json.loads(trained.evaluation.read_bytes())
    assert result["dim"] == 8
    by_protocol = {score["protocol"]: score for score in result["scores"]}
    assert by_protocol.keys() == {
        "k-NN",
        "linear",
        "retrieval",
        "transfer to folder, k-NN",
        "transfer to folder, linear",
    }
    images = RunFolder(trained.path).read_summary()["data"]["test"]["images"]
    knn = by_protocol["k-NN"]
    assert knn["train_rows"] + knn["test_rows"] == images
    assert f"{knn['value']:.1%}" in done.out


def test_evaluate__features_are_kept(torchbank, trained):
    torchbank("evaluate", trained.path)
    (file,) = (path for path in trained.features.iterdir() if path.name == "photos-test-0.safetensors")
    written = file.stat().st_mtime_ns
    first = trained.evaluation.read_bytes()
    assert torchbank("evaluate", trained.path).code == 0
    assert file.stat().st_mtime_ns == written
    file.write_bytes(b"damaged")
    assert torchbank("evaluate", trained.path).code == 0
    assert file.stat().st_size > 100
    assert trained.evaluation.read_bytes() == first


@pytest.mark.plain
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--protocol", "transfer"), "give --protocol transfer and --to NAME together"),
        (("--to", "kanji"), "give --protocol transfer and --to NAME together"),
        (("--protocol", "transfer", "--to", "nothing"), "unknown data set 'nothing'"),
        (("--protocol", "transfer", "--to", "kanji"), "3 channels"),
        (("--protocol", "knn"), "expected neighbours from 1 to"),
        (("--protocol", "best"), "protocol"),
    ],
)
def test_evaluate__refuses(torchbank, trained, words, message):
    done = torchbank("evaluate", trained.path, *words)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
