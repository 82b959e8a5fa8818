"""From tables to one dense file: features, labels and graph on one calendar and one list of names.

Here belongs what reads tables and writes a panel: axes, scaling at the model's edge, the panel's contract, the asset.
Not here: who is eligible (the table `universe`), how days are cut into blocks (`training.folds`), the format itself
(`atft_model.interchange.panel`).
"""

import dagster as dg

from atft_assets.panel.asset import panel_asset
from atft_assets.settings import Settings


def definitions(settings: Settings) -> dg.Definitions:
    """The asset `training_panel`; it needs the resource `store`."""
    return dg.Definitions(assets=[panel_asset(settings)])
