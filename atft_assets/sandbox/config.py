"""What market to simulate."""

import hashlib
from dataclasses import asdict, dataclass
from datetime import date

from atft_assets.settings import DEMO_END, DEMO_START

# parts of the drift that other data than prices show
PLANTED = ("revision", "covering", "regime", "volatility")


@dataclass(frozen=True)
class MarketConfig:
    """Size, span, seed and habits of a simulated market.

    Attributes:
        n_names: ordinary shares listed on the first day (a preferred share and an ETF come on top).
        start, end: first and last calendar day; only trading days inside get bars.
        seed: of every random stream.
        listings, delistings, splits, consolidations, halts: events per name and year.
        untraded: share of days on which an average name finds no buyer (bars all null); more for small, less for large.
        cluster_size: mean number of names in a hidden cluster.
        sector_share, cluster_share: share of the residual variance that the members of a sector or cluster share.
        level, interaction, deviation, neighbour: standard deviation of each part of the daily drift, in units of the
            name's residual volatility; about the daily rank correlation that a perfect detector of it attains.
        code_reuse: share of listings that take the code of a name delisted at least a year before.
        revision, covering, regime, volatility: standard deviation of further parts of the drift, in the same units,
            that only other data than prices show: revisions of forecasts in statements, reported short positions that
            are closed, the week's flow of foreigners that turns the sign of reversal, the state of implied volatility
            that turns what volatile names earn. None of them by default.
    """

    n_names: int = 200
    start: date = DEMO_START
    end: date = DEMO_END
    seed: int = 7
    listings: float = 0.03
    delistings: float = 0.02
    splits: float = 0.04
    consolidations: float = 0.005
    halts: float = 0.2
    untraded: float = 0.01
    cluster_size: int = 8
    sector_share: float = 0.10
    cluster_share: float = 0.52
    level: float = 0.10
    interaction: float = 0.15
    deviation: float = 0.21
    neighbour: float = 0.28
    code_reuse: float = 0.0
    revision: float = 0.0
    covering: float = 0.0
    regime: float = 0.0
    volatility: float = 0.0

    def __post_init__(self) -> None:
        if not 2 <= self.n_names <= 6000:
            raise ValueError(f"n_names is {self.n_names}: use 2 to 6000")
        if self.start > self.end:
            raise ValueError(f"start ({self.start}) is after end ({self.end})")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}: use 0 or more")
        for name in PLANTED:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: use 0 or more")
        if self.cluster_size < 2:
            raise ValueError(f"cluster_size is {self.cluster_size}: use 2 or more")

    @property
    def fingerprint(self) -> str:
        """Tells markets apart: equal for those of which one is the beginning of the other.

        That is everything but the end: a market that ends earlier is the beginning of the one that ends later.
        """
        facts = asdict(self)
        del facts["end"]
        for name in PLANTED:  # what is not planted changes no market, and none that was there before it could be
            if not facts[name]:
                del facts[name]
        return f"from {self.start}, {hashlib.sha256(repr(sorted(facts.items())).encode()).hexdigest()[:10]}"

    @property
    def planted(self) -> dict[str, float]:
        """The strengths of `PLANTED` that are on."""
        return {name: getattr(self, name) for name in PLANTED if getattr(self, name)}


def demo_config(start: date | None = None, end: date | None = None) -> MarketConfig:
    """The market of `make demo`: 200 names over three and a half years."""
    return MarketConfig(start=start or DEMO_START, end=end or DEMO_END)
