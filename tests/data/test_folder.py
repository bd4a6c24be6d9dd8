"""Image folders: real files of many kinds, the class split, and one clear line for each mistake."""

import traceback

import numpy as np
import pytest
import torch
from PIL import Image

from torchbank import data
from torchbank.data import UnreadableImageError
from torchbank.errors import BankError, BankValueError, FileFormatError


def write(path, size=(8, 8), color=(200, 100, 50), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)


@pytest.fixture
def root(tmp_path):
    """Six classes of two or three images, written out of order."""
    for name in ("pear", "apple", "fig", "lime", "kiwi", "plum"):
        for number in range(3 if name == "fig" else 2):
            write(tmp_path / "fruit" / name / f"{number}.png", color=(len(name) * 10, number, 0))
    return tmp_path / "fruit"


def load(root, **options):
    return data.load("folder", root=root, **({"image_size": 8} | options))


def test_folder__labels_follow_sorted_names_and_parts_share_no_class(root):
    train, test = load(root)
    assert train.class_names == test.class_names == ("apple", "fig", "kiwi", "lime", "pear", "plum")
    assert set(train.labels.tolist()) | set(test.labels.tolist()) == set(range(6))
    assert set(train.labels.tolist()).isdisjoint(test.labels.tolist())
    assert train.name == "fruit"
    for part in (train, test):
        for row, path in enumerate(part.paths):
            assert part.class_names[part[row][1]] == path.parent.name
            assert part[row][2] == row
            assert torch.equal(
                part[row][0][:, 0, 0] * 255, torch.tensor(Image.open(root / path).getpixel((0, 0))).float()
            )


def test_folder__seed_and_fraction_choose_the_classes(root):
    def test_classes(**options):
        return frozenset(load(root, **options).test.labels.tolist())

    assert test_classes(seed=3) == test_classes(seed=3)
    assert len({test_classes(seed=seed) for seed in range(10)}) > 1
    assert len(test_classes(test_fraction=1 / 3)) == 2
    assert len(test_classes(test_fraction=0.7)) == 4


def test_folder__parts_may_be_given(tmp_path):
    for part, names in (("train", ("apple", "fig")), ("test", ("fig", "kiwi"))):
        for name in names:
            for number in range(2):
                write(tmp_path / part / name / f"{number}.png", color=(ord(part[1]), ord(name[0]), number))
    split = load(tmp_path)
    assert split.train.class_names == split.test.class_names == ("apple", "fig", "kiwi")
    assert (split.train.labels.tolist(), split.test.labels.tolist()) == ([0, 0, 1, 1], [1, 1, 2, 2])
    # Nothing trained on is a kiwi.
    assert not split.shares_classes
    assert data.Split(split.train, split.train).shares_classes
    assert (split.test.image(2)[:, 0, 0] * 255).tolist() == [ord("e"), ord("k"), 0]
    assert split.train.fingerprint != split.test.fingerprint


def test_folder__classes_named_train_and_test_are_classes(tmp_path):
    for name in ("train", "test", "bus", "tram"):
        for number in range(2):
            write(tmp_path / name / f"{number}.png")
    split = load(tmp_path)
    assert split.train.class_names == ("bus", "test", "train", "tram")
    assert not split.shares_classes


def test_folder__every_mode_becomes_three_channels(tmp_path):
    files = {"grey.png": ("L", 128), "alpha.png": ("RGBA", (10, 20, 30, 40)), "two.gif": ("P", 1), "bit.bmp": ("1", 1)}
    files |= {"photo.jpg": ("RGB", (10, 20, 30)), "sixteen.png": ("I;16", 60_000), "print.tif": ("CMYK", (0, 0, 0, 0))}
    for label in "abcd":
        for name, (mode, color) in files.items():
            write(tmp_path / label / name, mode=mode, color=color)
    train = load(tmp_path).train
    images = train.images(torch.arange(len(train)))
    assert images.shape == (14, 3, 8, 8)
    assert images.dtype == torch.float32
    assert images.is_contiguous()
    assert 0 <= images.min() <= images.max() <= 1
    grey = [path.name for path in train.paths].index("grey.png")
    assert torch.equal(images[grey], torch.full((3, 8, 8), 128 / 255))
    sixteen = [path.name for path in train.paths].index("sixteen.png")
    assert images[sixteen].mean() == pytest.approx(60_000 / 65_535, abs=0.01)


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (21, 64), (300, 20), (20, 20)])
def test_folder__the_middle_square_is_scaled(tmp_path, size):
    # Left and right (or top and bottom) of the middle square are black, so that only it is white.
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    side = min(size)
    top, left = (size[1] - side) // 2, (size[0] - side) // 2
    pixels[top : top + side, left : left + side] = 255
    for label in "abcd":
        (tmp_path / label).mkdir()
        for number in range(2):
            Image.fromarray(pixels).save(tmp_path / label / f"{number}.png")
    image = load(tmp_path, image_size=10).train.image(0)
    assert image.shape == (3, 10, 10)
    assert image[:, 1:-1, 1:-1].min() == 1
    assert image.mean() > 0.95


