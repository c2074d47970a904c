import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from segalgos import ContourNet, UCMSegmenter, datasets, net_contours
from segalgos.contours._partitions import contour_targets
from segalgos.contours.contour_net import _loss, _oriented
from segalgos.nets.side_output_net import ContourLogits

SMALL = {"batch_size": 2, "crop_size": 32, "random_state": 0}


def stripes(vertical):
    """A wide stripe across the image, and which pixel is of it."""
    labels = np.zeros((64, 64), np.int32)
    labels[24:40] = 1
    labels = labels.T.copy() if vertical else labels
    return np.repeat(np.where(labels, 0.8, 0.2)[..., None], 3, axis=-1), labels


@pytest.fixture(scope="module")
def net():
    images, labels = zip(*(stripes(vertical) for vertical in (False, True)), strict=True)
    net = ContourNet(
        epochs=60, learning_rate=3e-3, augment=False, crop_size=64, batch_size=4, random_state=0
    )
    return net.fit(list(images), list(labels))


# --- targets and loss --------------------------------------------------------------------


def test_targets_are_shares_of_those_who_know():
    labels = np.zeros((25, 6, 3), np.int32)
    labels[:, 3:, :2] = 1  # two of three draw a contour between columns 2 and 3
    labels[24] = -1
    target = contour_targets(labels)
    np.testing.assert_allclose(target[0, 0], [0, 0, 2 / 3, 2 / 3, 0, 0])
    assert (target[0, 24] == -1).all()
    np.testing.assert_allclose(target[1:, 5, 2], [-1, 0], atol=1e-6)  # upright: 2 * 90 degrees
    assert (target[1:, :, 0] == 0).all()
    labels[:, :, 2] = -1  # of the third nothing is known
    np.testing.assert_allclose(contour_targets(labels)[0, 0], [0, 0, 1, 1, 0, 0])


def test_direction_is_counted_against_the_clock():
    rows, columns = np.mgrid[:21, :21]
    labels = (rows + columns > 20).astype(np.int32)[..., None]  # a contour that rises to the right
    target = contour_targets(labels)
    np.testing.assert_allclose(target[1:, 10, 10], [0, 1], atol=0.05)  # 2 * 45 degrees


def logits(seed, shape=(2, 8, 9)):
    generator = torch.Generator().manual_seed(seed)
    n, *size = shape
    draw = [torch.randn(n, c, *size, generator=generator) for c in (1, 4, 2)]
    return ContourLogits(*(values.requires_grad_() for values in draw))


def test_loss_by_its_definition():
    found, rng = logits(0), np.random.default_rng(0)
    share = rng.random((2, 1, 8, 9)).astype(np.float32)
    angle = rng.random((2, 1, 8, 9)).astype(np.float32) * np.pi
    target = np.concatenate([share, np.cos(2 * angle), np.sin(2 * angle)], axis=1)
    loss = _loss(found, torch.from_numpy(target), None)
    joined, sides, v = (values.detach().double().numpy() for values in found)

    def entropy(x):
        p = 1 / (1 + np.exp(-x))
        return -(share * np.log(p) + (1 - share) * np.log(1 - p)).mean()

    v = v / np.sqrt(1 + (v**2).sum(axis=1, keepdims=True))
    off = (((v - target[:, 1:]) ** 2).sum(axis=1) * share[:, 0]).sum() / share.sum()
    expected = entropy(joined) + 0.5 * entropy(sides) + 0.2 * off
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_unknown_pixels_are_inert():
    found = logits(1)
    target = torch.zeros(2, 3, 8, 9)
    target[:, 0] = 0.5
    target[:, 0, :4] = -1
    _loss(found, target, None).backward()
    for values in found:
        assert (values.grad[:, :, :4] == 0).all()
    assert (found.joined.grad[:, :, 4:] != 0).any()


def test_loss_of_nothing_known_is_zero():
    assert _loss(logits(2), torch.full((2, 3, 8, 9), -1.0), None).item() == 0


