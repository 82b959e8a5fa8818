"""What J-Quants said: one asset an endpoint, its contract beside it, nothing computed.

Here belongs pulling, strict typing and storing of the service's own records, field names kept. Not here: the client
(`atft_assets.jquants`), adjusted prices, universes, returns or anything else that is derived (`atft_assets.features`).
"""

from atft_assets.raw.assets import definitions
from atft_assets.raw.registry import SOURCES
from atft_assets.raw.source import Source

__all__ = ["SOURCES", "Source", "definitions"]
