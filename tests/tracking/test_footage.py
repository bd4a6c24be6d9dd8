"""Boxes, track ids and embeddings from files and from a video."""

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from small_video import FRAMES, colors_of_lines, mot_lines, write_everything
from torchbank.errors import BankKeyError, BankTypeError, BankValueError, FileFormatError
from torchbank.tracking import ByteTrack, build_detector, build_embedder, observe, read_detections
from torchbank.tracking._embedders import cut_crops

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return write_everything(tmp_path_factory.mktemp("footage"))


def test_read_detections__any_order_and_any_file_of_embeddings(place, tmp_path):
    expected = read_detections(place / "boxes.txt", place / "colors.npy")
    assert (expected.length, len(expected.frames)) == (FRAMES, len(mot_lines()))
    order = np.random.default_rng(0).permutation(len(mot_lines()))
    (tmp_path / "boxes.txt").write_text("".join(mot_lines()[row] for row in order))
    np.savez(tmp_path / "colors.npz", embeddings=colors_of_lines()[order], other=np.zeros(2))
    save_file({"anything": colors_of_lines()[order]}, tmp_path / "colors.safetensors")
    for name in ("colors.npz", "colors.safetensors"):
        footage = read_detections(tmp_path / "boxes.txt", tmp_path / name)
        assert np.array_equal(footage.frames, expected.frames)
        for frame in (1, 40, 90):
            rows, others = footage.of_frame(frame), expected.of_frame(frame)
            pairs = zip(footage.boxes[rows].tolist(), footage.embeddings[rows].tolist(), strict=True)
            assert sorted(pairs) == sorted(
                zip(expected.boxes[others].tolist(), expected.embeddings[others].tolist(), strict=True)
            )


def test_read_detections__without_embeddings_there_is_no_evidence(place):
    assert np.isnan(read_detections(place / "boxes.txt").embeddings).all()


@pytest.mark.plain
@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", FileFormatError, "has no line"),
        ("1,2,3\n", FileFormatError, "line 1"),
        ("0,1,5,5,10,10,1\n", BankValueError, "line 1: frame 0; expected frames from 1 on"),
        ("1,1,5,5,10,10,1\n1,2,5,5,0,10,1\n", BankValueError, "line 2: the box has no area"),
        ("1,1,5,5,inf,10,1\n", BankValueError, "line 1: the box has no area"),
        ("1,7,5,5,9,9,1\n2,7,5,5,9,9,1\n1,7,50,5,9,9,1\n", BankValueError, "line 3: track 7 is twice in frame 1"),
    ],
)
def test_read_detections__refuses(tmp_path, text, error, message):
    (tmp_path / "boxes.txt").write_text(text)
    with pytest.raises(error, match=message):
        read_detections(tmp_path / "boxes.txt")


@pytest.mark.plain
@pytest.mark.parametrize(
    ("write", "error", "message"),
    [
        (lambda path: np.save(path, np.zeros((3, 2))), BankValueError, "has 3 rows and .* 140 lines"),
        (lambda path: np.save(path, np.zeros((140, 2), int)), BankTypeError, r"int64 of shape \(140, 2\)"),
        (lambda path: np.save(path, np.zeros(140)), BankTypeError, r"of shape \(140,\)"),
        (lambda path: path.write_text("text"), FileFormatError, "truncated or not a .npy file"),
        (lambda path: np.save(path, np.array([{}])), FileFormatError, "truncated or not a .npy file"),
    ],
)
def test_read_detections__refuses_embeddings(place, tmp_path, write, error, message):
    write(tmp_path / "colors.npy")
    with pytest.raises(error, match=message):
        read_detections(place / "boxes.txt", tmp_path / "colors.npy")


