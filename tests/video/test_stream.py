"""Streams that are stopped and taken up again."""

import pytest
import torch

from torchbank import video
from torchbank.errors import BankStateError, FileFormatError
from torchbank.io import write_tensors

DIM = 4


def film(length=30, streams=2):
    generator = torch.Generator().manual_seed(0)
    return [video.Moment(torch.randn(streams, DIM, generator=generator), float(second)) for second in range(length)]


def memory():
    return video.TemporalMemory(DIM, 5, streams=2, compress=video.MergeNeighbours())


def test_follow__is_step_after_step():
    one, other = memory(), memory()
    for moment, context in video.follow(one, film()):
        assert torch.equal(context.value, other.step(moment.features, moment.time).value)


def test_follow__goes_on_where_the_file_was_saved(tmp_path):
    path = tmp_path / "memory.safetensors"
    whole = [context.value for _, context in video.follow(memory(), film())]
    stopped = video.follow(memory(), film(), path=path, save_every=10)
    for _ in range(18):
        next(stopped)
    stopped.close()
    resumed = list(video.follow(video.load(path), film(), path=path))
    # Saved after ten steps; what came after is given again.
    assert [moment.time for moment, _ in resumed] == [float(second) for second in range(10, 30)]
    assert all(torch.equal(context.value, value) for (_, context), value in zip(resumed, whole[10:], strict=True))
    assert list(video.follow(video.load(path), film())) == []


def test_follow__takes_streams_and_quality():
    gated = video.TemporalMemory(DIM, 5, streams=3, write=video.Quality(0.5))
    moments = [
        video.Moment(torch.randn(2, DIM), 0.0, [2, 0], torch.tensor([0.9, 0.1])),
        video.Moment(torch.randn(1, DIM), 1.0, [1], torch.tensor([0.7])),
        video.Moment(torch.randn(0, DIM), 2.0, [], torch.zeros(0)),
    ]
    assert len(list(video.follow(gated, moments))) == 3
    assert gated.counts().tolist() == [0, 1, 1]


def test_follow__tells_moments_that_are_cut_otherwise():
    started = memory()
    started.step(torch.randn(1, DIM), 0.0, stream_ids=[0])
    with pytest.raises(BankStateError, match=r"not row 1 of stream 1 at 0\.0 s"):
        list(video.follow(started, film()))


def test_load__tells_other_files(tmp_path):
    write_tensors(tmp_path / "other", {}, {"kind": "gallery"})
    with pytest.raises(FileFormatError, match="holds no temporal memory, but: gallery"):
        video.load(tmp_path / "other")
    memory().save(tmp_path / "memory")
    from torchbank.io import read_tensors

    tensors, header = read_tensors(tmp_path / "memory")
    for change, words in (
        ({"evict": {"rule": "Forgotten"}}, "names the rule 'Forgotten', which is not defined"),
        ({"evict": {"rule": "Fifo", "speed": 2}}, "does not take"),
        ({"options": {"dim": DIM}}, "does not describe a temporal memory"),
        ({"options": header["options"] | {"capacity": 4}}, "do not fit its header"),
    ):
        write_tensors(tmp_path / "changed", tensors, header | change)
        with pytest.raises(FileFormatError, match=words):
            video.load(tmp_path / "changed")
