"""The door in the wall: every fact on which `atft_assets` and `atft_model` must agree. Standard library and NumPy only.

Here belong formats of files that pass over the wall (panel, fold, request, run), the names of the phases, exit codes,
horizons and their weights, and the statistics of daily series. It is the one part of `atft_model` that `atft_assets`
may import; a fact of both sides that stands anywhere else is a defect. Not here: torch, Dagster, Polars, anything that
only one side needs. docs/formats.md is rendered from these definitions (`python -m atft_model.interchange.formats`).

Letters of tensor shapes, in both packages:

    T  days of a panel                     F  features
    N  names (padded in the network)       H  horizons
    P  graph periods (months)              K  neighbour slots, the first is the name itself
    D  days that are scored                Q  quantile levels
    L  look-back, rows that a day can see  B  days of a chunk that are predicted
    S  rows of a chunk, L + B - 1          G  chunks of a step
    W  names of a chunk, at most N         M  positions, S * G * W
    C  width of a name's state             A  width of the temporal encoder
    R  sequence inputs, at most F          E  width of a sequence input's own embedding
"""