def test_observe__embeds_the_boxes_of_a_video_and_tracks_them(place):
    told = []
    footage = observe(
        video=place / "small.mp4",
        detections=read_detections(place / "boxes.txt"),
        detector=None,
        embedder=build_embedder(f"torchscript:{place / 'color.pt'}"),
        tracker=ByteTrack(buffer=10),
        on_frame=lambda *numbers: told.append(numbers),
    )
    assert told == [(frame, FRAMES) for frame in range(1, FRAMES + 1)]
    assert footage.embeddings.shape == (len(mot_lines()), 3)
    # Red, blue, and red again under a new id.
    colors = colors_of_lines().argmax(axis=1)
    assert np.array_equal(footage.embeddings.argmax(axis=1), colors)
    assert sorted({(int(i), int(c)) for i, c in zip(footage.track_ids, colors, strict=True)}) == [
        (1, 0),
        (2, 2),
        (3, 0),
    ]


def test_observe__keeps_what_was_seen_before_ctrl_c(place):
    def stop(frame, _):
        if frame == 20:
            raise KeyboardInterrupt

    detections = read_detections(place / "boxes.txt", place / "colors.npy")
    footage = observe(
        video=None, detections=detections, detector=None, embedder=None, tracker=ByteTrack(), on_frame=stop
    )
    assert footage.length == 20
    assert footage.frames.max() == 20


def test_observe__keeps_track_ids_that_are_there(place, tmp_path):
    (tmp_path / "tracked.txt").write_text("".join(mot_lines(lambda frame, color: 100 + (color[0] > 100))))
    footage = observe(
        video=None,
        detections=read_detections(tmp_path / "tracked.txt", place / "colors.npy"),
        detector=None,
        embedder=None,
        tracker=ByteTrack(),
    )
    assert set(footage.track_ids.tolist()) == {100, 101}


@pytest.mark.plain
def test_observe__refuses_boxes_of_another_video(place, tmp_path):
    (tmp_path / "boxes.txt").write_text("1,1,5,5,10,10,1\n2,1,170,5,10,10,1\n")
    with pytest.raises(BankValueError, match="of frame 2 lies outside the picture of 160 x 120 pixels"):
        observe(
            video=place / "small.mp4",
            detections=read_detections(tmp_path / "boxes.txt"),
            detector=None,
            embedder=None,
            tracker=ByteTrack(),
        )


def test_crops__are_cut_at_the_border_and_missing_outside():
    image = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    boxes = np.array([[-5.0, -5.0, 4.0, 3.0], [25.0, 10.0, 99.0, 99.0], [40.0, 0.0, 50.0, 9.0], [np.nan] * 4])
    first, second, *outside = cut_crops(image, boxes)
    assert np.array_equal(first, image[:3, :4])
    assert np.array_equal(second, image[10:, 25:])
    assert outside == [None, None]


def test_embedder__a_box_outside_the_picture_is_no_evidence(place):
    embedder = build_embedder(f"torchscript:{place / 'color.pt'}")
    image = np.full((50, 50, 3), 255, np.uint8)
    rows = embedder(image, np.array([[60.0, 0.0, 70.0, 9.0], [0.0, 0.0, 9.0, 9.0]]))
    assert np.isnan(rows[0]).all()
    # White, scaled by the statistics of ImageNet.
    np.testing.assert_allclose(rows[1], (1 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225], rtol=1e-5)
    assert embedder.fingerprint.startswith("color.pt@")


@pytest.mark.plain
def test_names__of_embedders_and_detectors(tmp_path):
    with pytest.raises(BankKeyError, match="unknown embedder 'osnet'; expected one of torchscript:FILE"):
        build_embedder("osnet")
    with pytest.raises(BankKeyError, match="unknown detector 'yolo'; expected ultralytics:MODEL"):
        build_detector("yolo")
    with pytest.raises(BankValueError, match="no TorchScript file"):
        build_embedder(f"torchscript:{tmp_path}/none.pt")
    torch.jit.script(torch.nn.Flatten(0)).save(str(tmp_path / "flat.pt"))
    with pytest.raises(BankValueError, match=r"for 1 crops; expected \(1, dim\)"):
        build_embedder(f"torchscript:{tmp_path}/flat.pt")(np.zeros((9, 9, 3), np.uint8), np.array([[0.0, 0, 9, 9]]))
