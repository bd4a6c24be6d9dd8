"""Banks of whole videos, and the head that adds a window to a clip model."""

import pytest
import torch

from torchbank import video
from torchbank.errors import BankKeyError, BankTypeError, BankValueError, FileFormatError
from torchbank.io import write_tensors

OPERATORS = ["nonlocal", "average", "maximum"]
each_operator = pytest.mark.parametrize("operator", OPERATORS)


def trained(operator, **options):
    """A head whose last layer is not 0 any more."""
    torch.manual_seed(0)
    head = video.FeatureBankHead(6, 4, operator=operator, latent=5, **options).eval()
    torch.nn.init.normal_(head.output.weight)
    torch.nn.init.normal_(head.output.bias)
    return head


def window_of(rows, valid=None):
    times = torch.arange(rows.shape[1], dtype=torch.float64).expand(rows.shape[:2])
    return video.Window(rows, times, torch.ones(rows.shape[:2], dtype=torch.bool) if valid is None else valid)


@each_operator
def test_head__adds_nothing_at_first_and_learns(operator):
    torch.manual_seed(0)
    head = video.FeatureBankHead(6, 4, operator=operator)
    window = window_of(torch.randn(3, 7, 4))
    features = torch.randn(3, 6)
    assert not head(features, window).any()
    target = torch.randn(3, 6)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    head.eval()
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = (head(features, window) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]


@each_operator
def test_head__is_the_same_with_padding(operator):
    # Without a mask, the softmax, the mean and the maximum of a window at the end of a video take padding in.
    head = trained(operator)
    rows, features = torch.randn(3, 5, 4), torch.randn(3, 6)
    padded = torch.cat([rows, torch.full((3, 9, 4), 7.0)], dim=1)
    valid = (torch.arange(14) < 5).expand(3, 14)
    torch.testing.assert_close(head(features, window_of(padded, valid)), head(features, window_of(rows)))


@each_operator
def test_head__of_an_empty_window_adds_nothing_and_has_gradients(operator):
    head = trained(operator)
    features = torch.randn(2, 6, requires_grad=True)
    valid = torch.tensor([[False] * 5, [True] * 5])
    for window in (window_of(torch.randn(2, 5, 4), valid), window_of(torch.zeros(2, 0, 4))):
        added = head(features, window)
        assert not added[0].any()
        (features + added).sum().backward()
        assert features.grad.isfinite().all()
        assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in head.parameters())


@each_operator
def test_head__takes_no_order_from_the_window(operator):
    head = trained(operator)
    rows, features = torch.randn(2, 5, 4), torch.randn(2, 6)
    torch.testing.assert_close(head(features, window_of(rows)), head(features, window_of(rows.flip(1))))


def test_head__average_and_maximum_pool():
    rows, features = torch.randn(2, 5, 4), torch.randn(2, 6)
    head = trained("average")
    torch.testing.assert_close(head(features, window_of(rows)), head.output(rows.mean(dim=1)))
    head = trained("maximum")
    torch.testing.assert_close(head(features, window_of(rows)), head.output(rows.amax(dim=1)))


def test_head__nonlocal_asks_with_the_clip():
    head = trained("nonlocal", layers=1)
    rows, features = torch.randn(2, 5, 4), torch.randn(2, 6)
    told, bank, block = head.reduce_clip(features), head.reduce_bank(rows), head.blocks[0]
    weights = torch.einsum("bd,bnd->bn", block.query(told), block.key(bank) * 5**-0.5).softmax(dim=1)
    expected = head.output(told + block.mix(torch.einsum("bn,bnd->bd", weights, block.value(bank))))
    torch.testing.assert_close(head(features, window_of(rows)), expected)


@pytest.fixture
def bank():
    """Two videos: seconds 0 to 9, and 0 to 2."""
    times = torch.cat([torch.arange(10), torch.arange(3)]).double()
    return video.FeatureBank(
        torch.arange(13.0)[:, None].repeat(1, 4), times, torch.tensor([0, 10, 13]), {"videos": ["long", "short"]}
    )


def seen(window):
    return [times[valid].tolist() for times, valid in zip(window.times, window.valid, strict=True)]


def test_window__causal_and_centred(bank):
    videos = ["long", "short", "long"]
    times = torch.tensor([5.0, 5.0, 0.5])
    assert seen(bank.window(videos, times, seconds=2.0)) == [[3, 4, 5], [], [0]]
    assert seen(bank.window(videos, times, seconds=2.0, causal=False)) == [[4, 5, 6], [], [0, 1]]
    assert seen(bank.window(videos, times)) == [[0, 1, 2, 3, 4, 5], [0, 1, 2], [0]]
    assert seen(bank.window(["long"], 5.0, causal=False)) == [list(range(10))]


def test_window__of_a_length_keeps_what_is_closest(bank):
    window = bank.window(["long", "short"], 5.0, length=3)
    assert seen(window) == [[3, 4, 5], [0, 1, 2]]
    assert seen(bank.window(["long"], 5.0, length=3, causal=False)) == [[4, 5, 6]]
    assert window.rows.shape == (2, 3, 4)
    assert window.rows[1, :, 0].tolist() == [10, 11, 12]


def test_window__is_zero_where_nothing_is(bank):
    window = bank.window(["short", "long"], 9.0, seconds=4.0, length=8)
    assert window.valid.sum(dim=1).tolist() == [0, 5]
    assert not window.rows[~window.valid].any()


def test_window__does_not_know_the_future(bank):
    before = bank.window(["long"], 4.0)
    bank.features[5:10] = torch.nan
    assert torch.equal(bank.window(["long"], 4.0).rows, before.rows)


@pytest.mark.plain
def test_mistakes__are_told(bank, tmp_path):
    with pytest.raises(BankKeyError, match="no video 'lost'"):
        bank.window(["lost"], 0.0)
    with pytest.raises(BankTypeError, match="expected a list"):
        bank.window("long", 0.0)
    with pytest.raises(BankValueError, match="window is -1"):
        bank.window(["long"], 0.0, seconds=-1.0)
    with pytest.raises(BankValueError, match="do not fit"):
        video.FeatureBank(bank.features, bank.times, torch.tensor([0, 10]), {"videos": ["long", "short"]})
    with pytest.raises(BankValueError, match="operator='mean' is unknown"):
        video.FeatureBankHead(4, operator="mean")
    with pytest.raises(BankValueError, match="dropout is 1"):
        video.FeatureBankHead(4, dropout=1.0)
    head = video.FeatureBankHead(6, 4)
    with pytest.raises(BankValueError, match=r"expected \(batch, 6\)"):
        head(torch.zeros(2, 5), window_of(torch.zeros(2, 3, 4)))
    with pytest.raises(BankValueError, match=r"expected \(2, length, 4\)"):
        head(torch.zeros(2, 6), window_of(torch.zeros(3, 3, 4)))
    with pytest.raises(BankValueError, match=r"expected torch\.bool"):
        head(torch.zeros(2, 6), window_of(torch.zeros(2, 3, 4), torch.ones(2, 3)))
    write_tensors(tmp_path / "other.safetensors", {}, {"kind": "bank"})
    with pytest.raises(FileFormatError, match="holds no feature bank"):
        video.FeatureBank.load(tmp_path / "other.safetensors")
