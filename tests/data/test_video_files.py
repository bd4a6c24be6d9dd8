"""Videos are written and read for real."""

import numpy as np
import pytest

from small_video import FPS, FRAMES, HEIGHT, WIDTH, picture, write_video
from torchbank.data import VideoWriter, read_video, video_facts
from torchbank.errors import BankFileNotFoundError, FileFormatError


def test_video__comes_back_as_it_was_written(tmp_path):
    path = write_video(tmp_path / "small.mp4")
    assert video_facts(path) == (FPS, WIDTH, HEIGHT, FRAMES)
    frames = list(read_video(path))
    assert len(frames) == FRAMES
    for number in (1, 50, 90):
        # Chroma is halved and the codec loses a little.
        difference = np.abs(frames[number - 1].astype(int) - picture(number))
        assert difference.mean() < 4


def test_writer__cuts_an_odd_row_and_column_and_is_whole_after_an_error(tmp_path):
    path = tmp_path / "odd.mp4"

    def interrupted():
        with VideoWriter(path, fps=29.97, width=63, height=49) as writer:
            writer.write(np.zeros((49, 63, 3), np.uint8))
            writer.write(np.zeros((49, 63, 3), np.uint8))
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert len(list(read_video(path))) == 2
    assert video_facts(path)[1:3] == (62, 48)
    assert video_facts(path).fps == pytest.approx(29.97, abs=0.01)


@pytest.mark.plain
def test_video__refuses_what_is_none(tmp_path):
    (tmp_path / "bytes.mp4").write_bytes(bytes(100))
    with pytest.raises(FileFormatError, match="is damaged or not a video"):
        video_facts(tmp_path / "bytes.mp4")
    (tmp_path / "boxes.txt").write_text("1,1,5,5,9,9,1\n" * 200)
    with pytest.raises(FileFormatError, match="has no picture in it"):
        video_facts(tmp_path / "boxes.txt")
    with pytest.raises(BankFileNotFoundError, match="there is no video"):
        next(read_video(tmp_path / "none.mp4"))
    with pytest.raises(BankFileNotFoundError, match="does not exist; create it first"):
        VideoWriter(tmp_path / "nowhere" / "a.mp4", fps=10, width=8, height=8)
