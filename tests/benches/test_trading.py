"""The bench of back-tests: its market is one, and its twenty strategies run on it."""

import numpy as np
import pytest

from atft_assets.benches.trading import main, random_market, size_of, twenty
from atft_assets.trading.sweep import sweep


def test_the_market_of_the_bench_is_one() -> None:
    market, scores = random_market(60, 50)
    assert scores.shape == market.close.shape == (60, 50)
    traded = np.isfinite(market.close)
    assert (np.isfinite(market.open) == traded).all() and (market.value[~traded] == 0).all()
    assert (market.low[traded] <= market.close[traded]).all() and (market.close[traded] <= market.high[traded]).all()
    assert (market.adj_factor != 1).any() or (market.dividend > 0).any()
    assert size_of(market) > 60 * 50 * 4 * 10


def test_twenty_strategies_run() -> None:
    market, scores = random_market(45, 60)
    cases = twenty(scores)
    assert len({case.strategy for case in cases}) == len(cases) == 20
    assert sum(len(ledger.trades) for _, ledger in sweep(market, cases)) > 0


def test_the_bench_prints_its_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["trading", "--days", "45", "--names", "60"])
    main()
    said = capsys.readouterr().out
    assert "a sweep of 20" in said and "peak GB" in said and "3,000" in said
