"""On a GPU: the same as on the CPU, without waiting for the device."""

import pytest
import torch
from memory_rules import RULES

from torchbank import video

pytestmark = pytest.mark.gpu

DIM, STREAMS = 8, 3


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES.keys())
def test_memory__is_that_of_the_cpu(rules):
    generator = torch.Generator().manual_seed(0)
    here, there = (video.TemporalMemory(DIM, 5, streams=STREAMS, device=device, **rules) for device in ("cpu", "cuda"))
    for second in range(30):
        features = torch.randn(STREAMS, DIM, generator=generator)
        quality = torch.rand(STREAMS, generator=generator)
        ours = here.step(features, float(second), quality=quality)
        torch.cuda.set_sync_debug_mode("error")
        try:
            theirs = there.step(features.cuda(), float(second), quality=quality.cuda())
        finally:
            torch.cuda.set_sync_debug_mode("default")
        torch.testing.assert_close(theirs.value.cpu(), ours.value, atol=1e-5, rtol=1e-5)
        assert torch.equal(theirs.valid.cpu(), ours.valid)


def test_bad_rows__are_not_written_and_counted():
    memory = video.TemporalMemory(DIM, 5, streams=STREAMS, device="cuda")
    memory.write(torch.ones(STREAMS, DIM, device="cuda"), 5.0)
    features = torch.ones(STREAMS, DIM, device="cuda")
    features[1] = torch.nan
    slots = memory.write(features, torch.tensor([4.0, 6.0, 6.0], dtype=torch.float64, device="cuda"))
    assert slots.tolist() == [-1, -1, 11]
    assert memory.counts().tolist() == [1, 1, 2]
    assert int(memory.bank.rejected) == 2
