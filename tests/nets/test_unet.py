"""The U-Net against a plain re-computation, and what its segmenter promises."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from segalgos.nets import prediction
from segalgos.nets.unet import UNet, UNetSegmenter
from segalgos.parallel import thread_limit
from segalgos.persistence import load, save

# --- the network --------------------------------------------------------------------------


def random_input(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape), dtype=torch.float32)


def make(in_channels=2, n_classes=3, **options):
    options = {"base_channels": 4, "depth": 2} | options
    return UNet(in_channels, n_classes, generator=torch.Generator().manual_seed(0), **options)


def recompute(weights, x, depth, padding, batch_norm):
    """The paper's figure, written as one plain function of the weights."""

    def convolve(x, name, number):
        x = F.conv2d(
            x, weights[f"{name}.conv{number}.weight"], weights.get(f"{name}.conv{number}.bias"),
            padding=0 if padding == "valid" else 1,
        )  # fmt: skip
        if batch_norm:
            mean, var, gain, bias = (
                weights[f"{name}.norm{number}.{key}"][:, None, None]
                for key in ("running_mean", "running_var", "weight", "bias")
            )
            x = (x - mean) / torch.sqrt(var + 1e-5) * gain + bias
        return x.clamp(min=0)

    skips = []
    for step in range(depth + 1):
        if step:
            skips.append(x)
            n, c, h, w = x.shape
            x = x.reshape(n, c, h // 2, 2, w // 2, 2).amax((3, 5))
        x = convolve(convolve(x, f"down.{step}", 1), f"down.{step}", 2)
    for step in range(depth):
        kernel, bias = weights[f"up.{step}.up.weight"], weights[f"up.{step}.up.bias"]
        n, _, h, w = x.shape
        x = torch.einsum("nihw,ioab->nohawb", x, kernel).reshape(n, -1, 2 * h, 2 * w)
        x = x + bias[:, None, None]
        skip = skips.pop()
        cut = (skip.shape[2] - x.shape[2]) // 2
        if cut:
            skip = skip[:, :, cut:-cut, cut:-cut]
        x = torch.cat([skip, x], 1)
        x = convolve(convolve(x, f"up.{step}.convs", 1), f"up.{step}.convs", 2)
    return torch.einsum("nihw,oi->nohw", x, weights["head.weight"][:, :, 0, 0]) + weights[
        "head.bias"
    ].reshape(-1, 1, 1)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_output_equals_a_plain_recomputation(padding, batch_norm, depth):
    network = make(depth=depth, padding=padding, batch_norm=batch_norm).eval()
    rng = np.random.default_rng(1)
    with torch.no_grad():  # also biases and statistics that are not 0 and 1
        for tensor in network.state_dict().values():
            if tensor.ndim == 1:
                tensor.copy_(torch.tensor(rng.uniform(0.5, 1.5, tensor.shape)))
    size = network.fit_size(9) + 2 * network.margin
    x = random_input(2, 2, size, size)
    with torch.inference_mode():
        found = network(x)
        expected = recompute(network.state_dict(), x, depth, padding, batch_norm)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def count_by_hand(channels, classes, base, depth):
    """Weights and biases of every arrow in Fig. 1."""
    conv = lambda c_in, c_out, k: k * k * c_in * c_out + c_out  # noqa: E731
    widths = [base * 2**i for i in range(depth + 1)]
    total = conv(base, classes, 1)
    for c_in, c_out in zip([channels, *widths], widths):
        total += conv(c_in, c_out, 3) + conv(c_out, c_out, 3)
    for c_out, c_in in itertools.pairwise(widths):
        total += conv(c_in, c_out, 2) + conv(2 * c_out, c_out, 3) + conv(c_out, c_out, 3)
    return total


def test_sizes_of_the_paper():
    with torch.device("meta"):
        network = UNet(1, 2)
        assert network(torch.empty(1, 1, 572, 572)).shape == (1, 2, 388, 388)
    n_parameters = sum(p.numel() for p in network.parameters())
    assert n_parameters == count_by_hand(1, 2, 64, 4) == 31_030_658
    assert network.margin == 92
    assert network.fit_size(388) == 388
    assert network.fit_size(389) == 404
    assert [block.convs.conv1.in_channels for block in network.up] == [1024, 512, 256, 128]
    assert sum(isinstance(m, (torch.nn.Conv2d, torch.nn.ConvTranspose2d))
               for m in network.modules()) == 23  # fmt: skip


def test_initial_weights_have_the_variance_of_he():
    network = UNet(8, 8, base_channels=32, depth=1)
    for module, fan_in in [
        (network.down[0].conv2, 32 * 9),
        (network.down[1].conv2, 64 * 9),
        (network.up[0].convs.conv1, 64 * 9),
        (network.up[0].up, 64),
    ]:
        assert module.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
        assert (module.bias == 0).all()
    a, b = make().state_dict(), make().state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_fit_size_is_the_smallest_that_works(padding):
    with torch.device("meta"):
        network = UNet(2, 3, depth=2, padding=padding, base_channels=1)
    for size in range(1, 24):
        fitting = network.fit_size(size)
        assert size <= fitting < size + (4 if size > 4 else 5)
        n = fitting + 2 * network.margin
        assert network(torch.empty(1, 2, n, n, device="meta")).shape == (1, 3, fitting, fitting)


@pytest.mark.parametrize(("padding", "fitting"), [("valid", 44), ("same", 44)])
def test_sizes_that_do_not_pool_are_refused(padding, fitting):
    with pytest.raises(ValueError, match=rf"does not pool evenly: pad 43 to {fitting}"):
        make(padding=padding)(torch.zeros(1, 2, fitting, 43))


def test_a_valid_network_is_equivariant_to_shifts_by_its_stride():
    network = make(depth=2).eval()
    x = random_input(1, 2, 76, 92)
    with torch.inference_mode():
        whole = network(x)
        part = network(x[:, :, 4:64, 12:72])
    torch.testing.assert_close(part, whole[:, :, 4:24, 12:32], rtol=0, atol=1e-5)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_the_halo_bounds_what_an_output_depends_on(padding):
    network = make(depth=2, padding=padding, dropout=0.0)
    n = network.fit_size(60) + 2 * network.margin
    x = random_input(1, 2, n, n).requires_grad_()
    y = network(x)
    at = y.shape[2] // 2
    y[0, :, at, at].sum().backward()
    rows = x.grad.abs().sum((0, 1, 3)).nonzero().flatten() - network.margin - at
    assert -network.halo <= int(rows.min())
    assert int(rows.max()) <= network.halo
    assert int(rows.max()) - int(rows.min()) > network.halo


def test_dropout_works_in_training_only():
    network, x = make(dropout=0.5, padding="same"), random_input(1, 2, 16, 16)
    network.train()
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_load_checkpoint():
    a, b = make(), UNet(2, 3, base_channels=4, depth=2)
    x = random_input(1, 2, 44, 44)
    assert b.load_checkpoint(a.state_dict()) is b
    assert torch.equal(a.eval()(x), b.eval()(x))
    with pytest.raises(ValueError, match="UNet: the checkpoint misses 10 of the network's names"):
        make(depth=3).load_checkpoint(a.state_dict())
    with pytest.raises(ValueError, match="UNet: the checkpoint has left over 10"):
        make(depth=1).load_checkpoint(a.state_dict())


def test_unknown_padding_is_refused():
    with pytest.raises(ValueError, match="UNet: padding is 'reflect', expected one of 'valid'"):
        make(padding="reflect")


# --- the segmenter ------------------------------------------------------------------------


def scene(height=40, width=48, seed=0):
    """A bright disc (class 7) on noise (class 2), and some pixels unlabelled."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:height, :width]
    inside = (row - height / 2) ** 2 + (column - width / 2) ** 2 < (min(height, width) / 3) ** 2
    image = rng.normal(100, 10, (height, width, 3)) + 60 * inside[..., None]
    labels = np.where(inside, 7, 2).astype(np.int32)
    labels[:3] = -1
    return image.astype(np.uint8), labels


def small(**options):
    return UNetSegmenter.small().set_params(**options)


@pytest.fixture(scope="module")
def fitted():
    return small(epochs=30).fit(*scene())


def test_learns_a_simple_scene(fitted):
    image, labels = scene(seed=1)
    assert fitted.classes_.tolist() == [2, 7]
    assert fitted.score(image, labels) > 0.9
    proba = fitted.predict_proba(image)
    assert proba.dtype == np.float32
    np.testing.assert_allclose(proba.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(fitted.classes_[proba.argmax(-1)], fitted.predict(image))
    assert fitted.n_parameters_ == sum(p.numel() for p in fitted.network_.parameters())
    assert len(fitted.history_) == 30


@pytest.mark.parametrize("options", [
    {"padding": "same"}, {"batch_norm": True, "padding": "same"}, {"loss": "dice"},
    {"loss": "focal"}, {"loss": "multi"}, {"class_weight": "balanced"},
    {"class_weight": {1: 2.0}},
], ids=str)  # fmt: skip
def test_options_learn_too(options):
    image, labels = scene()
    segmenter = small(epochs=30, random_state=2, **options).fit(image, labels)
    assert segmenter.score(image, labels) > 0.85


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 1000), (1000, 1), (31, 37), (2, 2)])
def test_any_size_trains_and_predicts(padding, shape):
    rng = np.random.default_rng(0)
    image, labels = rng.random(shape), rng.integers(0, 3, shape)
    segmenter = small(padding=padding, epochs=1, depth=2).fit(image, labels)
    found = segmenter.predict(image)
    assert found.shape == shape
    assert found.dtype == np.int32


def test_batch_norm_works_on_a_single_pixel():
    segmenter = small(padding="same", batch_norm=True, batch_size=1, epochs=2)
    assert segmenter.fit([[3.0]], [[4]]).predict([[1.0]]).tolist() == [[4]]


def test_images_of_all_sizes_train_together():
    rng = np.random.default_rng(0)
    shapes = [(5, 60), (33, 7), (40, 40)]
    images = [rng.random((*s, 5)) for s in shapes]
    labels = [rng.integers(-1, 2, s) for s in shapes]
    weights = [rng.random(s) for s in shapes]
    segmenter = small(channel_axis=-1, epochs=2).fit(images, labels, sample_weight=weights)
    assert [p.shape for p in segmenter.predict(images)] == shapes


@pytest.mark.parametrize("options", [
    {"padding": "valid", "depth": 1}, {"padding": "valid", "depth": 3},
    {"padding": "same", "depth": 1}, {"padding": "same", "depth": 2, "batch_norm": True},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("tile_size", [9, 16, 37])
def test_tiles_equal_the_whole_image(options, tile_size):
    image = np.random.default_rng(1).random((83, 70, 3)).astype(np.float32)
    segmenter = small(epochs=1, tile_size=1000, **options)
    segmenter.fit(image, (image[..., 0] > 0.5).astype(int))
    network = segmenter.network_
    # The whole image at once, without tiles or windows.
    size = [network.fit_size(n) for n in image.shape[:2]]
    pads = [(network.margin, n + network.margin - m) for n, m in zip(size, image.shape)]
    padded = np.pad(segmenter._standardiser(image)(image), [*pads, (0, 0)], mode="symmetric")
    with torch.inference_mode():
        logits = network(torch.tensor(padded).permute(2, 0, 1)[None])[0, :, :83, :70]
    expected = logits.softmax(0).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(segmenter.predict_proba(image), expected, atol=1e-5)
    segmenter.set_params(tile_size=tile_size)
    assert len(prediction._tiles(network, (83, 70), tile_size)) > 3
    np.testing.assert_allclose(segmenter.predict_proba(image), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (513, 512), (1, 3000), (640, 480), (37, 200)])
@pytest.mark.parametrize("tile_size", [1, 64, 512])
def test_tiles_cover_an_image_once(size, tile_size):
    network = make(base_channels=1)
    covered = np.zeros(size, int)
    for rows, columns in prediction._tiles(network, size, tile_size):
        assert rows.start % network.stride == columns.start % network.stride == 0
        covered[rows, columns] += 1
        limit = -(-tile_size // network.stride) * network.stride
        assert max(rows.stop - rows.start, columns.stop - columns.start) <= limit
    assert (covered == 1).all()


@pytest.mark.parametrize("options", [{}, {"batch_norm": True, "padding": "same"}], ids=str)
def test_same_seed_same_result_for_any_number_of_threads(options):
    image, labels = scene(96, 120)
    options = {"crop_size": 64, "epochs": 4, "batch_size": 4, "base_channels": 8} | options
    results, before = [], torch.get_num_threads()
    try:
        for own, torchs in [(1, 1), (2, 3), (4, 2)]:
            torch.set_num_threads(torchs)
            with thread_limit(own):
                segmenter = small(**options).fit(image, labels)
                results.append((segmenter._get_state()["weights"], segmenter.predict_proba(image)))
            assert torch.get_num_threads() == torchs
    finally:
        torch.set_num_threads(before)
    for weights, proba in results[1:]:
        assert all(np.array_equal(weights[k], results[0][0][k]) for k in weights)
        np.testing.assert_array_equal(proba, results[0][1])
    other = small(random_state=1, **options).fit(image, labels)
    assert not np.array_equal(other.predict_proba(image), results[0][1])


def test_pixels_without_label_or_weight_change_nothing():
    image, labels = scene()
    hidden = labels.copy()
    hidden[20:] = -1
    weight = (hidden >= 0).astype(float)
    options = {"crop_size": 64, "epochs": 3, "augment": False}
    a = small(**options).fit(image, hidden).predict_proba(image)
    other = np.where(hidden < 0, 2, labels)  # another label where the weight is 0
    b = small(**options).fit(image, other, sample_weight=weight).predict_proba(image)
    c = small(**options).fit(image, other).predict_proba(image)
    np.testing.assert_allclose(a, b, atol=1e-4)
    assert np.abs(a - c).max() > 0.01


def test_huge_values_and_constant_images_stay_finite(fitted):
    rng = np.random.default_rng(0)
    image = rng.random((20, 20)).astype(np.float32)
    labels = (image > 0.5).astype(int)
    for huge in (image * np.float32(1e30), np.full((20, 20), 1e30, np.float32)):
        segmenter = small(epochs=2).fit(huge, labels)
        assert np.isfinite(segmenter.predict_proba(huge)).all()
    segmenter = small(epochs=2).fit(image, labels)
    assert np.isfinite(segmenter.predict_proba(image * np.float32(1e38))).all()


def test_scale_of_the_intensities_does_not_matter():
    image, labels = scene()
    a = small(epochs=3).fit(image, labels)
    b = small(epochs=3).fit(image.astype(np.float64) * 1e6 + 1e8, labels)
    np.testing.assert_allclose(
        a.predict_proba(image), b.predict_proba(image * 1e6 + 1e8), atol=1e-2
    )


def test_a_single_class():
    image, labels = scene()
    segmenter = small(epochs=2).fit(image, np.where(labels < 0, -1, 5))
    assert (segmenter.predict(image) == 5).all()
    assert (segmenter.predict_proba(image) == 1).all()


def test_unfitted():
    with pytest.raises(NotFittedError):
        UNetSegmenter.small().predict(scene()[0])


@pytest.mark.parametrize("batch_norm", [False, True])
def test_saved_and_copied_segmenters_predict_the_same(tmp_path, batch_norm):
    image, labels = scene()
    segmenter = small(batch_norm=batch_norm, epochs=2, class_weight="balanced").fit(image, labels)
    expected = segmenter.predict_proba(image)
    save(segmenter, tmp_path / "model.segalgos")
    loaded = load(tmp_path / "model.segalgos")
    assert loaded.history_ == segmenter.history_
    assert loaded.get_params() == segmenter.get_params()
    for other in (loaded, copy.deepcopy(segmenter), pickle.loads(pickle.dumps(segmenter))):
        np.testing.assert_array_equal(other.predict_proba(image), expected)
    assert not hasattr(clone(segmenter), "network_")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["weights"].pop("head.bias"), "misses 1"),
        (lambda s: s["weights"].update(more=np.ones(1)), "has left over 1"),
        (lambda s: s["weights"].update({"head.bias": np.ones(5)}), "head.bias has shape"),
        (lambda s: s["weights"]["head.bias"].fill(np.nan), "head.bias holds NaN"),
        (lambda s: s.update(mean_=np.ones(2)), "mean_ is not one finite number a channel"),
        (lambda s: s.update(std_=np.zeros(3)), "std_ is not positive"),
        (lambda s: s.update(classes_=np.array([7, 2], np.int32)), "classes_ is not a sorted"),
    ],
)
def test_damaged_state_is_refused(fitted, change, message):
    state = copy.deepcopy(fitted._get_state())
    change(state)
    with pytest.raises(ValueError, match=message):
        small()._set_state(state)


def test_validation_chooses_the_best_epoch():
    data = [scene(seed=i) for i in range(4)]
    images, labels = [d[0] for d in data], [d[1] for d in data]
    segmenter = small(validation_fraction=0.25, epochs=6).fit(images, labels)
    scores = [row["score"] for row in segmenter.history_ if "score" in row]
    rng = np.random.default_rng(int(np.random.RandomState(0).randint(2**31 - 1)))
    _, held_out = segmenter._split(images, rng)
    assert len(held_out) == 1
    found = segmenter.score(images[held_out[0]], labels[held_out[0]])
    # score counts ids up to the highest; those that are absent do not count
    assert found == pytest.approx(max(scores), abs=1e-6)


def test_resume_from_a_checkpoint(tmp_path, monkeypatch):
    image, labels = scene()
    expected = small(epochs=4).fit(image, labels).predict_proba(image)
    path = tmp_path / "run.pt"

    def stop(self, *args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("segalgos.training.loop._Run.take_step", _after(2, stop))
        with pytest.raises(KeyboardInterrupt):
            small(epochs=4, checkpoint=str(path)).fit(image, labels)
    assert path.exists()
    resumed = small(epochs=4, checkpoint=str(path)).fit(image, labels)
    np.testing.assert_array_equal(resumed.predict_proba(image), expected)
    with pytest.raises(ValueError, match="belongs to another run"):
        small(epochs=4, checkpoint=str(path)).fit(image + 1, labels)


def _after(n, stop):
    """`_Run.take_step`, that stops after n steps."""
    from segalgos.training.loop import _Run

    step, calls = _Run.take_step, []

    def take_step(self, *args):
        calls.append(1)
        return stop(self) if len(calls) > n else step(self, *args)

    return take_step


def test_time_budget_alone_ends_training():
    segmenter = small(epochs=None, time_budget=0.05).fit(*scene())
    assert segmenter.history_[-1]["steps"] >= 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": None}, ValueError, "epochs and time_budget are both None"),
        ({"epochs": 0}, ValueError, "epochs is 0"),
        ({"time_budget": 0}, ValueError, "time_budget is 0"),
        ({"depth": 0}, ValueError, "depth is 0"),
        ({"base_channels": 2.5}, TypeError, "base_channels is 2.5"),
        ({"padding": "full"}, ValueError, "padding is 'full'"),
        ({"loss": "l2"}, ValueError, "loss is 'l2'"),
        ({"class_weight": "even"}, ValueError, "class_weight is 'even'"),
        ({"class_weight": [1, 2, 3]}, ValueError, r"class_weight is \[1, 2, 3\]"),
        ({"class_weight": {1: -1}}, ValueError, r"class_weight\[1\] is -1"),
        ({"class_weight": dict.fromkeys(range(9), 0)}, ValueError, "class_weight is 0 for all"),
        ({"validation_fraction": 0.5}, ValueError, "there is one image"),
        ({"learning_rate": -1}, ValueError, "learning_rate is -1"),
        ({"dropout": 1}, ValueError, "dropout is 1"),
        ({"device": "nowhere"}, ValueError, "device is 'nowhere', which is not here"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
    ],
)
def test_bad_parameters_are_refused(options, error, message):
    with pytest.raises(error, match=f"UNetSegmenter: .*{message}|UNetSegmenter: {message}"):
        small(**options).fit(*scene())


def test_a_failed_fit_leaves_the_segmenter_as_it_was(fitted):
    segmenter = copy.deepcopy(fitted)
    before = segmenter.predict_proba(scene()[0])
    segmenter.set_params(learning_rate=1e30)  # found out only while training
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        segmenter.fit(*scene(seed=3))
    segmenter.set_params(class_weight=dict.fromkeys(range(9), 0))
    with pytest.raises(ValueError, match="class_weight"):
        segmenter.fit(*scene(seed=3))
    np.testing.assert_array_equal(segmenter.predict_proba(scene()[0]), before)


def test_fit_and_predict_leave_torch_and_input_alone():
    image, labels = scene()
    image.setflags(write=False)
    rng, threads = torch.get_rng_state(), torch.get_num_threads()
    segmenter = small(epochs=1).fit(image, labels)
    state = set(vars(segmenter))
    segmenter.predict(image)
    assert set(vars(segmenter)) == state
    assert torch.equal(rng, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_standardized_by_image_light_does_not_matter():
    image, labels = scene()
    dark = (image * 0.02 + 7).astype(np.float32)
    by_image = small(standardize="image").fit([image, dark], [labels, labels])
    np.testing.assert_allclose(
        by_image.predict_proba(image), by_image.predict_proba(dark), atol=1e-3
    )
    # The same tile by tile: the statistics are the image's, not the tile's.
    whole = by_image.predict_proba(image)
    by_image.set_params(tile_size=8)
    np.testing.assert_allclose(by_image.predict_proba(image), whole, atol=1e-4)
