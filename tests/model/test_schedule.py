"""The order of the days, the seeds of a step, the learning rate, the average: functions of where training stands."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atft_model.schedule import (
    FINAL_RATE,
    average_decay,
    in_steps,
    loss_weights_of_horizons,
    mixed_seed,
    random_shift,
    rate_share,
)


@given(st.integers(1, 60), st.integers(1, 8), st.integers(0, 5))
def test_every_start_is_taken_and_the_last_step_filled_from_the_front(count, chunks, seed):
    starts = [10 * i for i in range(count)]
    steps = in_steps(starts, chunks, torch.Generator().manual_seed(seed))
    assert steps.shape == (-(-count // chunks), chunks)
    taken = steps.flatten().tolist()
    assert sorted(taken[:count]) == starts
    assert taken[count:] == [taken[i % count] for i in range(len(taken) - count)]
    assert max(Counter(taken).values()) <= -(-chunks // count) + 1


def test_seeds_are_apart():
    seeds = {mixed_seed(*parts) for parts in ((a, b, c) for a in range(12) for b in range(12) for c in range(12))}
    assert len(seeds) == 12**3 and all(0 <= seed < 2**63 for seed in seeds)
    assert mixed_seed(1, 2) != mixed_seed(2, 1) != mixed_seed(2, 1, 0)


@given(st.integers(1, 40), st.integers(0, 1000))
def test_a_shift_is_less_than_a_chunk(chunk_days, seed):
    assert 0 <= random_shift(torch.Generator().manual_seed(seed), chunk_days) < chunk_days


@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from(("constant", "cosine")))
def test_the_rate_rises_and_then_stays_or_falls(total, warmup, schedule):
    rates = [rate_share(step, total, warmup, schedule) for step in range(total)]
    warm = sum(step < warmup * total for step in range(total))
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[:warm] == sorted(rates[:warm]) and rates[warm:] == sorted(rates[warm:], reverse=True)
    if schedule == "constant":
        assert set(rates[warm:]) <= {1.0}
    assert rate_share(2 * total, total, warmup, "cosine") == pytest.approx(FINAL_RATE)


@given(st.floats(0, 0.9999), st.integers(0, 10_000))
def test_an_average_is_short_at_first_and_never_longer_than_asked(decay, step):
    now, later = average_decay(decay, step), average_decay(decay, step + 1)
    assert now <= later <= decay and now <= (1 + step) / (10 + step)
    assert average_decay(decay, 10**8) == decay


def test_weights_of_horizons_sum_to_one():
    project = [1 / 2.8, 0.8 / 2.8, 0.6 / 2.8, 0.4 / 2.8]
    assert loss_weights_of_horizons("equal", project) == [0.25] * 4
    assert loss_weights_of_horizons("project", project) == project
