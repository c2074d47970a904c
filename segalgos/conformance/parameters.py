"""Checks of the constructor, its parameters and the traits."""

from __future__ import annotations

import inspect

from sklearn.base import clone

from segalgos.base import Segmenter, Traits
from segalgos.conformance._compare import fingerprint
from segalgos.conformance._examples import example, fresh, predict
from segalgos.conformance._promise import promise, refused


def _names(segmenter: Segmenter) -> list[str]:
    return list(inspect.signature(type(segmenter).__init__).parameters)[1:]


@promise()
def check_traits(segmenter: Segmenter) -> None:
    """Traits are a Traits on the class, and agree with the methods."""
    cls = type(segmenter)
    assert isinstance(segmenter, Segmenter), f"{cls.__name__} does not derive from Segmenter"
    traits = getattr(cls, "traits", None)
    assert isinstance(traits, Traits), f"traits is {traits!r}"
    assert "traits" not in vars(segmenter), "the instance has other traits than the class"
    has_proba = hasattr(segmenter, "predict_proba")
    assert has_proba == (traits.task == "semantic") or traits.task == "interactive", (
        f"the task is {traits.task!r} and predict_proba is {'there' if has_proba else 'missing'}"
    )
    assert traits.needs_fit or not traits.needs_labels, "needs_labels without needs_fit"
    assert traits.needs_labels or traits.task != "semantic", "semantic without needs_labels"
    assert traits.takes_prompts or traits.task != "interactive", "interactive without prompts"
    assert traits.deterministic or "random_state" in _names(segmenter), (
        "it depends on chance and has no random_state"
    )
    assert 1900 < traits.year < 2100, f"year is {traits.year}"
    assert traits.family, "family is empty"


@promise()
def check_small(segmenter: Segmenter) -> None:
    """small() gives an unfitted instance of the class, each time a new one."""
    cls = type(segmenter)
    small = cls.small()
    assert type(small) is cls, f"it gave a {type(small).__name__}"
    assert small is not cls.small(), "it gave the same object twice"
    assert not small.__sklearn_is_fitted__(), "it is fitted already"


@promise()
def check_no_arguments_needed(segmenter: Segmenter) -> None:
    """The class needs no argument, and its defaults are accepted."""
    type(segmenter)()._check_params()


@promise()
def check_constructor_stores_arguments(segmenter: Segmenter) -> None:
    """The constructor stores its arguments untouched and sets nothing else."""
    names = _names(segmenter)
    values = {name: object() for name in names}
    made = type(segmenter)(**values)
    for name, value in values.items():
        assert getattr(made, name, None) is value, f"{name} was not stored as it came"
    extra = sorted(vars(made).keys() - values.keys())
    assert not extra, f"it also set {', '.join(extra)}"


@promise()
def check_channel_axis_parameter(segmenter: Segmenter) -> None:
    """channel_axis is a constructor parameter with the default 'auto'."""
    parameter = inspect.signature(type(segmenter).__init__).parameters.get("channel_axis")
    assert parameter is not None, "the constructor has no channel_axis"
    assert parameter.default == "auto", f"its default is {parameter.default!r}"


@promise()
def check_get_and_set_params(segmenter: Segmenter) -> None:
    """get_params lists every argument, set_params sets it and refuses unknown names."""
    copy = clone(segmenter)
    assert sorted(copy.get_params(deep=False)) == sorted(_names(segmenter)), (
        f"get_params gives {sorted(copy.get_params(deep=False))}"
    )
    for name in _names(segmenter):
        value = object()
        given = copy.set_params(**{name: value})
        assert given is copy, "set_params does not return the segmenter"
        assert copy.get_params(deep=False)[name] is value, f"{name} was not set as it came"
    with refused("an unknown parameter", naming=("no_such_parameter",)):
        copy.set_params(no_such_parameter=1)


@promise()
def check_clone(segmenter: Segmenter) -> None:
    """A clone has the same parameters and nothing learned."""
    data = example(segmenter)
    fitted = fresh(segmenter).fit(data.images, data.targets)
    copy = clone(fitted)
    learned = sorted(vars(copy).keys() - set(_names(segmenter)))
    assert not learned, f"the clone has {', '.join(learned)}"
    for name, value in fitted.get_params(deep=False).items():
        same = fingerprint(getattr(copy, name)) == fingerprint(value)
        assert same, f"{name} is {getattr(copy, name)!r}, not {value!r}"


@promise()
def check_repr(segmenter: Segmenter) -> None:
    """The text and HTML representations name the class, fitted or not."""
    name = type(segmenter).__name__
    data = example(segmenter)
    copy = fresh(segmenter)
    for state in ("unfitted", "fitted"):
        assert name in repr(copy), f"{state}: repr is {repr(copy)!r}"
        html = copy._repr_html_()
        assert "<" in html, f"{state}: the HTML representation is no HTML"
        assert name in html, f"{state}: the HTML representation does not name the class"
        copy.fit(data.images, data.targets)


@promise()
def check_parameters_validated_late(segmenter: Segmenter) -> None:
    """A bad parameter is refused by fit, not by the constructor or set_params."""
    copy = type(segmenter)(channel_axis="sideways").set_params(channel_axis="upside down")
    data = example(segmenter)
    with refused("fit with channel_axis='upside down'", (ValueError, TypeError)):
        copy.fit(data.images, data.targets)
    if not segmenter.traits.needs_fit:
        with refused("predict with channel_axis='upside down'", (ValueError, TypeError)):
            predict(copy, data.images)


@promise()
def check_no_parameter_takes_anything(segmenter: Segmenter) -> None:
    """Every parameter is validated: an arbitrary object is refused by fit."""
    data = example(segmenter)
    for name in _names(segmenter):
        # scikit-learn's check_random_state, used by many, does not name the parameter.
        naming = () if name == "random_state" else (name,)
        with refused(f"{name}=object()", (ValueError, TypeError), naming=naming):
            fresh(segmenter, **{name: object()}).fit(data.images, data.targets)


@promise()
def check_fit_keeps_parameters(segmenter: Segmenter) -> None:
    """fit and predict leave the constructor's parameters as they are."""
    data = example(segmenter)
    copy = fresh(segmenter)
    params = copy.get_params(deep=False)
    before = {name: fingerprint(value) for name, value in params.items()}
    copy.fit(data.images, data.targets)
    predict(copy, data.images)
    for name, value in params.items():
        assert getattr(copy, name) is value, f"{name} was replaced"
        assert fingerprint(value) == before[name], f"{name} was changed in place"


CHECKS = (
    check_traits,
    check_small,
    check_no_arguments_needed,
    check_constructor_stores_arguments,
    check_channel_axis_parameter,
    check_get_and_set_params,
    check_clone,
    check_repr,
    check_parameters_validated_late,
    check_no_parameter_takes_anything,
    check_fit_keeps_parameters,
)
