"""Open the newest panel and the newest run of a phase: shapes, the fold, and what a name looks like on one evening.

    python examples/look_at_panel.py                # the newest panel, phase 0
    python examples/look_at_panel.py 13010 3        # another name, another phase

Panel, fold and run are files whose formats stand in docs/formats.md; `atft_model.interchange` reads them with NumPy
alone.
"""

import sys

import numpy as np
import polars as pl

from atft_assets.settings import Settings
from atft_assets.store import Store
from atft_assets.training.runs import latest_run
from atft_model.interchange.fold import BLOCKS, MAIN
from atft_model.interchange.panel import latest_panel
from atft_model.interchange.phases import PHASES


def main(arguments: list[str]) -> None:
    """Print what is inside."""
    store = Store(root=Settings.from_env().data_root)
    panel = latest_panel(store.local("panel"))
    code = arguments[0] if arguments else panel.codes[0]
    phase = PHASES[int(arguments[1]) if len(arguments) > 1 else 0]

    days, names, features = panel.tensors["x"].shape
    print(f"panel {panel.panel_id}: {days} days × {names} names × {features} features")
    for name, tensor in panel.tensors.items():
        print(f"  {name:<16} {tensor.dtype.name:<8} {list(tensor.shape)}")

    if code not in panel.codes:
        raise SystemExit(f"{code} is not among the names of the panel: {', '.join(panel.codes[:5])} …")
    n = panel.codes.index(code)
    t = int(np.flatnonzero(panel.valid[:, n])[-1])  # the last evening on which the name was eligible
    print(f"\n{code} on {panel.dates[t]}, first features, scaled within the day:")
    for name, value in list(zip(panel.features, panel.x(t)[n], strict=True))[:5]:
        print(f"  {name:<24} {value:+.3f}")
    print(
        "  neighbours:",
        ", ".join(panel.codes[k] for k in panel.tensors["neighbours"][panel.tensors["graph_period"][t], n]),
    )

    newest = latest_run(store.local("runs", MAIN, phase.key))
    if newest is None:
        print(f"\nno run of {phase.key} yet: dagster asset materialize --select train_{phase.key}")
        return
    run = newest.record
    print(f"\nrun {run.run_id} of {phase.name}, trained on panel {run.panel_id}; fold {run.fold.name}:")
    for block in BLOCKS:
        first, last = run.fold.span(block)
        print(f"  {block:<10} {first} … {last}")
    scores = newest.scores()  # held against their hash
    print(f"its scores of the validation block: {scores.height} rows; those of {code}:")
    print(scores.filter(pl.col("code") == code).tail(3))


if __name__ == "__main__":
    main(sys.argv[1:])
