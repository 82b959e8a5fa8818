"""The ATFT-GAT-FAN network and everything needed to train, score and measure it on a bare machine.

Belongs here: the network, its losses and metrics, the training curriculum, checkpoints, the command line. It reads
one panel directory and writes one run directory (`panel.py`, `checkpoint.py` state the formats) and needs torch,
safetensors, numpy and pyarrow; torch-geometric only for `gat_backend="pyg"`. Does not belong here: fetching data,
feature formulas, orchestration. Nothing here imports Dagster (`__main__` speaks `dagster_pipes` when it was started
through it), Polars or pandas.
"""
