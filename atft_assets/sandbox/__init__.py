"""A local J-Quants: a simulated Tokyo market behind a real HTTP server that speaks API V2.

Here belongs what stands in for the exchange and its data service: the market simulator with its planted signals and
their oracle (`config`, `names`, `process`, `planted`, `market`, `oracle`), the records beside prices, a module a family
(`fiscal`, `figures`, `statements`, `schedule`, `dividends`, `valuation`, `margin`, `shorts`, `orders`, `flow`,
`implied`, `contracts`, `options`, `futures`, `more_indices`, `minutes`), the code tables of the API (`codes`), what
each endpoint answers (`endpoints`, `records`, `query`, `wire`), and the server with its limits and faults (`server`,
`limits`, `faults`). Not here: the client (it must not know whether it talks to J-Quants or to this room), and anything
that reads or writes `$ATFT_DATA`.

Prices are simulated at once, the records beside them when somebody asks: a record depends on the seed, its name and its
day (`draws`), never on what was made before it. So ten years of a full market are served without being built, and a
market that ends earlier has the records of one that ends later.

    with serve(demo_config()) as server:
        ...  # server.base_url, server.api_key, server.now, server.faults

Every price, name and number is invented; only field names and codes are those of the interface.
Importing the package costs nothing: the names below load their module on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atft_assets.sandbox.config import MarketConfig, demo_config
    from atft_assets.sandbox.faults import Fault, Faults
    from atft_assets.sandbox.market import Market, simulate
    from atft_assets.sandbox.oracle import oracle_rank_ic
    from atft_assets.sandbox.server import SandboxServer, serve

_HOME = {
    "Fault": "faults",
    "Faults": "faults",
    "Market": "market",
    "MarketConfig": "config",
    "SandboxServer": "server",
    "demo_config": "config",
    "oracle_rank_ic": "oracle",
    "serve": "server",
    "simulate": "market",
}

__all__ = [
    "Fault",
    "Faults",
    "Market",
    "MarketConfig",
    "SandboxServer",
    "demo_config",
    "oracle_rank_ic",
    "serve",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
