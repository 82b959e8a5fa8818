"""`make bench-load`: how long Dagster waits for the code location, against importing Dagster alone.

Each figure is the median of fresh processes; the two are interleaved, so a noisy machine disturbs both.
"""

import statistics
import subprocess
import sys
import time

ROUNDS = 7
STATEMENTS = {
    "import dagster": "import dagster",
    "import dagster, polars, pandera": "import dagster, polars, pandera.polars",
    "the code location": "import atft_assets.definitions",
}


def main() -> None:
    """Measure and print."""
    seconds: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(ROUNDS):
        for name, statement in STATEMENTS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)
            seconds[name].append(time.perf_counter() - began)
    base = statistics.median(seconds["import dagster"])
    for name, values in seconds.items():
        median = statistics.median(values)
        spread = f"min {min(values):.2f}, max {max(values):.2f}"
        print(f"{name:<34}{median:6.2f} s  ({median / base:.2f} x import dagster; {spread})")


if __name__ == "__main__":
    main()
