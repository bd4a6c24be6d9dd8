"""Published data sets in their official layouts, small: parts, protocols, counts, and which file is wrong."""

from collections import Counter

import pytest
import torch
from PIL import Image

from published_layouts import (
    KANJI,
    rows_of,
    write_cars,
    write_cub,
    write_image,
    write_in_shop,
    write_sop,
    write_vehicle_id,
)
from torchbank import data
from torchbank.data import Count, QueryGallery, RandomGallery, SelfRetrieval
from torchbank.errors import BankError, BankKeyError, BankValueError, FileFormatError


def load(name, root, **options):
    return data.load(name, root=root, **({"image_size": 8, "counts": None} | options))


def counts(images, classes, *parts):
    return {part: Count(images, classes) for part in parts}


def test_sop__parts_kinds_and_protocol(tmp_path):
    train, test = load("sop", write_sop(tmp_path), counts={"train": Count(24, 6), "test": Count(20, 5)})
    assert (len(train), len(test)) == (24, 20)
    assert train.name == test.name == "sop"
    assert set(train.labels.tolist()).isdisjoint(test.labels.tolist())
    assert [train.class_names[label] for label in train.labels[::4].tolist()] == ["1", "2", "3", "4", "5", "6"]
    assert test.protocol == SelfRetrieval(ks=(1, 10, 100, 1_000))
    assert test.super_class_names == ("bicycle", "kettle")
    assert test.super_classes[::4].tolist() == [1, 0, 1, 0, 1]
    assert not data.Split(train, test).shares_classes


def test_sop__is_found_in_the_folder_around_it(tmp_path):
    write_sop(tmp_path / "Stanford_Online_Products")
    assert (
        load("sop", tmp_path).train.fingerprint == load("sop", tmp_path / "Stanford_Online_Products").train.fingerprint
    )


def test_sop__training_images_are_whole_and_test_images_the_middle(tmp_path):
    write_sop(tmp_path)
    for list_file in ("Ebay_train.txt", "Ebay_test.txt"):
        path = (tmp_path / list_file).read_text().splitlines()[1].split()[-1]
        image = Image.new("RGB", (256, 256), (255, 255, 255))
        image.paste((0, 0, 0), (16, 16, 240, 240))
        image.save(tmp_path / path, format="png")
    train, test = load("sop", tmp_path, image_size=64)
    assert train.image(0)[:, 0, 0].tolist() == [1, 1, 1]
    # Of 256 pixels the middle 224 are seen, smoothed a little over their edge.
    assert test.image(0)[:, 1:-1, 1:-1].max() == 0
    assert test.image(0).max() < 0.3


def test_in_shop__queries_and_their_gallery(tmp_path):
    root = write_in_shop(tmp_path)
    official = {"train": Count(21, 6), "query": Count(5, 5), "gallery": Count(15, 5)}
    train, test = load("inshop", root, counts=official)
    assert isinstance(test.protocol, QueryGallery)
    assert test.protocol.ks == (1, 10, 20, 30, 40, 50)
    assert test.protocol.is_query.tolist() == [True] * 5 + [False] * 15
    assert [path.name[:2] for path in test.paths[:6]] == ["01"] * 5 + ["02"]
    # A training class of one image stays.
    assert Counter(train.labels.tolist()) == {0: 1, 1: 4, 2: 4, 3: 4, 4: 4, 5: 4}
    assert test.super_class_names == ("MEN/Pants", "WOMEN/Dresses")
    assert test.class_names[test.labels[0]] == "id_00000007"
    assert test.class_names == train.class_names


def test_in_shop__images_may_lie_in_img(tmp_path):
    write_in_shop(tmp_path)
    fingerprint = load("inshop", tmp_path).test.fingerprint
    (tmp_path / "Img").mkdir()
    (tmp_path / "img").rename(tmp_path / "Img" / "img")
    assert load("inshop", tmp_path).test.fingerprint == fingerprint


@pytest.mark.parametrize(("test_list", "vehicles"), [("small", 2), ("medium", 3), ("large", 4)])
def test_vehicle_id__test_lists(tmp_path, test_list, vehicles):
    root = write_vehicle_id(tmp_path)
    official = {"train": Count(24, 6), test_list: Count(4 * vehicles, vehicles)}
    train, test = load("vehicleid", root, test_list=test_list, counts=official)
    assert (len(train), len(test)) == (24, 4 * vehicles)
    assert test.protocol == SelfRetrieval(ks=(1, 5))
    again = load("vehicleid", root, test_list=test_list, gallery="one-each").test
    assert again.protocol == RandomGallery(ks=(1, 5), draws=10)


