"""Writing to slots by the code for devices, against a loop in Python."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchbank.banks._admission import Quotient
from torchbank.banks._writing import NOT_KEPT, REFUSED, Storage, rewrite_slots, write_run, write_slots
from torchbank.errors import BankValueError

CAPACITY = 5


def storage():
    """Slots 0 and 3 hold a row."""
    generations = torch.tensor([2, 0, 0, 1, 0])
    embeddings = torch.arange(10.0).view(5, 2) * (generations > 0)[:, None]
    fields = [torch.arange(5) * (generations > 0), generations[:, None] > torch.tensor([0, 1])]
    counters = [torch.tensor(number) for number in (3, 2, 9, 0)]
    return Storage(embeddings, fields, generations * 4, generations, counters)


def batch(size):
    rows = 100 + torch.arange(2.0 * size).view(size, 2)
    return rows, [100 + torch.arange(size), torch.arange(2 * size).view(size, 2) % 3 == 0]


@given(slots=st.lists(st.integers(REFUSED, CAPACITY - 1), max_size=9), merged=st.booleans())
def test_write_slots__last_row_of_a_slot_wins(slots, merged):
    state, expected = storage(), storage()
    rows, columns = batch(len(slots))
    written = write_slots(
        *state, rows, columns, torch.tensor(slots, dtype=torch.int64), torch.tensor(7), merged, "rule", False
    )
    winners = {slot: row for row, slot in enumerate(slots) if slot >= 0}
    for slot, row in winners.items():
        expected.embeddings[slot] = rows[row]
        for buffer, column in zip(expected.fields, columns, strict=True):
            buffer[slot] = column[row]
        expected.steps[slot] = 7
        expected.generations[slot] += 1
    refused = slots.count(REFUSED)
    for counter, value in zip(expected.counters, (3 + len(slots) - refused, 3, 7, refused), strict=True):
        counter.fill_(value)
    for found, wanted in zip(flat(state), flat(expected), strict=True):
        assert torch.equal(found, wanted)
    keep = [merged or winners.get(slot) == row for row, slot in enumerate(slots)]
    assert written.tolist() == [slot if slot >= 0 and kept else -1 for slot, kept in zip(slots, keep, strict=True)]


@given(start=st.integers(0, CAPACITY - 1), size=st.integers(0, 23))
def test_write_run__is_write_slots_with_consecutive_slots(start, size):
    by_slices, by_slots = storage(), storage()
    rows, columns = batch(size)
    slots = (start + torch.arange(size)) % CAPACITY
    slots[: max(0, size - CAPACITY)] = NOT_KEPT
    expected = write_slots(*by_slots, rows, columns, slots, torch.tensor(7), False, "rule", True)
    assert torch.equal(
        write_run(by_slices, Quotient(2 * rows, torch.full((size, 1), 2.0)), columns, start, 7), expected
    )
    for found, wanted in zip(flat(by_slices), flat(by_slots), strict=True):
        assert torch.equal(found, wanted)


@given(
    handles=st.lists(st.tuples(st.integers(-2, CAPACITY - 1), st.integers(0, 2), st.booleans()), max_size=7),
)
def test_rewrite_slots__only_where_the_generation_is_the_same(handles):
    state, expected = storage(), storage()
    slots, generations, accepted = (
        torch.tensor([handle[at] for handle in handles], dtype=torch.int64) for at in range(3)
    )
    rows, _ = batch(len(handles))
    stale = rewrite_slots(state, rows, slots, generations, accepted.bool(), torch.tensor(7))
    count = 0
    for row, (slot, generation, good) in enumerate(handles):
        if slot < 0 or generation == 0 or expected.generations[slot] != generation:
            count += 1
        elif good:
            expected.embeddings[slot] = rows[row]
            expected.steps[slot] = 7
    expected.counters[3].add_((accepted == 0).sum())
    assert int(stale) == count
    for found, wanted in zip(flat(state), flat(expected), strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ([0, 5], r"rule gave slot 5 to row 1; expected 0 to 4, or -1 for a row not kept"),
        ([-3, 0], r"rule gave slot -3 to row 0"),
        ([1, REFUSED], r"row 1 was refused by rule as bad input"),
    ],
)
def test_write_slots__strict_refuses_bad_slots(slots, message):
    state = storage()
    rows, columns = batch(2)
    with pytest.raises(BankValueError, match=message):
        write_slots(*state, rows, columns, torch.tensor(slots), torch.tensor(7), False, "rule", True)
    for found, wanted in zip(flat(state), flat(storage()), strict=True):
        assert torch.equal(found, wanted)


def flat(state):
    return [state.embeddings, *state.fields, state.steps, state.generations, *state.counters]
