"""Learning rates, against PyTorch's own schedulers."""

import pytest
import torch
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR

from torchbank.training import TrainingConfig, build_optimizer, build_schedule


def _rates(schedule, optimizer, steps):
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def _optimizer(**settings):
    config = TrainingConfig(**settings)
    return build_optimizer([torch.nn.Parameter(torch.ones(1))], config), config


@pytest.mark.parametrize("warmup", [0, 7])
@pytest.mark.parametrize("kind", ["cosine", "constant"])
def test_schedule__as_pytorch_chains_it(kind, warmup):
    optimizer, config = _optimizer(steps=40, warmup_steps=warmup, schedule=kind)
    rates = _rates(build_schedule(optimizer, config), optimizer, config.steps)

    oracle, _ = _optimizer(steps=40)
    rest = CosineAnnealingLR(oracle, 40 - warmup) if kind == "cosine" else ConstantLR(oracle, factor=1.0)
    expected = _rates(rest, oracle, 40 - warmup)
    if warmup:
        rising, _ = _optimizer(steps=40)
        start = LinearLR(rising, start_factor=1 / warmup, total_iters=warmup - 1)
        expected = _rates(start, rising, warmup) + expected
    torch.testing.assert_close(torch.tensor(rates), torch.tensor(expected), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)]
)
def test_optimizer__takes_what_learns(name, kind):
    learning, fixed = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1), requires_grad=False)
    optimizer = build_optimizer([learning, fixed], TrainingConfig(optimizer=name, weight_decay=0.1))
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["params"] == [learning]
    assert optimizer.param_groups[0]["weight_decay"] == 0.1
