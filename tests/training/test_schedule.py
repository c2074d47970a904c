import itertools
import math

import pytest

from segalgos.training.schedule import SCHEDULES, learning_rate_factor


def test_warmup_rises_to_one():
    factors = [learning_rate_factor(p, warmup=0.2) for p in (0, 0.1, 0.2)]
    assert factors == pytest.approx([0.1, 0.55, 1.0])


def test_poly_and_cosine_follow_their_formulas():
    assert learning_rate_factor(0.6, "poly", warmup=0.2) == pytest.approx(0.5**0.9)
    assert learning_rate_factor(0.6, "poly", warmup=0, power=2) == pytest.approx(0.4**2)
    expected = (1 + math.cos(math.pi * 0.25)) / 2
    assert learning_rate_factor(0.4, "cosine", warmup=0.2) == pytest.approx(expected)
    assert learning_rate_factor(0.4, "constant", warmup=0.2) == 1


@pytest.mark.parametrize("schedule", ["poly", "cosine"])
def test_ends_at_zero_and_never_rises_after_warmup(schedule):
    factors = [learning_rate_factor(0.05 + 0.95 * i / 50, schedule) for i in range(51)]
    assert factors[-1] == pytest.approx(0, abs=1e-12)
    assert all(a >= b for a, b in itertools.pairwise(factors))
    assert learning_rate_factor(1.5, schedule) == pytest.approx(0, abs=1e-12)


def test_no_warmup_starts_at_one():
    assert all(learning_rate_factor(0, s, warmup=0) == 1 for s in SCHEDULES)


def test_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="schedule is 'step', expected one of 'poly'"):
        learning_rate_factor(0.5, "step")
