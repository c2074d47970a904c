import numpy as np
import pytest
from skimage import data
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

import segalgos
from segalgos import SVMSegmenter
from segalgos.conformance import checks_for
from segalgos.pixels import segmenter as pixel_segmenter
from segalgos.pixels.sampling import draw_balanced

SMALL = {"scales": (1, 2), "max_samples": 300, "random_state": 0}
VARIANTS = {
    "linear": {"kernel": "linear"},
    "poly": {"kernel": "poly", "coef0": 1.0},
    "sigmoid": {"kernel": "sigmoid", "gamma": 0.02},
    "fourier": {"approximation": "fourier", "n_components": 100},
    "nystroem": {"approximation": "nystroem", "n_components": 50},
    "nystroem poly": {"approximation": "nystroem", "kernel": "poly", "n_components": 50},
    "labels only": {"probability": False},
    "labels only, linear": {"probability": False, "kernel": "linear"},
}


@pytest.fixture(scope="module")
def coins():
    """Background, dark and bright parts of coins, told apart by smoothed intensity."""
    image = data.coins()[:200, :300]
    smooth = segalgos.pixel_features(image, [2])[..., 0]
    return image, np.digitize(smooth, [105, 160]).astype(np.int32)


@pytest.fixture(scope="module")
def fitted(coins):
    return SVMSegmenter(**SMALL).fit(*coins)


def test_learns_from_dense_labels(coins, fitted):
    assert fitted.score(*coins) > 0.8
    assert len(fitted.mean_) == len(fitted.feature_names_)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_learn_and_keep_promises(coins, variant, tmp_path):
    image, truth = coins
    segmenter = SVMSegmenter(**SMALL, **VARIANTS[variant])
    least = 0.5 if variant == "sigmoid" else 0.75
    assert segmenter.fit(image, truth).score(image, truth) > least
    segmenter.save(tmp_path / "model.segalgos")
    again = segalgos.load(tmp_path / "model.segalgos")
    np.testing.assert_array_equal(again.predict_proba(image), segmenter.predict_proba(image))
    wanted = ("check_thread_counts", "check_proba", "check_constant_image", "check_huge_values")
    wanted += ("check_denormal_values", "check_proba_agrees", "check_global_random_state")
    for check in checks_for(segmenter):
        if check.__name__ in wanted:
            check(segmenter)


def _standard_rows(image, labels, scales=(1, 2)):
    rows = segalgos.pixel_features(image, scales)
    rows = rows.reshape(-1, rows.shape[-1]).astype(np.float64)
    return rows[labels.ravel() >= 0], rows, labels.ravel()[labels.ravel() >= 0]


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_without_probabilities_labels_are_those_of_scikit_learn(coins, kernel, n_classes):
    image, truth = coins
    truth = np.minimum(truth, n_classes - 1)
    scribbles = np.full(truth.shape, -1)
    scribbles[::25, ::7] = truth[::25, ::7]
    learned, every, y = _standard_rows(image, scribbles)
    ours = SVMSegmenter(
        kernel, C=3.0, scales=(1, 2), n_rounds=0, probability=False, class_weight={1: 2.0}
    ).fit(image, scribbles)
    scaler = StandardScaler().fit(learned)
    solver = SVC(C=3.0) if kernel == "rbf" else LinearSVC(C=3.0, dual=False)
    solver.fit(scaler.transform(learned), y, np.where(y == 1, 2.0, 1.0))
    expected = solver.predict(scaler.transform(every))
    least = 0.9995 if kernel == "rbf" else 0.995  # liblinear stops early
    assert (ours.predict(image).ravel() == expected).mean() > least


@pytest.mark.parametrize("approximation", ["fourier", "nystroem"])
def test_approximations_come_near_to_the_kernel(coins, approximation):
    image, truth = coins
    options = {"scales": (1, 2), "max_samples": 500, "random_state": 0, "gamma": 0.02}
    features = SVMSegmenter(approximation=approximation, n_components=400, **options)
    rows = segalgos.pixel_features(image, (1, 2))[::20, ::20].reshape(-1, 16)
    rows = ((rows - rows.mean(axis=0)) / rows.std(axis=0)).astype(np.float32)
    rng = np.random.RandomState(0)
    mapped = features._make_solver(rows, rows, rng).args[0].decisions(rows)
    squares = ((rows[:, None] - rows[None]) ** 2).sum(axis=-1)
    error = np.abs(mapped @ mapped.T - np.exp(-0.02 * squares))
    # Random frequencies err by about 1 / sqrt(400), drawn pixels by far less.
    assert error.mean() < (0.05 if approximation == "fourier" else 0.001)
    exact = SVMSegmenter(**options).fit(image, truth).predict(image)
    assert (features.fit(image, truth).predict(image) == exact).mean() > 0.9


def test_probabilities_are_the_frequencies():
    rng = np.random.default_rng(0)
    image = rng.random((150, 150))
    smooth = segalgos.pixel_features(image, [1])[..., 0]
    true = 1 / (1 + np.exp(-20 * (smooth - smooth.mean())))
    labels = (rng.random(image.shape) < true).astype(int)
    model = SVMSegmenter(scales=[1], max_samples=2000, random_state=0).fit(image, labels)
    proba = model.predict_proba(image)[..., 1]
    fresh = rng.random(image.shape) < true  # labels that were not learned from
    for low in np.arange(0, 1, 0.2):
        inside = (proba >= low) & (proba < low + 0.2)
        assert abs(fresh[inside].mean() - proba[inside].mean()) < 0.1


