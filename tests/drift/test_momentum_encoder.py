"""MomentumEncoder against the formula written out in float64."""

import copy
import math

import pytest
import torch
from torch import nn

from torchbank.drift import MomentumEncoder
from torchbank.errors import BankError


def small_encoder(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3)).double()


def perturb(module):
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.add_(torch.randn_like(tensor))
    module.train()(torch.randn(8, 5, dtype=torch.float64))


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("buffers", ["copy", "average"])
def test_update__equals_the_moving_average(momentum, buffers):
    online = small_encoder()
    teacher = MomentumEncoder(online, momentum=momentum, buffers=buffers)
    expected = {name: tensor.clone() for name, tensor in online.state_dict().items()}
    parameters = dict(online.named_parameters())
    for _ in range(4):
        perturb(online)
        teacher.update(online)
        for name, tensor in online.state_dict().items():
            averaged = name in parameters or (buffers == "average" and tensor.is_floating_point())
            kept = momentum if averaged else 0
            expected[name] = (kept * expected[name] + (1 - kept) * tensor).to(tensor.dtype)
    for name, tensor in teacher.encoder.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-12, atol=1e-12)
    assert teacher.encoder[1].num_batches_tracked == 4
    assert teacher.updates == 4


@pytest.mark.parametrize("explicit_step", [True, False])
def test_update__cosine_schedule(explicit_step):
    online = nn.Linear(1, 1, bias=False).double()
    teacher = MomentumEncoder(online, momentum=0.9, schedule="cosine", total_steps=10)
    expected = online.weight.item()
    for step in range(15):
        nn.init.constant_(online.weight, float(step))
        teacher.update(online, step=step if explicit_step else None)
        momentum = 1 - (1 - 0.9) * (math.cos(math.pi * min(step, 10) / 10) + 1) / 2
        expected = momentum * expected + (1 - momentum) * step
        assert teacher.encoder.weight.item() == pytest.approx(expected, rel=1e-6)


def test_copy__shares_nothing_and_gets_no_gradient():
    online = small_encoder()
    teacher = MomentumEncoder(online)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in online.parameters())
    before = copy.deepcopy(teacher.state_dict())
    perturb(online)
    torch.testing.assert_close(teacher.state_dict(), before, rtol=0, atol=0)
    images = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    assert not teacher(images).requires_grad


def test_update__moves_the_same_tensors_in_place():
    online = small_encoder()
    teacher = MomentumEncoder(online)
    addresses = [tensor.data_ptr() for tensor in teacher.state_dict().values()]
    perturb(online)
    teacher.update(online)
    assert [tensor.data_ptr() for tensor in teacher.state_dict().values()] == addresses


def test_mode__starts_as_the_encoder_and_follows():
    assert not MomentumEncoder(small_encoder().eval()).encoder.training
    teacher = MomentumEncoder(small_encoder())
    assert teacher.encoder.training
    assert not teacher.eval().encoder.training


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_state_dict__resumes_bit_for_bit(schedule):
    def build():
        return MomentumEncoder(
            small_encoder(), momentum=0.9, schedule=schedule, total_steps=8 if schedule == "cosine" else None
        )

    online, straight, stopped = small_encoder(), build(), build()
    for step in range(6):
        torch.manual_seed(step)
        perturb(online)
        straight.update(online)
        stopped.update(online)
        if step == 2:
            saved = stopped.state_dict()
            assert all(isinstance(value, torch.Tensor) for value in saved.values())
            stopped = build()
            stopped.load_state_dict(copy.deepcopy(saved))
    torch.testing.assert_close(stopped.state_dict(), straight.state_dict(), rtol=0, atol=0)


def test_update__float32_copy_of_a_bfloat16_encoder_keeps_small_steps():
    online = nn.Linear(4, 4).to(torch.bfloat16)
    teacher = MomentumEncoder(online, momentum=0.999).float()
    nn.init.constant_(online.weight, 1.0)
    nn.init.constant_(teacher.encoder.weight, 0.5)
    for _ in range(100):
        teacher.update(online)
    torch.testing.assert_close(teacher.encoder.weight, torch.full((4, 4), 1 - 0.5 * 0.999**100))


def test_update__encoder_without_parameters():
    teacher = MomentumEncoder(nn.Flatten())
    teacher.update(nn.Flatten())
    assert teacher.updates == 1


@pytest.mark.plain
def test_update__compiles_to_one_graph():
    online = small_encoder()
    settings = {"momentum": 0.9, "schedule": "cosine", "total_steps": 9}
    teacher, eager = (MomentumEncoder(online, **settings) for _ in range(2))
    update = torch.compile(teacher.update, backend="aot_eager", fullgraph=True)
    torch._dynamo.utils.counters.clear()
    for step in range(12):
        torch.manual_seed(step)
        perturb(online)
        update(online)
        eager.update(online)
    torch.testing.assert_close(teacher.state_dict(), eager.state_dict())
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.plain
@pytest.mark.parametrize(
    ("online", "message"),
    [
        (nn.Linear(2, 4), r"'bias' is of shape \(3,\) in the momentum encoder but of shape \(4,\)"),
        (nn.Linear(2, 3, bias=False), "'bias' is of shape .* but missing"),
        (nn.Sequential(nn.Linear(2, 3)), "without a wrapper such as DDP"),
    ],
)
def test_update__refuses_another_structure_and_stays(online, message):
    teacher = MomentumEncoder(nn.Linear(2, 3))
    before = copy.deepcopy(teacher.state_dict())
    with pytest.raises(BankError, match=message):
        teacher.update(online)
    torch.testing.assert_close(teacher.state_dict(), before, rtol=0, atol=0)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum": 1.5}, "momentum=1.5 is out of range"),
        ({"buffers": "mean"}, "buffers='mean' is unknown; choose one of 'copy', 'average'"),
        ({"schedule": "linear"}, "schedule='linear' is unknown"),
        ({"schedule": "cosine"}, "give the number of updates"),
        ({"total_steps": 5}, "belongs to schedule='cosine'"),
    ],
)
def test_init__bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        MomentumEncoder(nn.Linear(2, 3), **settings)


@pytest.mark.plain
def test_init__not_a_module():
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module"):
        MomentumEncoder(lambda x: x)
