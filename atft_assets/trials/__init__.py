"""How much was tried: the ledger of configurations whose result somebody saw, and what makes two of them the same.

The best of a hundred tries looks good by chance alone; how good, follows from how many there were, and only a ledger
that everybody writes to knows. Here belong that ledger and the hash of a recipe. Not here: who tries (`training`,
`hpo`, `trading`), and what the count does to a Sharpe ratio (`trading.inference`).
"""
