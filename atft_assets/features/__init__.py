"""Features: one module a family of pure Polars functions, the catalogue that names every column, and their assets.

Here belongs what turns raw tables into columns known at 18:30 JST of their date, and the labels. Not here:
fetching (raw), scaling for the model (training: the panel), anything that looks at a checkpoint.
"""

from atft_assets.features.assets import definitions

__all__ = ["definitions"]
