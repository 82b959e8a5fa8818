"""The champion in use."""

from collections.abc import Callable

from atft_assets.store import Store
from atft_assets.trading.champion import Champion, current
from atft_assets.trading.daily_scores import GROUP


def champion_in_use(store: Store, say: Callable[[str], None]) -> Champion | None:
    """The champion in use; None if there is none."""
    return current(store.local(GROUP))
