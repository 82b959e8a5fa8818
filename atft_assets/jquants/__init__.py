"""Everything that speaks to J-Quants: endpoint table, plans, rate limit, errors, client, Dagster resource.

Here belongs what is true of the API whatever we do with its answers. Not here: tables, partitions and schemas of our
own (`atft_assets.raw`), and the simulated service (`atft_assets.sandbox`).
"""
