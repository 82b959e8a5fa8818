"""Features: one module a family or table of pure Polars functions, the registry of tables, and their assets.

Here belongs what turns raw tables into columns known at 18:30 JST of their date, and the labels. Not here:
fetching (raw), scaling for the model (panel), anything that looks at a checkpoint.
"""

from atft_assets.features.assets import definitions
from atft_assets.features.old_roots import OldRoot, refuse_old_root
from atft_assets.features.registry import TABLES
from atft_assets.features.table import FeatureTable, Reader

__all__ = ["TABLES", "FeatureTable", "OldRoot", "Reader", "definitions", "refuse_old_root"]
