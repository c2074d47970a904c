"""The losses against plain sums, and ignored pixels that must not matter."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segalgos.training.losses import (
    LOSS_NAMES,
    AuxiliaryLoss,
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    LovaszLoss,
    MultiLoss,
    OhemCrossEntropyLoss,
    TverskyLoss,
    _jaccard_steps,
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


@pytest.mark.parametrize("times", [1, 7])  # few and many classes
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradient_of_cross_entropy_equals_torch(case, layout, times):
    logits, labels, _, class_weight = case
    logits, class_weight = logits.repeat(1, times, 1, 1), class_weight.repeat(times)
    logits = logits.detach().to(memory_format=layout).requires_grad_()
    found = CrossEntropyLoss(class_weight)(logits, labels)
    expected = F.cross_entropy(logits, labels, weight=class_weight, ignore_index=-1)
    (gradient,), (torchs,) = (torch.autograd.grad(3 * loss, logits) for loss in (found, expected))
    torch.testing.assert_close(gradient, torchs)
    assert gradient.is_contiguous(memory_format=layout)


def test_focal_alpha_scales_and_gamma_zero_is_cross_entropy(case):
    logits, labels, weight, class_weight = case
    expected = CrossEntropyLoss(class_weight)(logits, labels, weight)
    focal = FocalLoss(alpha=0.25, gamma=0.0, class_weight=class_weight)
    torch.testing.assert_close(focal(logits, labels, weight), 0.25 * expected)


@pytest.mark.parametrize(("alpha", "gamma"), [(1.0, 0.5), (0.25, 3.0)])
def test_focal_equals_plain_sums(case, alpha, gamma):
    expected = by_hand(*case, lambda p, k: -alpha * (1 - p[k]) ** gamma * np.log(p[k]))
    logits, labels, weight, class_weight = case
    found = FocalLoss(alpha, gamma, class_weight)(logits, labels, weight)
    assert float(found) == pytest.approx(expected, rel=1e-5)


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


# --- Tversky ------------------------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.7), (1.0, 0.0), (2.0, 1.5)])
def test_tversky_equals_plain_sums(case, alpha, beta):
    logits, labels, weight, class_weight = case
    p = torch.softmax(logits.double(), dim=1).numpy()
    labels_, w = labels.numpy(), weight.double().numpy() * (labels.numpy() >= 0)
    tversky = np.zeros((2, 3))
    for i in range(2):
        for k in range(3):
            y = labels_[i] == k
            both = (w[i] * y * p[i, k]).sum()
            wrong, missed = (w[i] * ~y * p[i, k]).sum(), (w[i] * y * (1 - p[i, k])).sum()
            tversky[i, k] = 1 - (both + 0.5) / (both + alpha * wrong + beta * missed + 0.5)
    assert float(TverskyLoss(alpha, beta)(logits, labels, weight)) == pytest.approx(
        tversky.mean(), rel=1e-5
    )
    share = class_weight.numpy() / class_weight.numpy().sum()
    found = TverskyLoss(alpha, beta, class_weight)(logits, labels, weight)
    assert float(found) == pytest.approx((tversky @ share).mean(), rel=1e-5)


def test_tversky_of_halves_is_dice(case):
    logits, labels, weight, class_weight = case
    torch.testing.assert_close(
        TverskyLoss(0.5, 0.5, class_weight)(logits, labels, weight),
        DiceLoss(class_weight)(logits, labels, weight),
    )


@pytest.mark.parametrize("options", [{"alpha": -1.0}, {"beta": -0.1}, {"alpha": 0.0, "beta": 0.0}])
def test_tversky_refuses_bad_parameters(options):
    with pytest.raises(ValueError, match=r"TverskyLoss: (alpha|beta) (is|and beta are)"):
        TverskyLoss(**options)


# --- Lovász -------------------------------------------------------------------------------


def lovasz_by_hand(p, labels, weight, class_weight):
    """Definition of the Lovász extension, for pixels in one list: p (n, K), labels (n,)."""
    values, shares = [], []
    for k in range(p.shape[1]):
        y = labels == k
        if weight[y].sum() == 0:
            continue

        def one_minus_iou(wrong, y=y):
            return weight[wrong].sum() / weight[y | wrong].sum()

        errors = np.abs(y - p[:, k])
        wrong, before, value = np.zeros(len(y), bool), 0.0, 0.0
        for i in np.argsort(-errors):
            wrong[i] = True
            value += errors[i] * (one_minus_iou(wrong) - before)
            before = one_minus_iou(wrong)
        values.append(value)
        shares.append(class_weight[k])
    return np.average(values, weights=shares)


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_lovasz_equals_its_definition(case, per_image, weighted):
    logits, labels, weight, class_weight = case
    labels = torch.where(labels == 2, torch.tensor([2, 1])[:, None, None], labels)
    assert not (labels[1] == 2).any()  # a class that only the other image has
    if not weighted:
        weight, class_weight = torch.ones_like(weight), torch.ones(3)
    options = (weight,) if weighted else ()
    found = LovaszLoss(per_image, class_weight if weighted else None)(logits, labels, *options)

    p = torch.softmax(logits.double(), dim=1).permute(0, 2, 3, 1).numpy()
    valid, w = labels.numpy() >= 0, weight.double().numpy()
    groups = [[0], [1]] if per_image else [[0, 1]]
    expected = np.mean([
        lovasz_by_hand(
            p[g][valid[g]], labels.numpy()[g][valid[g]], w[g][valid[g]], class_weight.numpy()
        )
        for g in groups
    ])  # fmt: skip
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("per_image", [False, True])
def test_lovasz_of_hard_answers_is_one_minus_iou(per_image):
    rng = np.random.default_rng(0)
    labels, found = rng.integers(-1, 4, (3, 6, 7)), rng.integers(0, 5, (3, 6, 7))
    labels[labels == 1] = 0  # class 1 is absent
    logits = 200 * F.one_hot(torch.tensor(found), 5).permute(0, 3, 1, 2).float()

    def mean_iou(labels, found):
        found = np.where(labels < 0, -1, found)
        return np.mean([
            ((labels == k) & (found == k)).sum() / ((labels == k) | (found == k)).sum()
            for k in np.unique(labels[labels >= 0])
        ])  # fmt: skip

    if per_image:
        expected = 1 - np.mean([mean_iou(*pair) for pair in zip(labels, found)])
    else:
        expected = 1 - mean_iou(labels, found)
    value = LovaszLoss(per_image)(logits, torch.tensor(labels))
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_lovasz_skips_images_without_labels(case):
    logits, labels, weight, _ = case
    nothing = torch.full_like(labels[:1], -1)
    expected = LovaszLoss()(logits[:1], labels[:1], weight[:1])
    found = LovaszLoss(per_image=True)(logits, torch.cat([labels[:1], nothing]), weight)
    torch.testing.assert_close(found, expected)


def test_lovasz_keeps_its_digits_on_many_pixels():
    rng = np.random.default_rng(0)
    true, weight = rng.random((1, 300_000)) < 0.3, rng.uniform(0.5, 1, (1, 300_000))
    found = _jaccard_steps(torch.tensor(true), torch.tensor(weight, dtype=torch.float32))
    missed, wrong = weight * true, weight * ~true
    left = missed.sum() - missed.cumsum()
    steps = np.diff(1 - left / (missed.sum() + wrong.cumsum()), prepend=0.0)
    # Where nothing is left to lose, both are rounding.
    np.testing.assert_allclose(found[0, :-1000], steps[:-1000], rtol=1e-3)


def test_lovasz_of_tiny_beside_huge_weights_is_finite():
    logits = torch.randn(1, 2, 3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.zeros(1, 3, 3, dtype=torch.int64)
    labels[0, 0, 0] = 1
    weight = torch.full((1, 3, 3), 1e8)
    weight[0, 0, 0] = 1e-8
    value = LovaszLoss()(logits, labels, weight)
    value.backward()
    assert 0 <= float(value.detach()) <= 1
    assert torch.isfinite(logits.grad).all()


# --- hard examples ------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("min_kept", [1, 7, 20, 1000])
def test_ohem_equals_a_plain_choice(case, threshold, min_kept):
    logits, labels, weight, class_weight = case
    weight = torch.where(weight < 0.2, 0.0, weight)
    p = torch.softmax(logits.double(), dim=1).permute(0, 2, 3, 1).numpy()
    pixels = sorted(
        (p[at][labels[at]], float(weight[at] * class_weight[labels[at]]))
        for at in np.ndindex(labels.shape)
        if labels[at] >= 0 and weight[at] > 0
    )
    kept = [pixel for i, pixel in enumerate(pixels) if i < min_kept or pixel[0] < threshold]
    expected = -sum(w * np.log(q) for q, w in kept) / sum(w for _, w in kept)
    loss = OhemCrossEntropyLoss(threshold, min_kept, class_weight)
    assert float(loss(logits, labels, weight)) == pytest.approx(expected, rel=1e-5)


def test_ohem_of_all_pixels_is_cross_entropy(case):
    logits, labels, weight, class_weight = case
    expected = CrossEntropyLoss(class_weight)(logits, labels, weight)
    for options in ({"min_kept": 40}, {"threshold": 1.0, "min_kept": 1}):
        loss = OhemCrossEntropyLoss(class_weight=class_weight, **options)
        torch.testing.assert_close(loss(logits, labels, weight), expected)


def test_ohem_gives_easy_pixels_no_gradient_and_equals_a_place():
    labels = torch.zeros(1, 1, 6, dtype=torch.int64)
    margins = torch.tensor([5.0, 0.1, 5.0, 3.0, 3.0, -1.0])  # of the true class
    logits = torch.stack([margins, torch.zeros(6)])[None, :, None].requires_grad_()
    OhemCrossEntropyLoss(0.5, min_kept=3)(logits, labels).backward()
    # -1 is below the threshold; 0.1 and 3 are the next hard, and the other 3 is as hard.
    assert (logits.grad[0, 0, 0] != 0).tolist() == [False, True, False, True, True, True]


@pytest.mark.parametrize("options", [{"threshold": 0.0}, {"threshold": 1.1}, {"min_kept": 0}])
def test_ohem_refuses_bad_parameters(options):
    with pytest.raises(ValueError, match=r"OhemCrossEntropyLoss: (threshold|min_kept) is"):
        OhemCrossEntropyLoss(**options)


# --- all ----------------------------------------------------------------------------------


def test_multi_equals_plain_sums(case):
    logits, labels, weight, class_weight = case
    p = torch.softmax(logits.double(), dim=1).numpy()
    w = weight.double().numpy() * (labels.numpy() >= 0)
    y = (labels.numpy()[:, None] == np.arange(3)[None, :, None, None]) * w[:, None]
    both, total = (y * p).sum((2, 3)), (y + w[:, None] * p).sum((2, 3))
    dice = (1 - (2 * both + 1) / (total + 1)) @ (class_weight.numpy() / class_weight.numpy().sum())
    focal = by_hand(*case, lambda p, k: -((1 - p[k]) ** 2) * np.log(p[k]))
    expected = by_hand(*case, bce) + focal + dice.mean()
    found = MultiLoss(class_weight=class_weight)(logits, labels, weight)
    assert float(found) == pytest.approx(expected, rel=1e-5)


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


def test_auxiliary_heads_count_for_a_part():
    first, second = (
        torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(i)) for i in (0, 1)
    )
    labels = torch.arange(40).reshape(2, 4, 5) % 4 - 1
    loss = CrossEntropyLoss()
    both = AuxiliaryLoss(loss, 0.3)((first, second), labels)
    torch.testing.assert_close(both, loss(first, labels) + 0.3 * loss(second, labels))
    assert torch.equal(AuxiliaryLoss(loss)(first, labels), loss(first, labels))
