"""Learning rates and weight decay, against PyTorch's own schedulers."""

import pytest
import torch
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, MultiStepLR

from torchbank.training import TrainingConfig, apply_schedules, build_optimizer, weight_decay_at


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
    rates = []
    for step in range(config.steps):
        apply_schedules(optimizer, config, step=step)
        rates.append(optimizer.param_groups[0]["lr"])

    oracle, _ = _optimizer(steps=40)
    rest = CosineAnnealingLR(oracle, 40 - warmup) if kind == "cosine" else ConstantLR(oracle, factor=1.0)
    expected = _rates(rest, oracle, 40 - warmup)
    if warmup:
        rising, _ = _optimizer(steps=40)
        start = LinearLR(rising, start_factor=1 / warmup, total_iters=warmup - 1)
        expected = _rates(start, rising, warmup) + expected
    torch.testing.assert_close(torch.tensor(rates), torch.tensor(expected), rtol=1e-6, atol=1e-12)


def test_schedule__a_tenth_after_24_of_34_parts():
    optimizer, config = _optimizer(steps=340, schedule="step")
    rates = []
    for step in range(config.steps):
        apply_schedules(optimizer, config, step=step)
        rates.append(optimizer.param_groups[0]["lr"])
    oracle, _ = _optimizer(steps=340)
    assert rates == pytest.approx(_rates(MultiStepLR(oracle, [240], gamma=0.1), oracle, 340))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adamw", torch.optim.AdamW),
        ("adam", torch.optim.Adam),
        ("sgd", torch.optim.SGD),
        ("nesterov", torch.optim.SGD),
    ],
)
def test_optimizer__takes_what_learns(name, kind):
    learning, fixed = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1), requires_grad=False)
    optimizer = build_optimizer([learning, fixed], TrainingConfig(optimizer=name, weight_decay=0.1))
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["params"] == [learning]
    assert optimizer.param_groups[0]["weight_decay"] == 0.1
    assert optimizer.param_groups[0].get("nesterov", False) == (name == "nesterov")


@pytest.mark.parametrize("final", [None, 0.4, 0.0])
def test_weight_decay__goes_along_a_half_cosine(final):
    config = TrainingConfig(steps=40, weight_decay=0.04, final_weight_decay=final)
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = build_optimizer([weight], config)
    # A learning rate that goes from 0.04 to the final value, by PyTorch.
    oracle = torch.optim.SGD([weight], lr=0.04)
    rest = ConstantLR(oracle, factor=1.0) if final is None else CosineAnnealingLR(oracle, 40, eta_min=final)
    expected = _rates(rest, oracle, 40)
    for step in range(40):
        apply_schedules(optimizer, config, step=step)
        assert optimizer.param_groups[0]["weight_decay"] == pytest.approx(expected[step], abs=1e-12)
        assert optimizer.param_groups[0]["weight_decay"] == weight_decay_at(step, config)


def test_weight_decay__of_matrices_only_spares_biases_and_norms():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Linear(2, 3))
    config = TrainingConfig(weight_decay=0.1, final_weight_decay=0.2, decayed="matrices", optimizer="sgd")
    optimizer = build_optimizer(network.parameters(), config)
    apply_schedules(optimizer, config, step=config.steps)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decays) == len(list(network.parameters()))
    for parameter in network.parameters():
        assert decays[id(parameter)] == (0.2 if parameter.dim() > 1 else 0.0)


def test_weight_decay__a_group_without_parameters_is_left_out():
    config = TrainingConfig(decayed="matrices")
    assert len(build_optimizer([torch.nn.Parameter(torch.ones(2, 2))], config).param_groups) == 1
    assert len(build_optimizer([torch.nn.Parameter(torch.ones(2))], config).param_groups) == 1
