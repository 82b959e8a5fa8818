"""Days of a panel, ready to be scored: the same rows for every model, baseline and rule."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets.scoring.evaluation import Score, evaluate
from atft_assets.scoring.trailing import Floats, trailing_volatility
from atft_model.interchange.fold import Fold
from atft_model.interchange.panel import Panel


@dataclass(frozen=True)
class Block:
    """Some days of a panel: D days, N names, H horizons.

    Attributes:
        days: their places in the panel.
        name: what they are called, of a fold's block "train", "validation" or "test".
    """

    panel: Panel
    days: range
    name: str = ""

    @classmethod
    def of(cls, panel: Panel, fold: Fold, name: str) -> "Block":
        """One block of a fold.

        Raises:
            FoldError: there is no such block, or the panel holds none of its days.
        """
        return cls(panel, fold.places(panel.dates, name), name)

    @property
    def rows(self) -> slice:
        return slice(self.days.start, self.days.stop)

    @cached_property
    def eligible(self) -> NDArray[np.bool_]:
        """[D,N]."""
        return self.panel.valid[self.rows]

    @cached_property
    def volatility(self) -> Floats:
        """20-day volatility [D,N], from the panel's own one-day returns, each known on the day after."""
        return trailing_volatility(self.panel.one_day_returns, self.days)

    def score(self, frame: pl.DataFrame) -> Score:
        """Score a frame of date, code, score_<h>d on all eligible rows of the block."""
        return self.score_dense(self.dense(frame))

    def score_dense(self, scores: Floats) -> Score:
        """Score an array [H,D,N]."""
        return evaluate(
            scores,
            self.panel.y[:, self.rows],
            self.eligible,
            horizons=self.panel.horizons,
            volatility=self.volatility,
            sectors=self.panel.sectors,
        )

    def dense(self, frame: pl.DataFrame) -> Floats:
        """Scores of a frame on the block's axes [H,D,N], NaN where it has none; other days and names are ignored."""
        rows = self.placed(frame)
        dense = np.full((len(self.panel.horizons), len(self.days), len(self.panel.codes)), np.nan, np.float32)
        for h, horizon in enumerate(self.panel.horizons):
            values = rows[f"score_{horizon}d"].cast(pl.Float32).to_numpy()
            dense[h, rows["d"].to_numpy(), rows["n"].to_numpy()] = values
        return dense

    def placed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows of a frame of date, code … that lie on the block's axes, with their places d and n on them."""
        dates, codes = [self.panel.dates[t] for t in self.days], self.panel.codes
        place = pl.DataFrame({"date": dates, "d": range(len(dates))}, schema={"date": pl.Date, "d": pl.Int64})
        column = pl.DataFrame({"code": codes, "n": range(len(codes))}, schema={"code": pl.String, "n": pl.Int64})
        return frame.with_columns(pl.col("date").cast(pl.Date)).join(place, on="date").join(column, on="code")

    def frame(self, scores: Floats) -> pl.DataFrame:
        """The eligible rows of scores [H,D,N] as a frame of date, code, score_<h>d (float32)."""
        d, n = np.nonzero(self.eligible)
        dates = np.array(self.panel.dates, dtype="datetime64[D]")[self.days.start + d]
        columns = {f"score_{horizon}d": scores[h, d, n] for h, horizon in enumerate(self.panel.horizons)}
        return pl.DataFrame({"date": dates, "code": np.array(self.panel.codes)[n], **columns}).with_columns(
            pl.col("date").cast(pl.Date), pl.col("^score_.*$").cast(pl.Float32)
        )
