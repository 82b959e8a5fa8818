"""What a network's ranking loses when an input is shuffled: permutation importance, measured on one batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from atft_model.interchange.panel import PanelDescription
from atft_model.metrics import spearman_by_day
from atft_model.model import ATFTGATFAN
from atft_model.panel import Batch


@torch.no_grad()
def permutation_importances(
    models: Sequence[ATFTGATFAN], batch: Batch, description: PanelDescription, seed: int = 0
) -> dict[str, float]:
    """Share of each feature in what shuffling costs: 1 - rank correlation of the scores with and without it shuffled,
    mean over days, horizons and members, as shares that sum to 1 (0 throughout where nothing matters).

    A feature's value on the newest row is replaced by that of another eligible cell, of any name and day of the batch,
    so a market's day counts too. Where it is read as a sequence, whole windows go to another name as well.
    """
    places = {place: r for r, place in enumerate(description.sequences)}
    costs = torch.zeros(len(description.features), dtype=torch.float64)
    for model in models:
        training = model.training
        model.eval()
        with model.precision():
            read = None
            if model.switches.temporal:
                assert batch.windows is not None
                read = model.read(batch.windows)
            whole = model.score(batch.newest, read, batch.graph).scores
            for place in range(len(costs)):
                generator = torch.Generator().manual_seed(seed)  # the same cells for every feature
                newest = _shuffled_cells(batch, place, generator)
                again = read
                if read is not None and place in places:
                    again = model.read(_shuffled_windows(batch, places[place], generator))
                scores = model.score(newest, again, batch.graph).scores
                costs[place] += _loss_of_order(whole, scores, batch)
        model.train(training)
    costs = costs.clamp_min(0)
    shares = costs / costs.sum().clamp_min(1e-12)
    return dict(zip([feature.name for feature in description.features], shares.tolist(), strict=True))


def _loss_of_order(before: Tensor, after: Tensor, batch: Batch) -> float:
    """1 - mean rank correlation of scores [H, D, W] over the eligible names of each day."""
    mask = batch.valid.flatten(0, 1).expand(before.shape[0], -1, -1)
    return 1.0 - float(spearman_by_day(before, after, mask).nanmean().nan_to_num(1.0))


def _shuffled_cells(batch: Batch, place: int, generator: torch.Generator) -> Tensor:
    """The newest rows [D, W, F] with one feature's values dealt anew among the eligible cells."""
    eligible = batch.valid.flatten().nonzero().squeeze(1)
    dealt = eligible[torch.randperm(len(eligible), generator=generator).to(eligible.device)]
    newest = batch.newest.clone()
    column = newest.flatten(0, 1)[:, place]  # a view
    column[eligible] = batch.newest.flatten(0, 1)[dealt, place]
    return newest


def _shuffled_windows(batch: Batch, r: int, generator: torch.Generator) -> Tensor:
    """The windows [R, S, G, W] with one input's series dealt anew among the eligible names of each chunk."""
    assert batch.windows is not None
    windows = batch.windows.clone()
    for g in range(windows.shape[2]):
        eligible = batch.valid[:, g].any(0).nonzero().squeeze(1)
        dealt = eligible[torch.randperm(len(eligible), generator=generator).to(eligible.device)]
        windows[r, :, g, eligible] = batch.windows[r, :, g, dealt]
    return windows
