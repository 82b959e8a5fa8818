"""A code location that loads at once, for servers that are tested and not what they serve."""

import dagster as dg


@dg.asset
def trivial() -> int:
    return 1


defs = dg.Definitions(assets=[trivial])
