import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segalgos.training import dense_contrast
from segalgos.training.augment import Augmentation
from segalgos.training.dense_contrast import DenseContrast, dense_contrast_loss
from segalgos.training.fused_maps import FusedMaps
from segalgos.training.masked_images import MaskedImages, masked_image_loss
from segalgos.training.self_supervised import embedding_std, look_of, settle_norms, train_encoder
from segalgos.training.views import ViewSampler


class Pyramid(nn.Module):
    """Maps at strides 4 and 16."""

    channels = (4, 8)
    strides = (4, 16)

    def __init__(self, in_channels=2, seed=0):
        super().__init__()
        self.fine = nn.Conv2d(in_channels, 4, 5, stride=4, padding=2)
        self.coarse = nn.Conv2d(4, 8, 5, stride=4, padding=2)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.2, generator=generator)

    def forward(self, x):
        fine = F.relu(self.fine(x))
        return [fine, F.relu(self.coarse(fine))]


def as_float(window, i):
    return window.astype(np.float32)


def run(encoder, method, **options):
    rng = np.random.default_rng(0)
    images = [rng.normal(size=(48, 40, 2)).astype(np.float32).cumsum(0) / 4 for _ in range(3)]
    options = {"epochs": 2, "batch_size": 4, "crop_size": 32, "augmentation": None} | options
    return train_encoder(encoder, images, method, prepare=as_float, **options)


# --- losses ------------------------------------------------------------------------------


def test_dense_contrast_loss_equals_a_brute_force(monkeypatch):
    monkeypatch.setattr(dense_contrast, "NEAR", 2.1)  # no distance is just as large
    rng = np.random.default_rng(0)
    n, m, d, size = 2, 5, 3, (4, 6)
    maps = torch.tensor(rng.normal(size=(2 * n, d, *size)))
    # Middles of cells, where nothing is interpolated.
    cells = rng.integers(0, size, (n, 2, m, 2))
    points = torch.tensor((cells[..., ::-1] + 0.5) / np.array(size[::-1]) * 2 - 1)
    vectors = np.empty((2, n, m, d))
    for image, view, point in np.ndindex(n, 2, m):
        row, column = cells[image, view, point]
        vector = maps[2 * image + view, :, row, column].numpy()
        vectors[view, image, point] = vector / np.linalg.norm(vector)
    total = 0.0
    for image, view, point in np.ndindex(n, 2, m):
        here = vectors[view, image, point]
        positive = np.exp(here @ vectors[1 - view, image, point] / 0.5)
        negatives = 0.0
        for other, q in np.ndindex(n, m):
            distance = np.linalg.norm(cells[image, 0, point] - cells[other, 0, q])
            if other != image or distance >= 2.1:
                negatives += np.exp(here @ vectors[1 - view, other, q] / 0.5)
        total -= np.log(positive / (positive + negatives))
    found = dense_contrast_loss(maps, points, temperature=0.5)
    assert float(found) == pytest.approx(total / (2 * n * m))


def test_dense_contrast_loss_is_lowest_where_points_are_alike_and_apart():
    rng = np.random.default_rng(0)
    points = torch.tensor(rng.uniform(-1, 1, (1, 1, 30, 2))).repeat(1, 2, 1, 1)
    apart = torch.tensor(rng.normal(size=(1, 16, 12, 12))).repeat(2, 1, 1, 1)
    collapsed = torch.ones(2, 16, 12, 12, dtype=torch.float64)
    other = torch.tensor(rng.normal(size=(2, 16, 12, 12)))
    losses = [float(dense_contrast_loss(maps, points)) for maps in (apart, collapsed, other)]
    assert losses[0] < losses[1] < losses[2]


def test_masked_image_loss_sees_hidden_pixels_alone_and_any_brightness():
    rng = np.random.default_rng(0)
    images = torch.tensor(rng.normal(size=(1, 2, 8, 8)))
    hidden = torch.zeros(1, 8, 8, dtype=torch.float64)
    hidden[:, :4, 4:] = 1
    square = images[0, :, :4, 4:]
    mean, variance = square.mean((1, 2)), square.var((1, 2), correction=0)
    target = (square - mean[:, None, None]) / (variance + 0.01).sqrt()[:, None, None]
    painted = torch.zeros(1, 2, 8, 8, dtype=torch.float64)
    expected = target.square().mean()
    assert masked_image_loss(painted, images, hidden, 4) == pytest.approx(float(expected))
    painted[:, :, 4:] = 100  # what is seen is not scored
    assert masked_image_loss(painted, images, hidden, 4) == pytest.approx(float(expected))
    brighter = masked_image_loss(painted, images + 3, hidden, 4)
    assert brighter == pytest.approx(float(expected))


