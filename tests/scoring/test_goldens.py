"""Our figures against those of alphalens-reloaded and numerai-tools; goldens/make.py made theirs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atft_assets.scoring.daily import daily_spearman
from atft_assets.scoring.neutral import beyond, residual
from atft_assets.scoring.ordering import decile_means, deciles_of, levels_of, ranks_of, spread_of
from atft_assets.scoring.turnover import held_turnover
from tests.scoring.goldens import inputs

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "goldens" / "golden.json").read_text())


@pytest.mark.parametrize("horizon", inputs.HORIZONS)
def test_alphalens(horizon: int) -> None:
    theirs = GOLDEN["alphalens"][str(horizon)]
    returns = inputs.forward_returns()[inputs.HORIZONS.index(horizon)]
    levels = levels_of(inputs.factor())
    np.testing.assert_allclose(daily_spearman(levels, levels_of(returns)), theirs["rank_ic"], atol=1e-9)
    deciles = np.stack([deciles_of(ranks_of(level)) for level in levels])
    means = [decile_means(d, r) for d, r in zip(deciles, returns, strict=True)]
    np.testing.assert_allclose(np.mean(means, axis=0), theirs["deciles"], atol=1e-9)
    spread = [spread_of(d, r) for d, r in zip(deciles, returns, strict=True)]
    # theirs puts half of the capital on each side
    np.testing.assert_allclose(np.array(spread) / 2, theirs["spread"], atol=1e-9)
    # theirs counts names that are new; without drift and with as many names each day that is the one-way turnover
    turnover = held_turnover(deciles == 9, np.zeros(returns.shape), horizon)
    np.testing.assert_allclose(turnover, theirs["turnover"], atol=1e-9)
    lagged = daily_spearman(levels[:-horizon], levels[horizon:]).mean()
    assert lagged == pytest.approx(theirs["autocorrelation"])


def test_numerai() -> None:
    theirs = GOLDEN["numerai"]
    left = residual(inputs.factor()[0], inputs.exposures(), inputs.sectors())
    np.testing.assert_allclose(left, theirs["neutralize"], atol=1e-9)
    # our gaussian ranks are interpolated, accurate to 1e-4
    np.testing.assert_allclose(beyond(inputs.factor()[0], inputs.other_scores()), theirs["orthogonalize"], atol=3e-4)
