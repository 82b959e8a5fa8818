"""The graph: which names move together.

Here belongs the month table of neighbours, from data before the month. Not here: its place on a panel's axes (`panel`)
and the network's attention over it (`atft_model`).
"""

import dagster as dg

from atft_assets.graph.asset import graph_asset
from atft_assets.settings import Settings


def definitions(settings: Settings) -> dg.Definitions:
    """The asset `correlation_graph`; it needs the resource `store`."""
    return dg.Definitions(assets=[graph_asset(settings)])
