"""Checks that scikit-learn's tools work on lists of images of unlike size."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags

from segalgos.base import Segmenter
from segalgos.conformance._compare import assert_same
from segalgos.conformance._examples import example, fitted, fresh, predict, prompts_for
from segalgos.conformance._promise import promise

RAGGED = ((24, 32), (21, 27), (30, 22), (25, 25))


def _has_score(traits):
    return traits.task != "interactive"


@promise(when=_has_score)
def check_grid_search(segmenter: Segmenter) -> None:
    """GridSearchCV chooses a parameter over a list of images of unlike size."""
    data = example(segmenter, shapes=RAGGED)
    grid = {"channel_axis": ["auto", -1]}
    search = GridSearchCV(fresh(segmenter), grid, cv=2, error_score="raise")
    search.fit(data.images, data.targets)
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all(), f"scores are {scores}"
    assert scores[0] == scores[1], f"channel_axis 'auto' and -1 on colour score {scores}"
    expected = fresh(segmenter, **search.best_params_).fit(data.images, data.targets)
    assert_same(
        search.predict(data.images), expected.predict(data.images), "the search and its best"
    )


@promise(when=_has_score)
def check_cross_val_score(segmenter: Segmenter) -> None:
    """cross_val_score gives what fit and score by hand give."""
    data = example(segmenter, shapes=RAGGED)
    scores = cross_val_score(fresh(segmenter), data.images, data.targets, cv=2, error_score="raise")
    by_hand = []
    for test in (slice(0, 2), slice(2, 4)):
        train = slice(2, 4) if test.start == 0 else slice(0, 2)
        model = fresh(segmenter).fit(data.images[train], data.targets[train])
        by_hand.append(model.score(data.images[test], data.targets[test]))
    assert scores.tolist() == by_hand, f"{scores.tolist()}, by hand {by_hand}"


@promise()
def check_pipeline(segmenter: Segmenter) -> None:
    """In a Pipeline, after a step that changes the images, it works as by hand."""
    data = example(segmenter)

    def halve(images):
        return [image // 2 for image in images]

    steps = [("halve", FunctionTransformer(halve)), ("segment", fresh(segmenter))]
    pipeline = Pipeline(steps).fit(data.images, data.targets)
    halved = halve(data.images)
    expected = predict(fresh(segmenter).fit(halved, data.targets), halved)
    prompts = (
        {"prompts": prompts_for(data.images)} if segmenter.traits.task == "interactive" else {}
    )
    assert_same(pipeline.predict(data.images, **prompts), expected, "the pipeline and by hand")
    assert type(segmenter).__name__ in pipeline._repr_html_(), "its HTML does not show the method"


@promise()
def check_tags(segmenter: Segmenter) -> None:
    """scikit-learn's tags say what the traits say."""
    tags = get_tags(fitted(segmenter))
    traits = segmenter.traits
    assert tags.requires_fit == traits.needs_fit, f"requires_fit is {tags.requires_fit}"
    assert tags.target_tags.required == traits.needs_labels, "target_tags.required differs"
    assert tags.non_deterministic != traits.deterministic, "non_deterministic differs"


CHECKS = (
    check_grid_search,
    check_cross_val_score,
    check_pipeline,
    check_tags,
)
