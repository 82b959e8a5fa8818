"""What the bench measures with: regions of a step, windows for comparison."""

from __future__ import annotations

from dataclasses import replace

import torch

from atft_model.bench import REGIONS, STEPS, flops_per_stock_day, measure_network, region_times, step_cells
from atft_model.bench_windows import WindowSamples, window_trainer
from atft_model.curriculum import WHOLE
from atft_model.fit import Fit
from atft_model.interchange.config import NEWEST_ROW
from tests.model.conftest import SMALL, TINY


def test_regions_add_up_to_a_step_and_leave_no_trace(small_panel, small_fold):
    fit = Fit(small_panel, small_fold, TINY, WHOLE)
    before = {name: parameter.clone() for name, parameter in fit.model.named_parameters()}
    times = region_times(fit, fit.epoch_order(1)[0], repeats=3, warm=1)
    assert list(times) == [f"{r} forward" for r in REGIONS] + [f"{r} backward" for r in reversed(REGIONS)]
    newest = Fit(small_panel, small_fold, TINY, replace(WHOLE, on=NEWEST_ROW))
    assert list(region_times(newest, newest.epoch_order(1)[0], repeats=1, warm=1)) == ["back forward", "back backward"]
    assert all(seconds > 0 for seconds in times.values())
    cell = fit.model.lstm["cell"]
    assert not cell._forward_hooks and not cell._forward_pre_hooks
    assert all(torch.equal(parameter, before[name]) for name, parameter in fit.model.named_parameters())
    assert all(parameter.grad is None for parameter in fit.model.parameters())


def test_a_network_is_measured_with_each_set_of_modules(small_panel, small_fold):
    work = []
    for label, switches in STEPS.items():
        fit = Fit(small_panel, small_fold, TINY, replace(WHOLE, on=switches))
        entry = measure_network(fit, SMALL, 2, {"bytes_per_s": 1e10, "flop_per_s": 1e11})
        assert entry["stock_days_per_s"] > 0 and len(step_cells(label, entry)) == 11
        work.append(flops_per_stock_day(fit.model, 4, 5))
    assert work == sorted(work) and work[0] < work[1] < work[3]


def test_windows_hold_what_chunks_hold(small_panel, small_fold):
    samples = WindowSamples(small_panel, small_fold.places(small_panel.dates, "train"))
    assert len(samples) == int(small_panel.valid_on(small_fold.places(small_panel.dates, "train")).sum())
    day, name = int(samples.day[500]), int(samples.name[500])
    assert torch.equal(samples[500]["window"], small_panel.sequences[:, day : day + 12, name].T)
    assert torch.equal(samples[500]["newest"], small_panel.x[day, name])
    assert torch.equal(samples[500]["window"][-1], samples[500]["newest"][:6]), "the window ends with the newest row"
    assert torch.equal(samples[500]["rank"], small_panel.rank[:, day, name])
    rates = window_trainer(small_panel, small_fold, TINY, seconds=0.05, batch_size=64)
    assert rates["stock_days_per_s"] > 0 and 0 < rates["feed_share"] < 1
