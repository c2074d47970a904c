"""The losses against plain sums, and ignored pixels that must not matter."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segalgos.training.losses import (
    LOSS_NAMES,
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    MultiLoss,
    make_loss,
)


@pytest.fixture
def case():
    """Logits, labels with some ignored, pixel weights, class weights."""
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(size=(2, 3, 5, 4)), dtype=torch.float32)
    labels = torch.tensor(rng.integers(-1, 3, (2, 5, 4)))
    weight = torch.tensor(rng.random((2, 5, 4)), dtype=torch.float32)
    return logits, labels, weight, torch.tensor([0.5, 1.0, 3.0])


def by_hand(logits, labels, weight, class_weight, value):
    """Weighted mean of ``value(p, k)`` over labelled pixels, p in float64."""
    p = torch.softmax(logits.double(), dim=1).permute(0, 2, 3, 1).numpy()
    total = norm = 0.0
    for at in np.ndindex(labels.shape):
        k = int(labels[at])
        if k >= 0:
            w = float(weight[at]) * float(class_weight[k])
            total += w * value(p[at], k)
            norm += w
    return total / norm


def bce(p, k):
    y = np.arange(len(p)) == k
    return -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        (CrossEntropyLoss, lambda p, k: -np.log(p[k])),
        (FocalLoss, lambda p, k: -((1 - p[k]) ** 2) * np.log(p[k])),
        (BinaryCrossEntropyLoss, bce),
    ],
    ids=["cross_entropy", "focal", "bce"],
)
def test_pixel_losses_equal_plain_sums(case, loss, value):
    logits, labels, weight, class_weight = case
    found = loss(class_weight=class_weight)(logits, labels, weight)
    assert float(found) == pytest.approx(by_hand(*case, value), rel=1e-5)
    found = loss()(logits, labels)
    ones = torch.ones_like(weight)
    assert float(found) == pytest.approx(
        by_hand(logits, labels, ones, torch.ones(3), value), rel=1e-5
    )


def test_cross_entropy_equals_torch(case):
    logits, labels, _, class_weight = case
    expected = F.cross_entropy(logits, labels, weight=class_weight, ignore_index=-1)
    torch.testing.assert_close(CrossEntropyLoss(class_weight)(logits, labels), expected)


def test_focal_alpha_scales_and_gamma_zero_is_cross_entropy(case):
    logits, labels, weight, class_weight = case
    expected = CrossEntropyLoss(class_weight)(logits, labels, weight)
    focal = FocalLoss(alpha=0.25, gamma=0.0, class_weight=class_weight)
    torch.testing.assert_close(focal(logits, labels, weight), 0.25 * expected)


@pytest.mark.parametrize("options", [{"alpha": 1.5}, {"alpha": -0.1}, {"gamma": -1.0}])
def test_focal_refuses_bad_parameters(options):
    with pytest.raises(ValueError, match=r"FocalLoss: (alpha|gamma) is"):
        FocalLoss(**options)


def test_dice_equals_plain_sums(case):
    logits, labels, weight, class_weight = case
    p = torch.softmax(logits.double(), dim=1).numpy()
    labels_, w = labels.numpy(), weight.double().numpy() * (labels.numpy() >= 0)
    dice = np.zeros((2, 3))
    for i in range(2):
        for k in range(3):
            y = labels_[i] == k
            both = (w[i] * y * p[i, k]).sum()
            dice[i, k] = 1 - (2 * both + 1) / ((w[i] * y).sum() + (w[i] * p[i, k]).sum() + 1)
    assert float(DiceLoss()(logits, labels, weight)) == pytest.approx(dice.mean(), rel=1e-5)
    share = class_weight.numpy() / class_weight.numpy().sum()
    found = DiceLoss(class_weight)(logits, labels, weight)
    assert float(found) == pytest.approx((dice @ share).mean(), rel=1e-5)


def test_dice_of_a_perfect_answer_is_zero():
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    logits = torch.tensor([50.0, -50.0, -50.0])[None, :, None, None].expand(1, 3, 4, 4)
    assert float(DiceLoss()(logits, labels)) == pytest.approx(0, abs=1e-6)


def test_multi_is_the_sum_of_its_parts(case):
    logits, labels, weight, class_weight = case
    multi = MultiLoss(class_weight=class_weight)
    parts = multi.parts(logits, labels, weight)
    assert list(parts) == ["bce", "focal", "dice"]
    for name, loss in (("bce", BinaryCrossEntropyLoss), ("focal", FocalLoss), ("dice", DiceLoss)):
        alone = loss(class_weight=class_weight)(logits, labels, weight)
        torch.testing.assert_close(parts[name], alone)
    torch.testing.assert_close(multi(logits, labels, weight), sum(parts.values()))


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_bfloat16_logits_lose_nothing_more(case, name):
    logits, labels, weight, class_weight = case
    short, loss = logits.bfloat16().requires_grad_(), make_loss(name, class_weight)
    exact = short.detach().float().requires_grad_()
    values = [loss(x, labels, weight) for x in (short, exact)]
    assert torch.equal(*values)
    for value in values:
        value.backward()
    assert torch.equal(short.grad, exact.grad.bfloat16())


@pytest.mark.parametrize("name", LOSS_NAMES)
@pytest.mark.parametrize("huge", [1e4, 1e30])
def test_huge_logits_stay_finite(case, name, huge):
    logits, labels, weight, class_weight = case
    logits = (logits * huge).bfloat16().requires_grad_()
    value = make_loss(name, class_weight)(logits, labels, weight)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LOSS_NAMES)
@pytest.mark.parametrize("poison", [1e4, float("nan"), float("inf")])
def test_ignored_pixels_are_inert(case, name, poison):
    logits, labels, weight, class_weight = case
    loss, ignored = make_loss(name, class_weight), labels < 0
    assert ignored.any()
    expected = loss(logits, labels, weight)
    other = torch.where(ignored[:, None], poison, logits).requires_grad_()
    weight = torch.where(ignored, float("nan"), weight)
    found = loss(other, labels, weight)
    assert torch.equal(found, expected)
    found.backward()
    gradient = other.grad.permute(0, 2, 3, 1)
    assert (gradient[ignored] == 0).all()
    assert torch.isfinite(gradient).all()
    assert (gradient[~ignored] != 0).any()


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_nothing_labelled_gives_no_gradient(name):
    logits = torch.randn(1, 2, 3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    value = make_loss(name)(logits, torch.full((1, 3, 3), -1))
    assert float(value.detach()) == pytest.approx(0, abs=1e-6)
    value.backward()
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("name", LOSS_NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_logits_stay_finite(name, dtype):
    logits = torch.tensor([[200.0, -200.0, 0.0], [-200.0, 200.0, 0.0]], dtype=dtype)
    logits = logits.T.reshape(1, 3, 2, 1).contiguous().requires_grad_()
    value = make_loss(name)(logits, torch.tensor([[[0], [0]]]))
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_gradient_is_finite_where_the_answer_is_certain(gamma):
    logits = torch.tensor([100.0, 0.0]).reshape(1, 2, 1, 1).requires_grad_()
    FocalLoss(gamma=gamma)(logits, torch.zeros(1, 1, 1, dtype=torch.int64)).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_a_single_class_has_no_gradient_but_works(name):
    logits = torch.ones(1, 1, 2, 2, requires_grad=True)
    value = make_loss(name)(logits, torch.zeros(1, 2, 2, dtype=torch.int64))
    value.backward()
    assert float(value.detach()) == pytest.approx(0, abs=1e-5)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_gradients_equal_finite_differences(case, name):
    logits, labels, weight, class_weight = case
    loss, step = make_loss(name, class_weight), 1e-2
    logits = logits.clone().requires_grad_()
    loss(logits, labels, weight).backward()
    for at in [(0, 0, 0, 0), (1, 2, 3, 1), (0, 1, 4, 3)]:
        move = torch.zeros_like(logits)
        move[at] = step
        with torch.no_grad():
            slope = (loss(logits + move, labels, weight) - loss(logits - move, labels, weight)) / (
                2 * step
            )
        assert float(logits.grad[at]) == pytest.approx(float(slope), abs=1e-4)
