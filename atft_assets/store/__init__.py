"""The store: tables on disk or in a bucket.

Here belong month files, their manifest, atomic publication and hash-checked reads. Not here: what a table must hold
(`contracts`), which months exist (`partitions`), panels and runs (`atft_model.interchange`).
"""

from atft_assets.store.errors import DamagedTable, MissingColumns, MissingTable, StoreError
from atft_assets.store.manifest import UNPARTITIONED, Entry, Manifest
from atft_assets.store.tables import Staged, Store, Table

__all__ = [
    "UNPARTITIONED",
    "DamagedTable",
    "Entry",
    "Manifest",
    "MissingColumns",
    "MissingTable",
    "Staged",
    "Store",
    "StoreError",
    "Table",
]