def test_cub__half_of_the_classes_trains(tmp_path):
    train, test = load("cub", write_cub(tmp_path), counts=counts(9, 3, "train", "test"))
    assert train.class_names == tuple(f"{label:03d}.Bird_{label}" for label in range(1, 7))
    assert (sorted(set(train.labels.tolist())), sorted(set(test.labels.tolist()))) == ([0, 1, 2], [3, 4, 5])
    assert test.protocol == SelfRetrieval(ks=(1, 2, 4, 8))


@pytest.mark.parametrize("kit", [False, True])
def test_cars__half_of_the_classes_trains(tmp_path, kit):
    train, test = load("cars", write_cars(tmp_path, kit=kit), counts=counts(9, 3, "train", "test"))
    assert train.class_names == tuple(f"Car {label} Coupe 2012" for label in range(1, 7))
    assert (sorted(set(train.labels.tolist())), sorted(set(test.labels.tolist()))) == ([0, 1, 2], [3, 4, 5])
    assert test.protocol == SelfRetrieval(ks=(1, 2, 4, 8))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("sop", write_sop),
        ("inshop", write_in_shop),
        ("vehicleid", write_vehicle_id),
        ("cub", write_cub),
        ("cars", write_cars),
        ("cars", lambda root: write_cars(root, kit=True)),
    ],
)
def test_published__each_image_has_its_label(tmp_path, name, write):
    # An image is recognised by its pixels: as that of the row of kanji that was written.
    for label in range(1, 12):
        for row in rows_of(label, 4):
            write_image(tmp_path / "known" / f"{label}" / f"{row}.jpg", row)
    for part in load(name, write(tmp_path / "set"), image_size=32):
        seen = {}
        for row in range(len(part)):
            bytes_of = (part.root / part.paths[row]).read_bytes()
            (known,) = [path for path in (tmp_path / "known").rglob("*.jpg") if path.read_bytes() == bytes_of]
            seen.setdefault(int(part.labels[row]), set()).add(known.parent.name)
        assert all(len(names) == 1 for names in seen.values())
        assert len(set.union(*seen.values())) == len(seen)
        assert part.images(torch.arange(2)).shape == (2, 3, 32, 32)
        assert KANJI.image_shape == (1, 32, 32)


def test_published__fingerprint_follows_the_labels(tmp_path):
    before = load("cub", write_cub(tmp_path)).train.fingerprint
    path = tmp_path / "images.txt"
    path.write_text(path.read_text().replace("001.Bird_1/", "002.Bird_2/"))
    (tmp_path / "images" / "001.Bird_1").rename(tmp_path / "moved")
    for image in (tmp_path / "moved").iterdir():
        image.rename(tmp_path / "images" / "002.Bird_2" / image.name)
    assert load("cub", tmp_path).train.fingerprint != before


def shorten(path, lines=1):
    path.write_text("\n".join(path.read_text().splitlines()[:-lines]) + "\n")


@pytest.mark.plain
@pytest.mark.parametrize(
    ("name", "write", "wrong", "message"),
    [
        ("sop", write_sop, "Ebay_test.txt", r"Ebay_test.txt' lists 16 images of 4 classes \(test\); expected 20 of 5"),
        ("sop", write_sop, "Ebay_train.txt", r"Ebay_train.txt' lists 20 images of 5 classes \(train\)"),
        (
            "vehicleid",
            write_vehicle_id,
            "train_test_split/test_list_800.txt",
            r"test_list_800.txt' lists 4 images of 1",
        ),
        ("vehicleid", write_vehicle_id, "train_test_split/train_list.txt", r"train_list.txt' lists 20 images of 5"),
        ("inshop", write_in_shop, "Eval/list_eval_partition.txt", "begins with '41' and has 37 rows"),
        ("cub", write_cub, "images.txt", "images.txt has 14 images and image_class_labels.txt 18"),
        ("cub", write_cub, "image_class_labels.txt", "images.txt has 18 images and image_class_labels.txt 14"),
    ],
)
def test_published__says_which_list_is_wrong(tmp_path, name, write, wrong, message):
    root = write(tmp_path)
    whole = {
        "sop": {"train": Count(24, 6), "test": Count(20, 5)},
        "vehicleid": {"train": Count(24, 6), "small": Count(8, 2)},
    }
    load(name, root, counts=whole.get(name))
    shorten(root / wrong, lines=4)
    with pytest.raises(BankError, match=message) as error:
        load(name, root, counts=whole.get(name))
    assert "again" in str(error.value)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("sop", write_sop, r"Ebay_train.txt' lists 24 images of 6 classes \(train\); expected 59,551 of 11,318"),
        ("inshop", write_in_shop, r"lists 21 images of 6 classes \(train\); expected 25,882 of 3,997"),
        ("vehicleid", write_vehicle_id, r"train_list.txt' lists .*; expected 113,346 of 13,164"),
        ("cub", write_cub, r"image_class_labels.txt' lists .*; expected 5,864 of 100"),
        ("cars", write_cars, r"cars_annos.mat' lists .*; expected 8,054 of 98"),
    ],
)
def test_published__counts_are_the_official_ones_by_default(tmp_path, name, write, message):
    with pytest.raises(BankValueError, match=message):
        data.load(name, root=write(tmp_path))


