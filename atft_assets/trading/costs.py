"""What a trade costs beyond its price: commission, half-spread, impact; and what a borrowed share costs a day.

All figures are assumptions until a desk records its own fills; results are therefore reported at one, two and three
times them. Amounts are JPY, not negative; values are JPY of a trade; turnover is JPY a day.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

MULTIPLES = (1, 2, 3)
DAYS_A_YEAR = 365  # by which borrowing is charged

# usual daily turnover, JPY, from which on the next half-spread holds; each bound belongs to the bucket above it
ADV_BOUNDS = (10e6, 50e6, 200e6, 1e9, 5e9)
HALF_SPREAD_BP = (40.0, 25.0, 15.0, 8.0, 5.0, 3.0)

SIGMA_UNKNOWN = 0.05  # a day; of names that have not traded for long enough, which move more than most


@dataclass(frozen=True)
class Costs:
    """A cost model.

    Attributes:
        name: of the preset.
        rate: commission as a share of the value.
        minimum: least commission of an order, JPY.
        fees: steps of a fixed commission beside `rate`, (value up to and including, JPY); the last bound is infinite.
        half_spread_bp: least half-spread in basis points by bucket of turnover (ADV_BOUNDS), the thinnest first; half a
            tick is charged where that is more.
        impact: c of c x sigma x sqrt(value / daily turnover), as a share of the value; of order one.
        participation_cap_adv: largest share of the usual daily turnover that an order may be.
        participation_cap_day: largest share of the turnover of the day itself.
        borrow_rate: lending fee of shares sold short, a year.
        alert_rate: what a day in a margin-alert issue costs on top (a premium by daily auction), share of the value.
        limit_fill: share of an order that is filled on the losing side of a limit; the truth is a lottery.
        multiple: by which every amount is multiplied.
    """

    name: str
    rate: float = 0.0
    minimum: float = 0.0
    fees: tuple[tuple[float, float], ...] = ()
    half_spread_bp: tuple[float, ...] = field(default=HALF_SPREAD_BP)
    impact: float = 0.8
    participation_cap_adv: float = 0.05
    participation_cap_day: float = 0.10
    borrow_rate: float = 0.0115
    alert_rate: float = 0.0
    limit_fill: float = 0.0
    multiple: float = 1.0

    def __post_init__(self) -> None:
        if len(self.half_spread_bp) != len(ADV_BOUNDS) + 1:
            raise ValueError(
                f"{self.name}: half_spread_bp has {len(self.half_spread_bp)} values, one for each of "
                f"{len(ADV_BOUNDS) + 1} buckets of turnover is needed"
            )
        amounts = ("rate", "minimum", "impact", "borrow_rate", "alert_rate", "multiple")
        if bad := [name for name in amounts if not getattr(self, name) >= 0]:
            raise ValueError(f"{self.name}: {', '.join(bad)} must not be negative")
        shares = ("participation_cap_adv", "participation_cap_day", "limit_fill")
        if bad := [name for name in shares if not 0 <= getattr(self, name) <= 1]:
            raise ValueError(f"{self.name}: {', '.join(bad)} must be between 0 and 1")
        bounds = [bound for bound, _ in self.fees]
        if self.fees and (bounds != sorted(bounds) or bounds[-1] != np.inf):
            raise ValueError(f"{self.name}: the bounds of fees must rise, and the last must be infinite")

    def times(self, multiple: float) -> "Costs":
        """The same model with every amount multiplied."""
        return replace(self, multiple=multiple)

    def commission(self, value: ArrayLike) -> Floats:
        """Commission of orders of these values, one order each; 0 for none."""
        value = np.asarray(value, np.float64)
        fee = np.maximum(self.rate * value, self.minimum)
        if self.fees:
            bounds, steps = np.array(self.fees).T
            fee = fee + steps[np.searchsorted(bounds, value, side="left")]
        return np.where(value > 0, fee, 0.0) * self.multiple

    def half_spread(self, value: ArrayLike, price: ArrayLike, tick: ArrayLike, adv: ArrayLike) -> Floats:
        """What crossing half of the spread costs; a thin auction takes as much as a thin book.

        Args:
            price, tick: JPY a share.
            adv: usual daily turnover; NaN counts as the thinnest.
        """
        value, price, tick, adv = (np.asarray(x, np.float64) for x in (value, price, tick, adv))
        bucket = np.searchsorted(ADV_BOUNDS, np.nan_to_num(adv), side="right")
        share = np.maximum(tick / 2 / price, np.array(self.half_spread_bp)[bucket] / 1e4)
        return np.where(value > 0, value * share, 0.0) * self.multiple

    def market_impact(self, value: ArrayLike, adv: ArrayLike, sigma: ArrayLike) -> Floats:
        """What a price moves away by, paid in full: the auction is one shot.

        Args:
            adv: usual daily turnover; where it is 0 or NaN, the order counts as the largest share of a day that is let
                through.
            sigma: daily volatility; NaN counts as SIGMA_UNKNOWN.
        """
        value, adv, sigma = (np.asarray(x, np.float64) for x in (value, adv, sigma))
        known = adv > 0
        share = np.where(known, value / np.where(known, adv, 1.0), self.participation_cap_day)
        sigma = np.where(np.isnan(sigma), SIGMA_UNKNOWN, sigma)
        return np.where(value > 0, value * self.impact * sigma * np.sqrt(share), 0.0) * self.multiple

    def borrow(self, value: ArrayLike, days: int, alert: ArrayLike = False) -> Floats:
        """Fee for shares sold short over some calendar days, weekends included.

        Args:
            value: of the short position, not negative.
            days: calendar days.
            alert: whether the issue is under margin alert.
        """
        daily = self.borrow_rate / DAYS_A_YEAR + np.where(np.asarray(alert, bool), self.alert_rate, 0.0)
        return np.asarray(value, np.float64) * daily * days * self.multiple


# a course with fixed fees by the value of an order, tax included, of a large online broker until October 2023
_CLASSIC = (
    (50e3, 55.0),
    (100e3, 99.0),
    (200e3, 115.0),
    (500e3, 275.0),
    (1e6, 535.0),
    (1.5e6, 640.0),
    (30e6, 1013.0),
    (np.inf, 1070.0),
)

PRESETS: dict[str, Costs] = {
    one.name: one
    for one in (
        Costs("retail_zero"),
        Costs("retail_classic", fees=_CLASSIC),
        Costs("ib", rate=0.0008, minimum=80.0),
        Costs("institution", rate=0.0002),
    )
}