def test_folder__turns_photographs_upright(tmp_path):
    image = Image.new("RGB", (8, 8))
    image.paste((255, 255, 255), (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 3  # rotated by half a turn
    for label in "abcd":
        (tmp_path / label).mkdir()
        for number in range(2):
            image.save(tmp_path / label / f"{number}.png", exif=exif)
    upright = load(tmp_path).train.image(0)
    assert upright[:, :4].max() == 0
    assert upright[:, 4:].min() == 1


def test_folder__passes_over_other_files_and_hidden_ones(root):
    before = load(root)
    (root / "README.txt").write_text("about")
    (root / "apple" / "labels.csv").write_text("0,1")
    (root / "apple" / "._0.png").write_bytes(b"a shadow of macOS")
    (root / ".cache").mkdir()
    (root / ".cache" / "x.png").write_bytes(b"")
    write(root / "apple" / "more" / "9.png")
    after = load(root)
    assert [part.paths for part in after] == [part.paths for part in before]


def test_folder__fingerprint_follows_paths_and_sizes(root):
    first = load(root)
    assert load(root).train.fingerprint == first.train.fingerprint
    assert first.train.fingerprint != first.test.fingerprint
    assert load(root, image_size=9).train.fingerprint != first.train.fingerprint
    changed = root / first.train.paths[0]
    changed.write_bytes(changed.read_bytes() + b" ")
    assert load(root).train.fingerprint != first.train.fingerprint
    assert load(root).test.fingerprint == first.test.fingerprint


def test_folder__fingerprint_does_not_depend_on_where_it_lies(root, tmp_path):
    fingerprint = load(root).train.fingerprint
    root.rename(tmp_path / "moved")
    assert load(tmp_path / "moved").train.fingerprint == fingerprint


def truncated_png():
    return _bytes_of("PNG", (64, 64))[:90]


def truncated_jpeg():
    return _bytes_of("JPEG", (64, 64))[:-200]


def _bytes_of(kind, size):
    import io

    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"no image at all", truncated_png(), truncated_jpeg()],
    ids=["empty", "text", "cut-png", "cut-jpeg"],
)
@pytest.mark.parametrize("num_workers", [0, 1])
def test_folder__an_unreadable_image_is_one_line_that_names_the_file(root, content, num_workers):
    train = load(root).train
    broken = root / train.paths[1]
    broken.write_bytes(content)
    error, message = error_of(data.loader(train, batch_size=4, num_workers=num_workers))
    assert message.startswith(f"cannot read image {str(broken)!r} (")
    assert message.endswith("expected a whole image file: replace or remove it")
    assert "\n" not in message
    assert error is UnreadableImageError
    assert issubclass(error, FileFormatError)


def error_of(loader):
    try:
        list(loader)
    except BankError as error:
        # PyTorch raises what a worker raised from a frame that holds the error: a reference cycle around the iterator.
        # The collector may close the pipes to the workers first, and then stopping them takes five seconds.
        traceback.clear_frames(error.__traceback__)
        return type(error), str(error)
    return None, ""


def test_folder__an_image_that_vanished_is_named(root):
    train = load(root).train
    (root / train.paths[0]).unlink()
    with pytest.raises(UnreadableImageError, match="No such file or directory"):
        train[0]


def test_folder__lone_classes(root):
    for extra in (root / "apple").glob("1.png"):
        extra.unlink()
    (root / "empty").mkdir()
    with pytest.raises(BankValueError, match=r"2 of 7 classes in .* fewer than two images \(apple, empty\)"):
        load(root)
    dropped = load(root, lone_classes="drop")
    assert dropped.train.class_names == ("fig", "kiwi", "lime", "pear", "plum")
    kept = load(root, lone_classes="keep")
    assert kept.train.class_names == ("apple", "fig", "kiwi", "lime", "pear", "plum")


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root": "no/such/folder"}, "no folder at 'no/such/folder'; expected one folder a class"),
        ({"root": __file__}, "a file, not a folder, lies at"),
        ({"image_size": 0}, "image_size is 0"),
        ({"test_fraction": 0.0}, "test_fraction is 0.0"),
        ({"test_fraction": 1.0}, "test_fraction is 1.0"),
        ({"test_fraction": float("nan")}, "test_fraction is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"test_fraction": 0.1}, "leaves 5 to train and 1 to test; expected two or more of each"),
        ({"test_fraction": 0.9}, "leaves 1 to train and 5 to test"),
        ({"lone_classes": "ignore"}, "lone_classes is 'ignore'"),
    ],
)
def test_folder__refuses(root, options, message):
    with pytest.raises(BankValueError, match=message):
        load(**({"root": root} | options))


@pytest.mark.plain
def test_folder__refuses_a_folder_without_images(tmp_path):
    with pytest.raises(BankValueError, match=r"no images in .* \(0 folders\)"):
        load(tmp_path)
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "notes.txt").write_text("")
    with pytest.raises(BankValueError, match=r"no images in .* expected <class>/<image> with a suffix of .*\.png"):
        load(tmp_path)
