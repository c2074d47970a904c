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
        assert cls.__doc__.count(f"\n{name} : ") == 1
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
    show_handed_on(Own)
    assert Own.__doc__ == before
    assert list(inspect.signature(Own).parameters) == ["a"]


def test_unknown_parameters_are_told_by_the_net_that_was_called():
    with pytest.raises(TypeError, match="UNetSegmenter: no parameter is called 'epoch': did you"):
        UNetSegmenter(epoch=5)
    with pytest.raises(TypeError, match=r"FCNSegmenter: no parameter is called 'zzz': expected"):
        FCNSegmenter(zzz=5)


def test_a_net_of_a_net_hands_on_to_it():
    class Wide(UNetSegmenter):
        """Twice as wide.

        Parameters
        ----------
        times : int
        **others
            Those of `UNetSegmenter`.
        """

        def __init__(self, *, times=2, **others):
            super().__init__(**others)
            self.times = times

    wide = Wide(times=3, depth=2, epochs=5)
    assert (wide.times, wide.depth, wide.epochs) == (3, 2, 5)
    assert sorted(wide.get_params()) == sorted([*UNetSegmenter().get_params(), "times"])
    assert "\ndepth : int, default=4\n" in Wide.__doc__
    assert "\nepochs : int or None" in Wide.__doc__
