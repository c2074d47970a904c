import numpy as np
import pytest
from skimage import data
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import ExtraTreeClassifier

import segalgos
from segalgos import PixelClassifierSegmenter
from segalgos.pixels.forest import RandomForest

SMALL = {"scales": (1, 2), "max_samples": 500, "random_state": 0}


@pytest.fixture(scope="module")
def coins():
    image = data.coins()[:120, :160]
    return image, 2 + (image > 110).astype(np.int32)


def _svm():
    return make_pipeline(
        StandardScaler(),
        SelectFromModel(LogisticRegression()),
        LinearSVC(dual=False),
    )


ESTIMATORS = {
    "default": None,
    "pipeline": make_pipeline(StandardScaler(), LogisticRegression()),
    "boosting": HistGradientBoostingClassifier(max_iter=10),
    "selection": _svm(),
    "neighbours": KNeighborsClassifier(),
    "own forest": RandomForest(5),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_takes_any_classifier(coins, name):
    segmenter = PixelClassifierSegmenter(ESTIMATORS[name], **SMALL).fit(*coins)
    assert segmenter.score(*coins) > 0.5  # of three ids, 0 and 1 do not occur
    assert (segmenter.predict(coins[0]) == coins[1]).mean() > 0.9
    proba = segmenter.predict_proba(coins[0])
    np.testing.assert_allclose(proba.sum(axis=-1), 1, atol=1e-6)


def test_does_what_the_estimator_does_alone(coins):
    image, truth = coins
    labels = np.full(truth.shape, -1)
    labels[::5, ::5] = truth[::5, ::5]
    rows = segalgos.pixel_features(image, (1, 2)).reshape(-1, 16)
    chosen = labels.ravel() >= 0
    alone = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    segmenter = PixelClassifierSegmenter(clone(alone), scales=(1, 2)).fit(image, labels)
    alone.fit(rows[chosen], labels.ravel()[chosen])
    expected = alone.predict_proba(rows).reshape(*image.shape, 2)
    np.testing.assert_allclose(segmenter.predict_proba(image), expected, atol=1e-5)


def test_votes_count_where_there_are_no_probabilities(coins):
    segmenter = PixelClassifierSegmenter(_svm(), **SMALL).fit(*coins)
    proba = segmenter.predict_proba(coins[0])
    assert set(np.unique(proba)) == {0, 1}
    assert proba.dtype == np.float32


def test_the_estimator_itself_stays_unfitted(coins):
    estimator = _svm()
    segmenter = PixelClassifierSegmenter(estimator, **SMALL).fit(*coins)
    assert segmenter.estimator is estimator
    assert not hasattr(estimator[-1], "coef_")
    assert segmenter.estimator_ is not estimator


def test_our_seed_decides(coins):
    image, truth = coins
    random = make_pipeline(StandardScaler(), ExtraTreeClassifier(max_depth=3))
    options = {"scales": (1, 2), "max_samples": 10**6}
    fits = [
        PixelClassifierSegmenter(random, random_state=seed, **options).fit(image, truth)
        for seed in (0, 0, 1)
    ]
    probas = [fit.predict_proba(image) for fit in fits]
    np.testing.assert_array_equal(probas[0], probas[1])
    assert (probas[0] != probas[2]).any()
    assert random.get_params()["extratreeclassifier__random_state"] is None
    seeded = clone(random).set_params(extratreeclassifier__random_state=5)
    fit = PixelClassifierSegmenter(seeded, random_state=0, **options).fit(image, truth)
    assert fit.estimator_.get_params()["extratreeclassifier__random_state"] == 5


def test_weights_reach_the_last_step(coins):
    image, truth = coins
    wrong = truth.copy()
    wrong[:, 80:] = 5 - wrong[:, 80:]
    weight = np.where(np.arange(160) < 80, 1, 1e-4) * np.ones(image.shape)
    for estimator in (None, make_pipeline(StandardScaler(), _svm()), RandomForest(5, max_depth=3)):
        segmenter = PixelClassifierSegmenter(estimator, **SMALL)
        right = [
            (segmenter.fit(image, wrong, sample_weight=w).predict(image) == truth).mean()
            for w in (weight, None)
        ]
        assert right[0] > 0.9 > right[1]
    for estimator in (
        KNeighborsClassifier(),
        make_pipeline(StandardScaler(), KNeighborsClassifier()),
    ):
        with pytest.raises(TypeError, match="fit takes no sample_weight: leave"):
            PixelClassifierSegmenter(estimator, **SMALL).fit(image, wrong, sample_weight=weight)


def test_parameters_of_the_estimator_can_be_searched(coins):
    image, truth = coins
    segmenter = PixelClassifierSegmenter(
        make_pipeline(StandardScaler(), LogisticRegression()), **SMALL
    )
    name = "estimator__logisticregression__C"
    assert segmenter.get_params()[name] == 1.0
    assert clone(segmenter).set_params(**{name: 9.0}).estimator[-1].C == 9.0
    assert segmenter.estimator[-1].C == 1.0
    search = GridSearchCV(segmenter, {name: [1e-9, 1.0]}, cv=2, error_score="raise")
    search.fit([image[:60], image[60:]], [truth[:60], truth[60:]])
    assert search.best_params_ == {name: 1.0}


def test_one_class_is_predicted_everywhere(coins):
    image, _ = coins
    labels = np.full(image.shape, -1)
    labels[3, :9] = 7
    segmenter = PixelClassifierSegmenter(KNeighborsClassifier(), **SMALL).fit(image, labels)
    assert (segmenter.predict(image) == 7).all()


@pytest.mark.parametrize("estimator", [LogisticRegression(), RandomForest(3)])
def test_code_is_not_saved(coins, tmp_path, estimator):
    path = tmp_path / "model.segalgos"
    name = type(estimator).__name__
    segmenter = PixelClassifierSegmenter(estimator, **SMALL)
    match = rf"PixelClassifierSegmenter.save: estimator is a {name}, .* keep it with skops"
    with pytest.raises(TypeError, match=match):
        segmenter.save(path)
    segmenter.set_params(estimator=make_pipeline(StandardScaler(), estimator)).fit(*coins)
    segmenter.estimator = None  # what was fitted is another one still
    if name != "LogisticRegression":
        with pytest.raises(TypeError, match="estimator is a Pipeline"):
            segmenter.save(path)
        assert not path.exists()


@pytest.mark.parametrize(
    ("estimator", "match"),
    [
        (LogisticRegression, r"is the class LogisticRegression, .* pass LogisticRegression\(\)"),
        (Ridge(), "is a Ridge, expected a classifier"),
        ("svm", "is a str, expected a classifier"),
    ],
)
def test_what_is_no_classifier_is_refused(coins, estimator, match):
    with pytest.raises(TypeError, match=f"PixelClassifierSegmenter: estimator {match}"):
        PixelClassifierSegmenter(estimator, **SMALL).fit(*coins)


def test_bad_states_are_refused(coins):
    segmenter = PixelClassifierSegmenter(**SMALL).fit(*coins)
    state = segmenter._get_state()
    PixelClassifierSegmenter()._set_state(dict(state))
    mean, scale, coefficients, intercepts = state["model_"]
    for model in (
        None,
        [mean[:3], scale, coefficients, intercepts],
        [mean, scale, coefficients.T, intercepts],
        [mean, scale, coefficients, np.array([np.nan])],
        [mean, scale, coefficients, intercepts.astype(int)],
    ):
        with pytest.raises(ValueError, match=r"fit together|an array of its model"):
            PixelClassifierSegmenter()._set_state(state | {"model_": model})
