# /// script
# requires-python = ">=3.11"
# dependencies = ["purgedcv==0.1.11"]
# ///
"""Make golden.json anew: in an environment with this package, `python -m tests.trading.goldens.make` from the root.

The test suite does not need it: it reads golden.json, and holds this house's figures against those of purgedcv.
"""

import json
from pathlib import Path

import purgedcv

from tests.trading.goldens import inputs

OUT = Path(__file__).parent / "golden.json"


def main() -> None:
    returns = inputs.returns()
    one = returns[:, -1]
    found = {
        "psr": [purgedcv.probabilistic_sharpe_ratio(one, benchmark) for benchmark in inputs.BENCHMARKS],
        "dsr": [purgedcv.deflated_sharpe_ratio(one, trials, variance) for trials, variance in inputs.TRIALS],
        "length": [
            purgedcv.min_track_record_length(sharpe, benchmark, 0.05, skew, kurtosis)
            for sharpe, benchmark, skew, kurtosis in inputs.LENGTHS
        ],
        "years": [purgedcv.minimum_backtest_length(trials) for trials, _ in inputs.TRIALS[1:]],
        "pbo": [purgedcv.probability_of_backtest_overfitting(returns.T, n_splits=n).pbo for n in inputs.BLOCKS],
    }
    OUT.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
