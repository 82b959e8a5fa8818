"""Student's t of the standard library against SciPy's."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from atft_model.interchange.student import two_sided_p, two_sided_quantile

degrees_of_freedom = st.one_of(st.integers(1, 2000), st.floats(1, 500))


@given(st.floats(1e-6, 300), degrees_of_freedom)
@settings(deadline=None, max_examples=300)
def test_tails_are_scipys(t: float, degrees: float) -> None:
    """To nine digits of the probability, however small it is. Nearer to zero SciPy loses the square of t beside one."""
    for signed in (t, -t):
        assert two_sided_p(signed, degrees) == pytest.approx(2 * student.sf(t, degrees), rel=1e-9, abs=1e-290)


@given(st.floats(0, 1e-6), degrees_of_freedom)
@settings(deadline=None, max_examples=100)
def test_near_zero_the_tail_falls_by_the_density(t: float, degrees: float) -> None:
    """p = 1 - 2 t f(0) there, up to the cube of t."""
    assert two_sided_p(t, degrees) == pytest.approx(1 - 2 * t * student.pdf(0, degrees), rel=1e-13)


def test_the_middle_of_cauchys_distribution_is_exact() -> None:
    """With one degree of freedom p is 1 - 2 atan(t) / pi."""
    for t in (1e-12, 6.4e-10, 1e-6, 0.3):
        assert two_sided_p(t, 1) == pytest.approx(1 - 2 * math.atan(t) / math.pi, rel=1e-15)


@given(st.floats(1e-6, 0.9999), degrees_of_freedom)
@settings(deadline=None, max_examples=150)
def test_quantiles_are_scipys_and_undo_tails(level: float, degrees: float) -> None:
    t = two_sided_quantile(level, degrees)
    assert t == pytest.approx(student.isf(level / 2, degrees), rel=1e-8, abs=1e-10)
    assert two_sided_p(t, degrees) == pytest.approx(level, rel=1e-9)


def test_what_a_printed_table_has() -> None:
    printed = {1: 12.706, 2: 4.303, 5: 2.571, 6: 2.447, 12: 2.179, 30: 2.042}
    assert {degrees: round(two_sided_quantile(0.05, degrees), 3) for degrees in printed} == printed


def test_the_ends() -> None:
    assert two_sided_p(0, 5) == 1 and two_sided_p(math.inf, 5) == two_sided_p(-math.inf, 5) == 0
    assert math.isnan(two_sided_p(math.nan, 5))
    assert two_sided_p(1e-9, 5) == pytest.approx(1) and 0 <= two_sided_p(1e200, 5) < 1e-300
    for degrees in (0, 0.5, -3):
        with pytest.raises(ValueError, match="one is the least"):
            two_sided_p(1, degrees)
    for level in (0, 1, -0.1, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            two_sided_quantile(level, 5)
