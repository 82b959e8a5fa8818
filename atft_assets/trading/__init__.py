"""From scores to orders: exchange rules, market arrays, targets, fills, the ledger, and what a book earned.

Pure functions on NumPy arrays and Polars frames; assets wire them. No pandas, no torch. `training` and this room know each
other only through tables and runs. Money is JPY, returns are decimals, a trading year has `TRADING_DAYS` days.
"""

TRADING_DAYS = 245  # of a year of the Tokyo exchange; the one constant that annualises
