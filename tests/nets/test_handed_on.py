import inspect

import pytest

from segalgos import FCNSegmenter, SegFormerSegmenter, UNetSegmenter
from segalgos.nets.handed_on import show_handed_on
from segalgos.nets.semantic import SemanticNetSegmenter


@pytest.mark.parametrize("cls", [FCNSegmenter, SegFormerSegmenter, UNetSegmenter])
def test_shared_parameters_are_shown(cls):
    shown = inspect.signature(cls).parameters
    shared = inspect.signature(SemanticNetSegmenter).parameters
    assert set(shared) < set(shown)
    assert not any(p.kind is p.VAR_KEYWORD for p in shown.values())
    assert sorted(cls().get_params()) == sorted(shown)
    for name in shared:
        assert cls.__doc__.count(f"\n    {name} : ") == 1
    assert "**training" not in cls.__doc__
    # A default of its own wins.
    assert inspect.signature(SegFormerSegmenter).parameters["learning_rate"].default == 6e-4
    assert "learning_rate : float, default=6e-4" in SegFormerSegmenter.__doc__


def test_a_constructor_that_hands_nothing_on_is_left_alone():
    class Own:
        """Nothing.

        Parameters
        ----------
        a : int
        """

        def __init__(self, a=1):
            pass

    before = Own.__doc__
    show_handed_on(Own, SemanticNetSegmenter)
    assert Own.__doc__ == before
    assert list(inspect.signature(Own).parameters) == ["a"]
