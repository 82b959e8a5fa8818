"""How long the road will take, said before it begins: what is lacking, and what the plan lets through a minute."""

from datetime import datetime

from atft_assets.calendar import TOKYO, days_of_month, month_key
from atft_assets.jquants.bulk import served
from atft_assets.jquants.plans import includes, own_rate, window
from atft_assets.partitions import months
from atft_assets.raw import SOURCES, daily_quotes
from atft_assets.raw.ingest import GROUP
from atft_assets.settings import Settings
from atft_assets.store import Store, StoreError

# Of `make demo` on two quiet cores: 45 simulated months of every table of the plan 125 s, panel to evaluation 110 s.
SECONDS_A_MONTH = 2.8
SECONDS_OF_TRAINING = 110.0
PAGES_A_DAY = 2  # of the 4,400 names of a day
REQUESTS_A_FILE = 2  # its address, and itself


def requests_lacking(settings: Settings, store: Store) -> int:
    """Requests for months that are not published yet, of the tables of the plan: two for the file of a month that is
    over, where the plan has files, and else those of its days. Tables of an add-on are fetched by name alone.
    """
    today = datetime.now(TOKYO).date()
    covered, total = window(settings.plan, today), 0
    for source in SOURCES:
        endpoint = source.endpoint
        if source.at_once or source.latest_only or endpoint.addon or not includes(settings.plan, endpoint):
            continue
        held = _held(store, source.name)
        for key in months(settings).get_partition_keys():
            if key in held:
                continue
            asked = [
                day for day in days_of_month(key) if day in covered and settings.start <= day <= (settings.end or today)
            ]
            if asked and endpoint.in_bulk and served(settings.plan) and key < month_key(today):
                total += REQUESTS_A_FILE
                continue
            total += (len({day.isocalendar()[:2] for day in asked}) if source.choose else len(asked)) * PAGES_A_DAY
    return total


def _held(store: Store, name: str) -> set[str]:
    try:
        return set(store.table(GROUP, name).keys())
    except StoreError:
        return set()  # what is damaged is said by the step that reads it


def forecast(settings: Settings, store: Store) -> str:
    """One clause about the time; an order of magnitude, of two cores."""
    if settings.sandbox:
        lacking = set(months(settings).get_partition_keys()) - _held(store, daily_quotes.SOURCE.name)
        minutes = (len(lacking) * SECONDS_A_MONTH + SECONDS_OF_TRAINING) / 60
        return f"about {minutes:.0f} minutes on two cores"
    asked, rate = requests_lacking(settings, store), own_rate(settings.plan)
    if not asked:
        return "nothing to fetch but the newest days; features and training take the time"
    minutes = asked / rate
    spent = f"{minutes / 60:.1f} hours" if minutes >= 90 else f"{max(minutes, 1):.0f} minutes"
    plan = f"{rate:.0f} a minute (plan {settings.plan})"
    return f"about {asked:,} requests at {plan}: {spent} of fetching, then features and training"
