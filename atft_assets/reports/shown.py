"""Numbers as people read them: what the UI shows of a float has four decimals at most, and still plots."""

from collections.abc import Mapping
from math import isfinite
from typing import Any


def rounded(value: float) -> float:
    """Four decimals; one of a number of ten or more; three digits that count where four decimals would leave less."""
    if abs(value) < 0.001:
        return float(f"{value:.3g}")
    return round(value, 4 if abs(value) < 10 else 1)


def numbers(fields: Mapping[str, Any]) -> dict[str, int | float]:
    """The finite numbers among the fields, floats rounded; Dagster plots these."""
    return {
        name: value if isinstance(value, int) else rounded(float(value))
        for name, value in fields.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    }