def test_tiles_change_nothing(coins, fitted, monkeypatch):
    image, _ = coins
    whole = fitted.predict_proba(image)
    monkeypatch.setattr(pixel_segmenter, "TILE_PIXELS", 40 * 40)
    np.testing.assert_allclose(fitted.predict_proba(image), whole, atol=1e-4)
    assert (fitted.predict(image) == np.argmax(whole, axis=-1)).mean() > 0.9999


def test_hard_pixels_help_where_few_are_hard():
    rng = np.random.default_rng(0)
    image = np.tile(np.linspace(0, 1, 400), (100, 1)) + rng.normal(0, 0.002, (100, 400))
    truth = (image > 0.71).astype(int)
    options = {"scales": [1], "max_samples": 60, "probability": False, "C": 100.0}
    scores = {
        n: np.mean(
            [
                (SVMSegmenter(n_rounds=n, random_state=s, **options).fit(image, truth)
                 .predict(image) == truth).mean()
                for s in range(4)
            ]
        )
        for n in (0, 2)
    }  # fmt: skip
    assert scores[2] > scores[0]
    model = SVMSegmenter(n_rounds=2, random_state=0, **options).fit(image, truth)
    again = SVMSegmenter(n_rounds=2, random_state=0, **options).fit(image, truth)
    np.testing.assert_array_equal(model.machine_.vectors, again.machine_.vectors)


def test_draws_classes_evenly():
    classes = np.repeat([0, 1, 2], [900, 10, 90])
    rng = np.random.RandomState(0)
    drawn = draw_balanced(classes, 100, rng)
    np.testing.assert_array_equal(np.bincount(classes[drawn]), [45, 10, 45])
    assert len(np.unique(drawn)) == len(drawn) == 100
    assert (np.diff(drawn) > 0).all()
    np.testing.assert_array_equal(np.bincount(classes[draw_balanced(classes, 1, rng)]), [1, 1, 1])
    np.testing.assert_array_equal(draw_balanced(classes, 1000, rng), np.arange(1000))


def test_one_pixel_a_class_is_enough():
    image = np.zeros((20, 20))
    image[:, 10:] = 1
    labels = np.full(image.shape, -1)
    labels[3, 3], labels[3, 16] = 4, 9
    predicted = SVMSegmenter(scales=[1]).fit(image, labels).predict(image)
    np.testing.assert_array_equal(predicted[:, [0, -1]], [[4, 9]] * 20)


def test_constant_features_say_nothing(coins):
    image, truth = coins
    colour = np.stack([image, np.full_like(image, 77)], axis=-1)
    model = SVMSegmenter(**SMALL).fit(colour, truth)
    constant = [name.startswith("intensity[1]") for name in model.feature_names_]
    np.testing.assert_array_equal(model.scale_[constant], np.inf)
    assert model.score(colour, truth) > 0.8


def test_class_weights(coins):
    image, truth = coins
    share = {}
    for weight in (None, {2: 20.0}, {2: 0}):
        model = SVMSegmenter(class_weight=weight, C=0.05, **SMALL).fit(image, truth)
        share[str(weight)] = (model.predict(image) == 2).mean()
    assert share["{2: 20.0}"] > share["None"] > share["{2: 0}"] == 0
    np.testing.assert_array_equal(model.classes_, [0, 1, 2])
    with pytest.raises(ValueError, match="every labelled class the weight 0"):
        SVMSegmenter(class_weight={0: 0, 1: 0, 2: 0}, **SMALL).fit(image, truth)


def test_segments_a_volume():
    volume = np.random.default_rng(0).normal(0, 0.1, (6, 20, 20))
    volume[:, :, 10:] += 1
    labels = np.full(volume.shape, -1)
    labels[:3] = np.where(np.arange(20) < 10, 4, 9)
    model = SVMSegmenter(scales=[1], channel_axis=None, random_state=0)
    predicted = model.fit(volume, labels).predict(volume)
    assert (predicted == np.where(volume > 0.5, 9, 4)).mean() > 0.9


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kernel": "gauss"}, "kernel is 'gauss'"),
        ({"C": 0}, "C is 0"),
        ({"gamma": -1}, "gamma is -1"),
        ({"degree": 11}, "degree is 11"),
        ({"n_components": 0}, "n_components is 0"),
        ({"n_rounds": -1}, "n_rounds is -1"),
        ({"class_weight": "rare"}, "class_weight is 'rare'"),
        ({"max_samples": 0}, "max_samples is 0"),
        ({"approximation": "exact"}, "approximation is 'exact'"),
        ({"approximation": "nystroem", "kernel": "linear"}, "approximation is 'nystroem' with"),
        ({"approximation": "fourier", "kernel": "poly"}, "approximation is 'fourier' with"),
    ],
)
def test_bad_parameters_are_named(options, match):
    with pytest.raises(ValueError, match=f"SVMSegmenter: {match}"):
        SVMSegmenter(**options).fit(np.zeros((4, 4)), np.zeros((4, 4), int))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mean_", np.zeros(3)),
        ("mean_", np.full(16, np.nan)),
        ("scale_", np.zeros(16)),
        ("scale_", np.ones(16, np.float32)),
        ("sigmoids_", np.zeros((2, 2))),
        ("machine_", None),
        ("one_vs_one_", 1),
        ("chosen_", np.arange(3, dtype=np.int32)),
        ("chosen_", np.zeros(16, np.int32)),
        ("chosen_", "all"),
    ],
)
def test_bad_states_are_refused(fitted, name, value):
    state = fitted._get_state()
    SVMSegmenter()._set_state(dict(state))
    with pytest.raises(ValueError, match=r"fit together|float64|above 0|ascending"):
        SVMSegmenter()._set_state(state | {name: value})
