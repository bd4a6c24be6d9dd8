"""Metrics on disk."""

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from torchbank.training import LogWindow, MetricsWriter, read_metrics


def test_window__means_over_the_steps_that_gave_a_value():
    window = LogWindow()
    for value in (1.0, 2.0, 6.0):
        window.add({"loss": torch.tensor(value)})
    window.add({"pairs": torch.tensor(4)})
    assert window.means() == {"loss": 3.0, "pairs": 4.0}
    assert window.means() == {}


def test_window__a_value_that_moves_in_place_is_remembered_as_it_was():
    window, value = LogWindow(), torch.tensor(1.0)
    window.add({"loss": value})
    value.fill_(100.0)
    assert window.means() == {"loss": 1.0}


def test_window__state_goes_on():
    window, other = LogWindow(), LogWindow()
    window.add({"loss": torch.tensor(1.0)})
    window.add({"loss": torch.tensor(2.0)})
    other.load_state_dict(window.state_dict())
    assert other.means() == {"loss": 1.5}


def test_writer__lines_and_events_hold_the_same_numbers(tmp_path):
    with MetricsWriter(tmp_path / "m.jsonl", tmp_path / "events") as writer:
        writer.write(1, {"train/loss": 0.5})
        writer.write(2, {"train/loss": 0.25})
    assert read_metrics(tmp_path / "m.jsonl") == [
        {"step": 1, "train/loss": 0.5},
        {"step": 2, "train/loss": 0.25},
    ]
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(1, 0.5), (2, 0.25)]


def test_writer__resumed_at_a_position_drops_what_came_after(tmp_path):
    lines = tmp_path / "m.jsonl"
    with MetricsWriter(lines, tmp_path / "events") as writer:
        writer.write(1, {"loss": 1.0})
        position = writer.position()
        writer.write(2, {"loss": 2.0})
    with MetricsWriter(lines, tmp_path / "events", keep_bytes=position, step=1) as writer:
        writer.write(2, {"loss": 3.0})
    assert [line["loss"] for line in read_metrics(lines)] == [1.0, 3.0]


def test_read_metrics__a_line_cut_short_is_left_out(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"step": 1}\n{"step": 2, "lo')
    assert read_metrics(tmp_path / "m.jsonl") == [{"step": 1}]
