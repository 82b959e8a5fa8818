"""What a ranking may be leaning on: known properties of the names on a day, none of them a forecast."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets.scoring.block import Block
from atft_assets.scoring.ordering import Floats
from atft_assets.scoring.ranking import gaussian_ranks
from atft_assets.scoring.trailing import trailing_beta, trailing_return
from atft_model.interchange.panel import from_bfloat16

TRADING_VALUE = ("log_adv_20", "log_turnover")  # features of the panel that rank names by yen traded, best first
# from the smallest names of TOPIX to the largest; a name of none of them is smaller still
SIZE_CLASSES = ("Small 2", "Small 1", "Mid400", "Large70", "Core30")
NEUTRALISED = ("volatility", "beta", "size", "trading_value")  # what the full neutral figure takes out beside sectors


@dataclass(frozen=True)
class Exposures:
    """Properties of the names, by name, each [D,N] float32, NaN where a name has none.

    Attributes:
        left_out: properties that could not be had, and why.
    """

    values: Mapping[str, NDArray[np.float32]]
    left_out: Mapping[str, str]

    def taken_out(self, eligible: NDArray[np.bool_]) -> NDArray[np.float32]:
        """What the full neutral figure takes out [D,N,K]: gaussian ranks among the eligible names of the day; a name
        without a value counts as the day's median, 0.
        """
        names = [name for name in NEUTRALISED if name in self.values]
        ranked = np.zeros((*eligible.shape, len(names)), np.float32)
        for d, rows in enumerate(eligible):
            if rows.any():
                columns = np.stack([self.values[name][d, rows] for name in names], axis=1)
                ranked[d, rows] = np.nan_to_num(gaussian_ranks(columns))
        return ranked


def exposures_of(block: Block, members: pl.DataFrame | None) -> Exposures:
    """The properties of a block's names, from the panel and, where they are given, the members of the universe.

    Args:
        members: date, code, scale_cat of the block's days.
    """
    panel, days = block.panel, block.days
    returns = panel.one_day_returns
    found = {
        "volatility": block.volatility,
        "beta": trailing_beta(returns, days),
        "return_1d": trailing_return(returns, days, 1),
        "return_5d": trailing_return(returns, days, 5),
    }
    left_out = {}
    feature = next((name for name in TRADING_VALUE if name in panel.features), None)
    if feature is None:
        left_out["trading_value"] = f"the panel has neither of the features {' and '.join(TRADING_VALUE)}"
    else:
        found["trading_value"] = from_bfloat16(panel.tensors["x"][block.rows, :, panel.features.index(feature)])
    if members is None:
        left_out["size"] = "the table universe, which has the TOPIX size classes, was not to be had"
    else:
        sizes = _sizes(block, members)
        if np.nanmin(sizes) == np.nanmax(sizes):
            left_out["size"] = "all names of the block are of one TOPIX size class"
        else:
            found["size"] = sizes
    left_out["market_capitalisation"] = (
        "shares outstanding are in none of the tables; the TOPIX size class stands for size where it is known"
    )
    return Exposures({name: values.astype(np.float32) for name, values in found.items()}, left_out)


def _sizes(block: Block, members: pl.DataFrame) -> Floats:
    """TOPIX size class of the names [D,N]: 1 Small 2 … 5 Core30, 0 none, NaN where a name has no row."""
    rows = block.placed(members)
    sizes = np.full(block.eligible.shape, np.nan, np.float32)
    size = pl.lit(0)
    for place, label in enumerate(SIZE_CLASSES, 1):
        size = pl.when(pl.col("scale_cat").str.contains(label, literal=True)).then(place).otherwise(size)
    sizes[rows["d"].to_numpy(), rows["n"].to_numpy()] = rows.select(size.fill_null(0)).to_series().to_numpy()
    return sizes
