"""The one constant that annualises; a module of its own, so that the room's modules need not import the room itself."""

TRADING_DAYS = 245  # of a year of the Tokyo exchange
