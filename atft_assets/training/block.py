"""A block of a panel, ready to be scored: the same rows for every model, baseline and rule."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets.training.evaluation import Floats, Score, evaluate, trailing_volatility
from atft_assets.training.panel_file import Panel


@dataclass(frozen=True)
class Block:
    """The days of one block ("train", "validation", "test") of a panel: D days, N names, H horizons."""

    panel: Panel
    name: str

    @cached_property
    def days(self) -> range:
        """Day indices in the panel."""
        return self.panel.block(self.name)

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
        return trailing_volatility(self.one_day_returns, self.days)

    @property
    def one_day_returns(self) -> Floats:
        """[T,N] of the whole panel; row t is the return from t to t+1."""
        return self.panel.tensors["y_cc"][self.panel.horizons.index(1)]

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
        dates = [self.panel.dates[t] for t in self.days]
        place = pl.DataFrame({"date": dates, "d": range(len(dates))}, schema={"date": pl.Date, "d": pl.Int64})
        codes = self.panel.codes
        column = pl.DataFrame({"code": codes, "n": range(len(codes))}, schema={"code": pl.String, "n": pl.Int64})
        rows = frame.with_columns(pl.col("date").cast(pl.Date)).join(place, on="date").join(column, on="code")
        dense = np.full((len(self.panel.horizons), len(dates), len(codes)), np.nan, np.float32)
        for h, horizon in enumerate(self.panel.horizons):
            values = rows[f"score_{horizon}d"].cast(pl.Float32).to_numpy()
            dense[h, rows["d"].to_numpy(), rows["n"].to_numpy()] = values
        return dense

    def frame(self, scores: Floats) -> pl.DataFrame:
        """The eligible rows of scores [H,D,N] as a frame of date, code, score_<h>d (float32)."""
        d, n = np.nonzero(self.eligible)
        dates = np.array(self.panel.dates, dtype="datetime64[D]")[self.days.start + d]
        columns = {f"score_{horizon}d": scores[h, d, n] for h, horizon in enumerate(self.panel.horizons)}
        return pl.DataFrame({"date": dates, "code": np.array(self.panel.codes)[n], **columns}).with_columns(
            pl.col("date").cast(pl.Date), pl.col("^score_.*$").cast(pl.Float32)
        )