# --- modules -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 32), (48, 16), (33, 9)])
def test_fused_maps_lie_on_cells_of_eight_pixels(size):
    fused = FusedMaps(Pyramid(), 6)
    assert fused(torch.rand(2, 2, *size)).shape == (2, 6, -(-size[0] // 8), -(-size[1] // 8))


def test_all_of_the_encoder_learns():
    encoder = Pyramid()
    FusedMaps(encoder, 6)(torch.rand(2, 2, 32, 32)).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in encoder.parameters())


def test_masked_images_hide_whole_squares_from_the_encoder():
    task = MaskedImages(Pyramid(), 2)
    assert task.square == 32
    image = np.random.default_rng(0).random((128, 128, 2), np.float32)
    sampler = ViewSampler([image], shape=(128, 128), prepare=as_float)
    inputs, views, hidden = task.draw(sampler, np.random.default_rng(0), 3)
    squares = F.avg_pool2d(hidden[:, None], 32)
    assert set(squares.unique().tolist()) == {0.0, 1.0}
    assert squares.sum((1, 2, 3)).tolist() == [10, 10, 10]  # 60 % of 16
    seen = []
    task.fused.encoder.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    task.eval()(inputs)
    shown = hidden[:, None].expand_as(views) == 0
    assert torch.equal(seen[0][shown], views[shown])
    assert (seen[0][~shown] == 0).all()  # the colour that is learned starts in the middle


def test_embedding_std_is_one_for_spread_directions_and_zero_for_one():
    spread = torch.randn(4, 32, 16, 16, generator=torch.Generator().manual_seed(0))
    assert embedding_std(spread) == pytest.approx(1, abs=0.02)
    assert embedding_std(100 * spread) == pytest.approx(embedding_std(spread))
    assert embedding_std(torch.rand(4, 1, 8, 8) * torch.ones(1, 32, 1, 1)) < 1e-5


# --- training ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dense", "masked"])
def test_training_changes_the_encoder_and_lowers_the_loss(method):
    encoder = Pyramid()
    history = run(encoder, method, epochs=40, learning_rate=0.01)
    assert history[-1]["loss"] < 0.97 * history[0]["loss"]
    assert all(0 < row["embedding_std"] < 1.1 for row in history)
    before = Pyramid().state_dict()
    assert all(not torch.equal(before[k], v) for k, v in encoder.state_dict().items())


@pytest.mark.parametrize("method", ["dense", "masked"])
def test_the_same_seed_gives_the_same_weights_also_after_a_kill(method, tmp_path):
    whole, again, other, killed = (Pyramid() for _ in range(4))
    history = run(whole, method, epochs=3, seed=1)
    run(again, method, epochs=3, seed=1)
    run(other, method, epochs=3, seed=2)

    class Killed(Exception):
        pass

    def kill(row):
        if row["epoch"] == 2:
            raise Killed

    path = tmp_path / "run"
    with pytest.raises(Killed):
        run(killed, method, epochs=3, seed=1, checkpoint=path, on_epoch_end=kill)
    killed = Pyramid()
    resumed = run(killed, method, epochs=3, seed=1, checkpoint=path)
    assert [row["embedding_std"] for row in resumed] == [row["embedding_std"] for row in history]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
        assert torch.equal(tensor, killed.state_dict()[name])
        assert not torch.equal(tensor, other.state_dict()[name])


def test_norms_have_the_statistics_of_images_as_they_are():
    encoder = nn.Sequential(nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4, momentum=0.3), nn.Dropout(0.5))
    image = np.random.default_rng(0).normal(3, 2, (40, 40, 2)).astype(np.float32)
    sampler = ViewSampler([image], shape=(40, 40), prepare=as_float)
    settle_norms(encoder, sampler, seed=1)
    convolved = encoder[0](torch.from_numpy(image).permute(2, 0, 1)[None])
    expected = torch.nn.BatchNorm2d(4, momentum=None)
    expected(convolved)
    torch.testing.assert_close(encoder[1].running_mean, expected.running_mean)
    torch.testing.assert_close(encoder[1].running_var, expected.running_var, rtol=1e-3, atol=0)
    assert encoder[1].momentum == 0.3
    assert not encoder.training


def test_what_methods_change_of_augmentations():
    plain, upright = (look_of(value, "dense", "here") for value in (True, "upright"))
    assert plain == Augmentation(**DenseContrast.look)
    assert not upright.flip_rows
    assert upright.colour == DenseContrast.look["colour"]
    assert look_of(True, "masked", "here").colour == 0
    assert look_of({"colour": 0.9}, "dense", "here").colour == 0.9
    assert look_of(False, "dense", "here") is None
    with pytest.raises(ValueError, match="here: augment names 'hue'"):
        look_of({"hue": 1}, "dense", "here")