def test_counts__add_up_to_what_is_published():
    totals = {
        "sop": sum(count.images for count in data.SOP_COUNTS.values()),
        "inshop": sum(count.images for count in data.IN_SHOP_COUNTS.values()),
        "cub": sum(count.images for count in data.CUB_COUNTS.values()),
        "cars": sum(count.images for count in data.CARS_COUNTS.values()),
    }
    assert totals == {"sop": 120_053, "inshop": 52_712, "cub": 11_788, "cars": 16_185}
    assert data.IN_SHOP_COUNTS["train"].classes + data.IN_SHOP_COUNTS["query"].classes == 7_982


@pytest.mark.plain
@pytest.mark.parametrize(
    ("name", "write", "missing"),
    [
        ("sop", write_sop, "bicycle_final/111002_0.JPG"),
        ("inshop", write_in_shop, "img/WOMEN/Dresses/id_00000002/01_1_front.jpg"),
        ("vehicleid", write_vehicle_id, "image/0000010.jpg"),
        ("cub", write_cub, "images/001.Bird_1/Bird_1_0000.jpg"),
        ("cars", write_cars, "car_ims/000001.jpg"),
    ],
)
def test_published__says_which_image_is_missing(tmp_path, name, write, missing):
    root = write(tmp_path)
    (root / missing).unlink()
    with pytest.raises(BankValueError, match=rf"1 of \d+ images that .* lists are not in .*{missing.split('/')[-1]}"):
        load(name, root)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("file", "content", "error", "message"),
    [
        ("Ebay_train.txt", None, BankValueError, "no Ebay_train.txt in"),
        ("Ebay_test.txt", None, BankValueError, "no Ebay_test.txt in"),
        ("Ebay_test.txt", b"", BankValueError, "lists no image to test"),
        ("Ebay_test.txt", b"head\n1 2 3\n", FileFormatError, "line 2 of .* is '1 2 3'; expected image_id class_id"),
        ("Ebay_test.txt", b"head\n\xff\n", FileFormatError, "is no text"),
    ],
)
def test_sop__refuses(tmp_path, file, content, error, message):
    root = write_sop(tmp_path)
    (root / file).unlink() if content is None else (root / file).write_bytes(content)
    with pytest.raises(error, match=message):
        load("sop", root)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("41", "forty", "begins with 'forty'"), ("query", "probe", "in 'probe'; expected one of")],
)
def test_in_shop__refuses(tmp_path, old, new, message):
    path = write_in_shop(tmp_path) / "Eval" / "list_eval_partition.txt"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(FileFormatError, match=message):
        load("inshop", tmp_path)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("content", "message"), [(b"", "cannot read"), (b"MATLAB 5.0", "cannot read"), (None, "no devkit/cars_meta.mat")]
)
def test_cars__refuses(tmp_path, content, message):
    path = write_cars(tmp_path) / "cars_annos.mat"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(BankError, match=message):
        load("cars", tmp_path)


@pytest.mark.plain
def test_cars__refuses_a_file_cut_short(tmp_path):
    path = write_cars(tmp_path) / "cars_annos.mat"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FileFormatError, match=r"cannot read .*cars_annos.mat"):
        load("cars", tmp_path)


@pytest.mark.plain
def test_cub__refuses_a_class_that_is_no_number(tmp_path):
    path = write_cub(tmp_path) / "image_class_labels.txt"
    path.write_text(path.read_text().replace("1 1\n", "1 one\n", 1))
    with pytest.raises(FileFormatError, match="has the class 'one'"):
        load("cub", tmp_path)


@pytest.mark.plain
def test_published__refuses_options(tmp_path):
    with pytest.raises(BankValueError, match="image_size is 0"):
        load("cub", write_cub(tmp_path / "cub"), image_size=0)
    with pytest.raises(BankValueError, match="test_list='tiny' is unknown"):
        load("vehicleid", write_vehicle_id(tmp_path / "vehicles"), test_list="tiny")
    with pytest.raises(BankKeyError, match="unknown data set 'birds'"):
        load("birds", tmp_path)
