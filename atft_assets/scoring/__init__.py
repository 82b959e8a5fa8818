"""The judge: how well scores rank returns, in pure NumPy; no Dagster.

Here belong ranks, daily correlations, neutral figures, deciles, turnover, exposures, the profile of a score, and a
block of a panel ready to be judged. Not here: the statistics that both sides of the wall share
(`atft_model.interchange.statistics`), tables and pictures of the result (`reports`), where the scores come from
(`training`).
"""
