"""scikit-learn's own estimator checks, as far as they can apply to estimators of images."""

from functools import partial

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

from segalgos.catalog import all_segmenters
from segalgos.conformance import SKLEARN_CHECKS_NOT_APPLICABLE

APPLICABLE = {
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_sparse_tag",
    "check_estimator_tags_renamed",
    "check_estimators_unfitted",
    "check_fit1d",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
}


def _name(check):
    while isinstance(check, partial):
        check = check.func
    return check.__name__


GENERATED = [
    pytest.param(segmenter, check, id=f"{type(segmenter).__name__}-{_name(check)}")
    for cls in all_segmenters()
    for segmenter, check in estimator_checks_generator(cls.small())
    if _name(check) not in SKLEARN_CHECKS_NOT_APPLICABLE
]


@pytest.mark.parametrize(("segmenter", "check"), GENERATED)
def test_applicable_check(segmenter, check):
    check(segmenter)


def test_every_check_is_accounted_for():
    generated = {
        _name(check)
        for cls in all_segmenters()
        for _, check in estimator_checks_generator(cls.small())
    }
    assert generated == APPLICABLE | SKLEARN_CHECKS_NOT_APPLICABLE.keys()
    assert not APPLICABLE & SKLEARN_CHECKS_NOT_APPLICABLE.keys()


def test_every_exemption_has_a_reason():
    assert all(len(reason) > 20 for reason in SKLEARN_CHECKS_NOT_APPLICABLE.values())
