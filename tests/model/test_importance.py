"""What shuffling costs: of networks whose weights say which inputs they read, the importances say the same."""

from __future__ import annotations

import copy

import pytest
import torch

from atft_model.importance import permutation_importances
from atft_model.interchange.config import NEWEST_ROW, Switches
from tests.model.conftest import TINY, awake, starts

ENCODER = Switches(fan=False, san=False, gat=False)


def deaf_to(model, features):
    """The network without the columns by which its newest row reads these features."""
    with torch.no_grad():
        model.newest.first.weight[:, features] = 0.0
    return model


def shares_of(models, batch, panel):
    found = permutation_importances(models, batch, panel.description)
    assert list(found) == [f.name for f in panel.description.features]
    return torch.tensor(list(found.values()))


def test_only_what_the_newest_row_reads_counts(small_panel):
    panel = small_panel.newest_rows()
    batch = panel.batch(starts(60, 100, 140))
    shares = shares_of([deaf_to(awake(TINY, panel, NEWEST_ROW), [0, 2, 3, 5, 6])], batch, panel)
    assert (shares[[0, 2, 3, 5, 6]] == 0).all() and (shares[[1, 4, 7]] > 0.05).all()
    assert float(shares.sum()) == pytest.approx(1.0)
    deaf = deaf_to(awake(TINY, panel, NEWEST_ROW), list(range(8)))
    assert (shares_of([deaf], batch, panel) == 0).all(), "of a network that reads nothing nothing matters"


def test_what_is_read_as_a_sequence_counts_by_its_windows(small_panel):
    """The planted panel marks the first six of eight features: a trunk that is deaf to all leaves them alone."""
    batch = small_panel.batch(starts(60, 100, 140))
    model = deaf_to(awake(TINY, small_panel, ENCODER), list(range(8)))
    shares = shares_of([model], batch, small_panel)
    assert (shares[:6] > 0).all() and (shares[6:] == 0).all()


def test_a_days_common_value_counts_too(small_panel):
    """A market feature is equal for all names of a day: its cells are dealt among days as well."""
    panel = copy.copy(small_panel.newest_rows())
    panel.x = small_panel.x.clone()
    panel.x[..., 1] = torch.linspace(-2, 2, panel.days)[:, None]
    batch = panel.batch(starts(20, 100, 180))
    shares = shares_of([awake(TINY, panel, NEWEST_ROW)], batch, panel)
    assert shares[1] > 0.01


def test_members_count_alike_and_stay_in_their_mode(small_panel):
    panel = small_panel.newest_rows()
    batch = panel.batch(starts(60, 100))
    first, second = (
        deaf_to(awake(TINY, panel, NEWEST_ROW, seed), [f for f in range(8) if f != seed]) for seed in (0, 1)
    )
    second.train()
    shares = shares_of([first, second], batch, panel)
    assert (shares[:2] > 0.2).all() and (shares[2:] == 0).all()
    assert second.training and not first.training
