"""Names of the groups of assets, as the UI and `--select group:…` know them.

The UI sorts groups by name, so a name begins with its place on the road; what keeps the machine healthy comes last.
Folders of the data root are named by the rooms (`raw`, `features`, `graph`) and do not follow these.
"""

RAW = "road1_raw"
FEATURES = "road2_features"
GRAPH = "road3_graph"
TRAINING = "road4_training"
TRADING = "road5_trading"
OPERATIONS = "upkeep"

TABLES = (RAW, FEATURES, GRAPH)  # what an evening refreshes, month by month
# On raw tables that need an option of the subscription besides the plan; whether it was bought nobody can ask, and a
# month of minutes is larger than all else together. A person builds them by name; nothing reads them.
ADDON_TAG = "atft/addon"
# Selects what comes month by month; trading_calendar, labels and the reports are built whole.
MONTHLY = (
    f"({' or '.join(f'group:{name}' for name in TABLES)}) and not tag:atft/partitions=none and not tag:{ADDON_TAG}=yes"
)