def test_orientations_by_their_definition():
    rng = np.random.default_rng(0)
    strength, angle, length = rng.random((3, 5, 6), np.float32)
    angle *= np.pi
    direction = length * np.stack([np.cos(2 * angle), np.sin(2 * angle)])
    away = angle - np.arange(8)[:, None, None] * np.pi / 8
    expected = strength * (1 - length * np.sin(away) ** 2)
    np.testing.assert_allclose(_oriented(strength, direction), expected, atol=1e-6)


# --- learning ----------------------------------------------------------------------------


def test_it_learns_where_contours_are_and_how_they_run(net):
    assert net.history_[-1]["loss"] < 0.5 * net.history_[0]["loss"]
    for vertical in (False, True):
        image, labels = stripes(vertical)
        strength, strengths = net.predict(image), net.predict_oriented(image)
        assert strengths.shape == (8, 64, 64)
        assert strengths.max(axis=0).max() <= strength.max()
        drawn = contour_targets(labels[..., None])[0] > 0
        assert strength[drawn].mean() > 3 * strength[~drawn].mean()
        assert strengths[:, drawn].mean(axis=1).argmax() == (4 if vertical else 0)


def test_thin_contours_are_lines(net):
    image, _ = stripes(vertical=False)
    thin = net.predict(image, thin=True)
    strong = thin > thin.max() / 2
    assert (strong[:, 8:-8].sum(axis=0) == 2).all()  # both sides of the stripe


def test_same_seed_same_weights_through_a_checkpoint(tmp_path):
    image, labels = stripes(vertical=True)

    def train(epochs, checkpoint=None, stop=None):
        def halt(row):
            if row["epoch"] == stop:
                raise KeyboardInterrupt

        net = ContourNet(epochs=epochs, checkpoint=checkpoint, on_epoch_end=halt, **SMALL)
        return net.fit(image, [labels, labels])

    whole = train(2)
    with pytest.raises(KeyboardInterrupt):
        train(2, tmp_path / "state.pt", stop=1)
    resumed = train(2, tmp_path / "state.pt")
    for name, values in whole.network_.state_dict().items():
        assert torch.equal(values, resumed.network_.state_dict()[name]), name


def test_validation_keeps_the_best_epoch():
    images, labels = zip(*(stripes(vertical) for vertical in (False, True)), strict=True)
    net = ContourNet(epochs=2, validation_fraction=0.5, **SMALL).fit(list(images), list(labels))
    assert 0 <= max(row["score"] for row in net.history_) <= 1


# --- images ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (33, 2), (37, 61)])
def test_any_size(net, size):
    image = np.random.default_rng(0).random((*size, 3))
    assert net.predict(image).shape == size
    assert net.predict_oriented(image).shape == (8, *size)
    assert net.predict(image, thin=True).shape == size


def test_units_and_grey_images_make_no_difference(net):
    image = np.random.default_rng(0).integers(0, 256, (40, 30), np.uint8)
    image[0, 0] = 255
    expected = net.predict(image)
    np.testing.assert_allclose(net.predict(image / 255), expected, atol=1e-4)
    np.testing.assert_array_equal(net.predict(np.repeat(image[..., None], 3, -1)), expected)
    quiet = clone(net).set_params(data_range=510).set_arrays(net.get_arrays())
    np.testing.assert_allclose(
        quiet.predict(image * 2.0),
        clone(net).set_arrays(net.get_arrays()).predict(image),
        atol=1e-4,
    )


def test_windows_of_a_large_image_are_blended(net):
    image, _ = stripes(vertical=True)
    image = np.tile(image, (3, 3, 1))
    tiled = clone(net).set_params(tile_size=96).set_arrays(net.get_arrays()).predict(image)
    whole = clone(net).set_arrays(net.get_arrays()).predict(image)
    assert np.abs(tiled - whole).mean() < 0.05
    assert np.corrcoef(tiled.ravel(), whole.ravel())[0, 1] > 0.9


def test_scales_are_averaged(net):
    image, labels = stripes(vertical=True)
    both = clone(net).set_params(scales=(0.5, 1.0)).set_arrays(net.get_arrays())
    strength = both.predict(image)
    drawn = contour_targets(labels[..., None])[0] > 0
    assert strength[drawn].mean() > 1.5 * strength[~drawn].mean()


