"""ATFT's Dagster side: it pulls, checks, stores, and starts trainings.

Here belongs what knows Dagster, J-Quants, Polars and Pandera, one room (sub-package) a subject.
Not here: torch. The network lives in `atft_model`, which runs in a process of its own and meets this package only in
files (a panel directory, a run directory), so the code location loads in a second.
"""
