"""A folder of real videos, encoded once: times, resuming, changes, and damaged files."""

import numpy as np
import pytest
import torch

from small_video import MeanColor
from torchbank import video
from torchbank.data import VideoWriter, read_video
from torchbank.errors import BankFileNotFoundError, BankTypeError, BankValueError, FileFormatError

FPS, SIDE = 10, 32


def write(path, seconds, color):
    with VideoWriter(path, fps=FPS, width=SIDE, height=SIDE) as writer:
        for frame in range(round(seconds * FPS)):
            writer.write(np.full((SIDE, SIDE, 3), (color, 2 * frame, 100), dtype=np.uint8))


class Counting(MeanColor):
    """Counts what it was given."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def forward(self, frames):
        self.seen += len(frames)
        return frames.flatten(2).mean(dim=2)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "films"
    (folder / "more").mkdir(parents=True)
    write(folder / "a.mp4", 3.0, 20)
    write(folder / "more" / "b.mp4", 1.2, 200)
    (folder / "notes.txt").write_text("not a video")
    return folder


def test_bank__holds_a_feature_of_every_second(folder, tmp_path):
    bank = video.build_feature_bank(folder, Counting(), tmp_path / "bank.safetensors")
    assert bank.videos == ["a.mp4", "more/b.mp4"]
    assert bank.times.tolist() == [0, 1, 2, 0, 1]
    frames = list(read_video(folder / "a.mp4"))
    expected = torch.stack([torch.from_numpy(frames[at]).float().mean(dim=(0, 1)) / 255 for at in (0, 10, 20)])
    torch.testing.assert_close(bank.features[bank.rows_of("a.mp4")], expected)
    assert bank.window(["more/b.mp4"], 0.5).valid.sum() == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank.safetensors", "films"]


def test_bank__of_clips_ends_with_the_moment(folder, tmp_path):
    shapes = []

    class Clips(torch.nn.Module):
        def forward(self, clips):
            shapes.append(clips.shape)
            return clips[:, 1].mean(dim=(2, 3)) * 255 / 2

    bank = video.build_feature_bank(folder, Clips(), tmp_path / "bank", every=0.5, clip=3, size=(8, 16), batch_size=4)
    assert shapes[0] == (4, 3, 3, 8, 16)
    # The green of a frame tells its number, as far as compression leaves it; before the first there is none.
    rows = bank.features[bank.rows_of("a.mp4")]
    torch.testing.assert_close(rows[:2], torch.tensor([[0.0, 0, 0], [3, 4, 5]]), atol=1.5, rtol=0)


def test_bank__encodes_what_is_new_or_changed(folder, tmp_path):
    path, encoder = tmp_path / "bank.safetensors", Counting()
    video.build_feature_bank(folder, encoder, path)
    assert encoder.seen == 5
    video.build_feature_bank(folder, encoder, path)
    assert encoder.seen == 5
    write(folder / "c.mp4", 2.0, 90)
    bank = video.build_feature_bank(folder, encoder, path)
    assert encoder.seen == 7
    assert bank.videos == ["a.mp4", "c.mp4", "more/b.mp4"]
    assert bank.times.tolist() == [0, 1, 2, 0, 1, 0, 1]
    write(folder / "c.mp4", 1.0, 30)
    assert len(video.build_feature_bank(folder, encoder, path)) == 6
    assert encoder.seen == 8
    video.build_feature_bank(folder, encoder, path, every=0.5)
    assert encoder.seen == 8 + 6 + 2 + 3


def test_bank__goes_on_after_a_crash(folder, tmp_path):
    path, encoder = tmp_path / "bank.safetensors", Counting()
    told = []

    def stop(name, done, videos):
        told.append((name, done, videos))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        video.build_feature_bank(folder, encoder, path, progress=stop)
    assert told == [("a.mp4", 1, 2)]
    assert not path.exists()
    bank = video.build_feature_bank(folder, encoder, path)
    assert encoder.seen == 5
    whole = video.build_feature_bank(folder, Counting(), tmp_path / "whole")
    assert torch.equal(bank.features, whole.features)
    assert not (tmp_path / "bank.safetensors.parts").exists()


def test_damaged_video__is_named_or_left_out(folder, tmp_path):
    (folder / "broken.mp4").write_bytes(b"not a video")
    with pytest.raises(FileFormatError, match=r"broken\.mp4 is damaged"):
        video.build_feature_bank(folder, Counting(), tmp_path / "bank")
    bank = video.build_feature_bank(folder, Counting(), tmp_path / "bank", unreadable="skip")
    assert bank.videos == ["a.mp4", "more/b.mp4"]
    assert bank.header["skipped"] == ["broken.mp4"]


def test_dtype__halves_the_file(folder, tmp_path):
    bank = video.build_feature_bank(folder, Counting(), tmp_path / "bank", dtype=torch.float16)
    assert bank.features.dtype == torch.float16
    assert bank.window(["a.mp4"], 1.0).rows.dtype == torch.float32


@pytest.mark.plain
def test_mistakes_of_building__are_told(folder, tmp_path):
    path = tmp_path / "bank"
    with pytest.raises(BankFileNotFoundError, match="no folder"):
        video.build_feature_bank(tmp_path / "lost", Counting(), path)
    with pytest.raises(BankFileNotFoundError, match="does not exist"):
        video.build_feature_bank(folder, Counting(), tmp_path / "lost" / "bank")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BankValueError, match="holds no video"):
        video.build_feature_bank(tmp_path / "empty", Counting(), path)
    with pytest.raises(BankValueError, match="every is 0"):
        video.build_feature_bank(folder, Counting(), path, every=0.0)
    with pytest.raises(BankTypeError, match="dtype is"):
        video.build_feature_bank(folder, Counting(), path, dtype=torch.int64)
    with pytest.raises(BankValueError, match="expected \\(3, dim\\)"):
        video.build_feature_bank(folder, torch.nn.Identity(), path)
