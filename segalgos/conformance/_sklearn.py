"""scikit-learn's own estimator checks that cannot apply to estimators of images."""

from __future__ import annotations

_LABEL_PER_ROW = (
    "feeds a table X (n_samples, n_features) with one label a row; a table is read as one grey "
    "image, whose labels are a map of its height and width"
)
_ROWS = "takes rows for samples: neighbouring rows of an image are not independent of each other"
_N_FEATURES = "asks for n_features_in_; a segmenter has n_channels_, and images of any size"
_WEIGHT_PER_ROW = (
    "feeds one weight and one label a row of a table; weights here are one an image or one a pixel"
)
_SPARSE = "feeds sparse matrices, which images are not"

#: Name of each check, and why it cannot apply. All others are passed by every segmenter.
SKLEARN_CHECKS_NOT_APPLICABLE: dict[str, str] = {
    "check_all_zero_sample_weights_error": _WEIGHT_PER_ROW,
    "check_array_api_input": "feeds tables of other array libraries; images become numpy arrays",
    "check_complex_data": "wants ValueError for complex numbers; a wrong dtype is a TypeError here",
    "check_dict_unchanged": _LABEL_PER_ROW,
    "check_dont_overwrite_parameters": _LABEL_PER_ROW,
    "check_dtype_object": "wants object arrays of numbers to be taken; dtypes are not guessed here",
    "check_estimator_sparse_array": _SPARSE,
    "check_estimator_sparse_matrix": _SPARSE,
    "check_estimators_dtypes": _LABEL_PER_ROW,
    "check_estimators_empty_data_messages": (
        "expects scikit-learn's words about features; an image without pixels is refused in ours"
    ),
    "check_estimators_fit_returns_self": _LABEL_PER_ROW,
    "check_estimators_nan_inf": _LABEL_PER_ROW,
    "check_estimators_overwrite_params": _LABEL_PER_ROW,
    "check_estimators_pickle": _LABEL_PER_ROW,
    "check_f_contiguous_array_estimator": _LABEL_PER_ROW,
    "check_fit2d_1feature": _LABEL_PER_ROW,
    "check_fit2d_1sample": _LABEL_PER_ROW,
    "check_fit2d_predict1d": (
        "expects a row of a table to be refused in scikit-learn's words about reshaping"
    ),
    "check_fit_check_is_fitted": _LABEL_PER_ROW,
    "check_fit_idempotent": _LABEL_PER_ROW,
    "check_fit_score_takes_y": "wants the argument to be called y; here it is labels",
    "check_methods_sample_order_invariance": _ROWS,
    "check_methods_subset_invariance": _ROWS,
    "check_n_features_in": _N_FEATURES,
    "check_n_features_in_after_fitting": _N_FEATURES,
    "check_pipeline_consistency": _LABEL_PER_ROW,
    "check_positive_only_tag_during_fit": _LABEL_PER_ROW,
    "check_readonly_memmap_input": _LABEL_PER_ROW,
    "check_requires_y_none": "expects scikit-learn's words about y; the argument here is labels",
    "check_sample_weight_equivalence_on_dense_data": _WEIGHT_PER_ROW,
    "check_sample_weights_list": _WEIGHT_PER_ROW,
    "check_sample_weights_not_an_array": _WEIGHT_PER_ROW,
    "check_sample_weights_not_overwritten": _WEIGHT_PER_ROW,
    "check_sample_weights_pandas_series": _WEIGHT_PER_ROW,
    "check_sample_weights_shape": _WEIGHT_PER_ROW,
}