def test_many_images_give_a_list(net):
    images = [stripes(vertical)[0] for vertical in (False, True)]
    for one, image in zip(net.predict(images), images, strict=True):
        np.testing.assert_array_equal(one, net.predict(image))


# --- model files -------------------------------------------------------------------------


def test_rounded_weights_are_near(net):
    other = ContourNet().set_arrays(net.get_arrays())
    own = other.network_.state_dict()
    for name, values in net.network_.state_dict().items():
        if values.ndim >= 2:
            largest = values.flatten(1).abs().amax(dim=1)
            off = (own[name] - values).flatten(1).abs().amax(dim=1)
            assert (off <= largest / 254 * 1.001 + 1e-12).all(), name
        elif not name.endswith("num_batches_tracked"):
            assert torch.equal(own[name], values), name
    image, _ = stripes(vertical=True)
    assert np.abs(other.predict(image) - net.predict(image)).max() < 0.1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda arrays: arrays.update(integers=arrays["integers"][:-1]),
        lambda arrays: arrays.update(integers=arrays["integers"].astype(np.int16)),
        lambda arrays: arrays.update(scales=arrays["scales"] * np.nan),
        lambda arrays: arrays.update(numbers=arrays["numbers"][None]),
    ],
)
def test_damaged_files_are_refused(net, spoil):
    arrays = net.get_arrays()
    spoil(arrays)
    with pytest.raises(ValueError, match="not those of a contour net"):
        ContourNet().set_arrays(arrays)


# --- bad input ---------------------------------------------------------------------------


def test_errors_name_what_came():
    image, labels = stripes(vertical=True)
    net = ContourNet(epochs=1, **SMALL)
    with pytest.raises(NotFittedError):
        net.predict(image)
    with pytest.raises(ValueError, match=r"ContourNet: 2 images but labels is 1"):
        net.fit([image, image], [labels])
    with pytest.raises(ValueError, match=r"labels\[0\]"):
        net.fit(image, labels[:5])
    with pytest.raises(ValueError, match="no pixel is known"):
        net.fit(image, np.full_like(labels, -1))
    with pytest.raises(ValueError, match="channels"):
        net.fit(image[..., :2], labels)
    with pytest.raises(TypeError, match="scales is 1"):
        ContourNet(scales=1).fit(image, labels)
    with pytest.raises(TypeError, match="no parameter is called 'epoch'"):
        ContourNet(epoch=1)


# --- the network that comes with the library ---------------------------------------------


def test_shipped_network_finds_what_it_has_never_seen():
    sample = datasets.load("shapes")[0]
    strengths = net_contours(sample.image)
    strength = strengths.max(axis=0)
    drawn = contour_targets(sample.labels[..., None])[0] > 0
    assert strengths.shape == (8, *sample.image.shape[:2])
    assert 0 <= strengths.min() <= strengths.max() <= 1
    assert strength[drawn].mean() > 4 * strength[~drawn].mean()


def test_shipped_network_is_not_changed_by_training():
    image, labels = stripes(vertical=True)
    before = net_contours(image)
    ContourNet.shipped(epochs=1, **SMALL).fit(image, labels)
    np.testing.assert_array_equal(net_contours(image), before)


def test_mask_hides_contours():
    image, _ = stripes(vertical=True)
    mask = np.ones((64, 64), bool)
    mask[:, :32] = False
    strengths = net_contours(image, mask=mask)
    assert (strengths[:, ~mask] == 0).all()
    assert strengths[:, mask].max() > 0
    labels = UCMSegmenter("net", n_segments=2).predict(image, mask=mask)
    assert (labels[~mask] == -1).all()
    assert len(np.unique(labels[mask])) == 2


def test_regions_follow_what_differs():
    image, _ = stripes(vertical=True)
    found = UCMSegmenter("net", n_segments=3).predict(image)
    assert len(np.unique(found)) == 3
    assert len(np.unique(found[:, 28:36])) == 1  # the stripe
