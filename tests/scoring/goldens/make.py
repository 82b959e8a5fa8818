# /// script
# requires-python = ">=3.11"
# dependencies = ["alphalens-reloaded==0.5.1", "numerai-tools==0.7.2"]
# ///
"""Make golden.json anew: in an environment with these packages, `python -m tests.scoring.goldens.make` from the root.

The test suite does not need them: it reads golden.json, and holds this house's figures against theirs.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from alphalens import performance, utils
from numerai_tools.scoring import gaussian, neutralize, orthogonalize, tie_kept_rank

from tests.scoring.goldens import inputs

OUT = Path(__file__).parent / "golden.json"
DIGITS = 10


def alphalens() -> dict[str, object]:
    """IC, deciles, spread, turnover and autocorrelation of the small market."""
    days = pd.bdate_range("2021-01-04", periods=inputs.DAYS + max(inputs.HORIZONS))
    names = [f"{n:03d}" for n in range(inputs.NAMES)]
    prices = pd.DataFrame(inputs.prices(), index=days, columns=names)
    factor = pd.DataFrame(inputs.factor(), index=days[: inputs.DAYS], columns=names).stack()
    data = utils.get_clean_factor_and_forward_returns(factor, prices, periods=inputs.HORIZONS, quantiles=10, max_loss=0)
    means, _ = performance.mean_return_by_quantile(data, by_date=True, demeaned=True)
    ic = performance.factor_information_coefficient(data)
    found: dict[str, object] = {}
    for horizon, period in zip(inputs.HORIZONS, ("1D", "5D"), strict=True):
        by_decile = means[period].unstack("factor_quantile")
        spread, _ = performance.compute_mean_returns_spread(means[period].to_frame(), 10, 1)
        found[str(horizon)] = {
            "rank_ic": rounded(ic[period]),
            "deciles": rounded(by_decile.mean()),
            "spread": rounded(spread[period]),
            "turnover": rounded(performance.quantile_turnover(data["factor_quantile"], 10, horizon).dropna()),
            "autocorrelation": float(performance.factor_rank_autocorrelation(data, horizon).mean()),
        }
    return found


def numerai() -> dict[str, object]:
    """Residuals of the first day's scores: on exposures and sectors, and on a second model."""
    scores = pd.DataFrame({"mine": inputs.factor()[0]})
    dummies = pd.get_dummies(pd.Series(inputs.sectors())).to_numpy(float)
    neutralizers = pd.DataFrame(np.hstack([inputs.exposures(), dummies]))
    mine = gaussian(tie_kept_rank(scores)).to_numpy()
    other = gaussian(tie_kept_rank(pd.DataFrame({"other": inputs.other_scores()}))).to_numpy()[:, 0]
    return {
        "neutralize": rounded(neutralize(scores, neutralizers)["mine"]),
        "orthogonalize": rounded(orthogonalize(mine, other)[:, 0]),
    }


def rounded(values: object) -> list[float]:
    """As a list, to ten digits behind the point."""
    return np.round(np.asarray(values, float), DIGITS).tolist()


if __name__ == "__main__":
    OUT.write_text(json.dumps({"alphalens": alphalens(), "numerai": numerai()}, indent=None) + "\n")
