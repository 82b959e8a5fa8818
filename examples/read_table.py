"""Read a table of the store into Polars and pandas.

    python examples/read_table.py                              # what is there
    python examples/read_table.py features/stock_features 2024-03 2024-04
    python examples/read_table.py raw/daily_quotes             # every month

The root is ATFT_DATA (default: ./data). A table is read through the store, not through its files: the store takes the
months that were published, holds each against its hash, and names the command that builds what is missing.
"""

import sys

from atft_assets.settings import Settings
from atft_assets.store import Store


def main(arguments: list[str]) -> None:
    """List the tables, or show one."""
    store = Store(root=Settings.from_env().data_root)
    if not arguments:
        for folder in sorted(store.local().glob("*/*/manifest.json")):
            group, name = folder.parts[-3:-1]
            keys = store.table(group, name).keys()
            print(f"{group}/{name:<24} {len(keys):>4} files, {keys[0]} … {keys[-1]}")
        return
    group, _, name = arguments[0].partition("/")
    table = store.table(group, name)
    frame = table.read(arguments[1:] or None)  # Polars; rows by date and code
    print(f"{arguments[0]}: {frame.height} rows × {frame.width} columns, data version {table.version()[:12]}")
    print(frame.tail(5))
    figures = frame.to_pandas().describe(include="number").T  # pandas, for whoever prefers it
    print(figures[["count", "mean", "std", "min", "max"]].head(8).to_string())


if __name__ == "__main__":
    main(sys.argv[1:])
