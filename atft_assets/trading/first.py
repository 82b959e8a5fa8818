"""The champion in use; on a fresh root what won its evaluation becomes the first, without a person asking for it."""

from collections.abc import Callable

from atft_assets.store import Store
from atft_assets.trading.boards import EVALUATION
from atft_assets.trading.champion import FOLDER, Champion, current
from atft_assets.trading.promotion import NAME, first_champion


def champion_in_use(store: Store, say: Callable[[str], None]) -> Champion | None:
    """The champion in use; None where nothing was judged yet.

    Raises:
        ChampionRefused, RunError, FoldError, PanelError: what won cannot score, or a file is damaged.
    """
    champion = current(store.local(FOLDER))
    if champion is None and store.local(*EVALUATION).exists():
        champion = first_champion(store)
        say(f"{champion} won its evaluation and is the first champion of this root; to choose another: {NAME}")
    return champion
