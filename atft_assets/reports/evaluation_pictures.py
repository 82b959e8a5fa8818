"""Pictures of an evaluation. Each title states what is seen; the same score has the same colour in all of them."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atft_assets.reports.pictures import (
    ACCENT,
    BELOW,
    GREY,
    PALE,
    WIDTH,
    Picture,
    as_text,
    base64_png,
    colour_of,
    figure,
    legend,
    name_lines,
    one_axes,
    plain,
    zero_lines,
)
from atft_assets.reports.sector_names import SECTOR33
from atft_assets.scoring.daily import ROLLING_DAYS, rolling_mean
from atft_assets.scoring.profiles import Profile, Profiles
from atft_assets.scoring.surroundings import DECAY_DAYS, TERCILES

HORIZON_COLOURS = ("#0b2e59", "#1f5fa8", "#6a9fd8", "#b3cdec")
SECTORS_SHOWN = 12
BP = 1e4


def cumulative(profiles: Profiles, subject: Profile) -> Picture:
    """Running sums of the daily headline RankIC, all scores."""
    made, axes = zero_lines(4.6)
    days = _days(profiles)
    ends = {}
    for one in profiles.scores:
        path = np.nancumsum(one.daily)
        axes.plot(days, path, color=_colour(one, subject), linewidth=2 if one is subject else 1.2)
        ends[one.name] = float(path[-1])
    name_lines(axes, ends, {one.name: _colour(one, subject) for one in profiles.scores})
    axes.set(ylabel="sum of daily RankIC since the first day")
    best = max(ends, key=lambda name: ends[name])
    title = f"Over {len(days)} days the daily RankIC of {subject.name} adds up to {ends[subject.name]:+.1f}"
    title += "" if best == subject.name else f", that of {best} to {ends[best]:+.1f}"
    return Picture(title, base64_png(made))


def rolling(profiles: Profiles, subject: Profile) -> Picture | None:
    """60-day mean of the headline RankIC with its band; None for a block of fewer days."""
    means, days = rolling_mean(subject.daily), _days(profiles)
    known = np.isfinite(means)
    if not known.any():
        return None
    made, axes = zero_lines(3.8)
    axes.plot(days, means, color=ACCENT, linewidth=2)
    low, high = means - subject.rolling_band, means + subject.rolling_band
    axes.fill_between(days, low, high, color=ACCENT, alpha=0.15, linewidth=0)
    axes.set(ylabel=f"RankIC, mean of the last {ROLLING_DAYS} days")
    above = f"{float((low[known] > 0).mean()):.0%} of the days"
    title = f"{subject.name}: the {ROLLING_DAYS}-day RankIC lies above zero with its whole band on {above}"
    return Picture(title, base64_png(made))


def decay(subject: Profile, other: Profile | None) -> Picture:
    """RankIC with the one-day return of the k-th day after."""
    made, axes = zero_lines(3.8)
    lags = np.arange(1, len(subject.decay) + 1)
    axes.bar(lags, subject.decay, color=ACCENT, width=0.7, label=subject.name)
    if other is not None:
        axes.plot(lags, other.decay, "D", color="black", markersize=6, markeredgecolor="white", label=other.name)
    axes.set(xlabel="trading days after the score", ylabel="RankIC with the return of that day alone", xticks=lags)
    legend(axes)
    life = f"halves in {subject.decay_half_life:.1f} days" if np.isfinite(subject.decay_half_life) else "does not fall"
    first = as_text(subject.decay[0], "+.4f")
    return Picture(f"The RankIC of {subject.name} is {first} on the first day and {life}", base64_png(made))


def deciles(subject: Profile) -> Picture:
    """Mean return of each tenth of the names beyond the mean of all, by horizon."""
    made = figure(WIDTH, 3.6)
    places = np.arange(1, 11)
    every = made.subplots(1, len(subject.by_horizon), squeeze=False)[0]
    for axes, (horizon, figures) in zip(every, subject.by_horizon.items(), strict=True):
        values = np.array(figures.deciles) * BP
        axes.bar(places, values, color=np.where(values >= 0, ACCENT, BELOW))
        steps = int((np.diff(values) > 0).sum())
        axes.set(title=f"{_in_days(horizon)}: {steps} of 9 steps rise", xlabel="tenth, lowest scores first")
        axes.set_xticks([1, 5, 10])
        plain(axes)
    every[0].set(ylabel="mean return beyond all names, bp")
    first = next(iter(subject.by_horizon.values()))
    low, high = (as_text(BP * first.deciles[i], "+.1f") for i in (0, -1))
    title = f"After one label of the shortest horizon the highest tenth is {high} bp from the mean, the lowest {low} bp"
    return Picture(title, base64_png(made))


def spread_paths(profiles: Profiles, subject: Profile) -> Picture:
    """Running sum of the spread by horizon, each a book of which one part is chosen anew each day."""
    made, axes = zero_lines(4.2)
    days, ends = _days(profiles), {}
    for colour, (horizon, figures) in zip(HORIZON_COLOURS, subject.by_horizon.items(), strict=False):
        axes.plot(days, np.array(figures.path) * 100, color=colour, linewidth=1.6)
        ends[_in_days(horizon)] = figures.path[-1] * 100
    name_lines(axes, ends, dict(zip(ends, HORIZON_COLOURS, strict=False)))
    axes.set(ylabel="highest less lowest tenth, sum, %")
    best = max(ends, key=lambda name: ends[name])
    title = f"Highest less lowest tenth of {subject.name}, held for {best}, adds up to {ends[best]:+.1f} % before costs"
    return Picture(title, base64_png(made))


def by_year(subject: Profile, other: Profile | None) -> Picture:
    """Headline and neutral RankIC of each calendar year."""
    made, axes = zero_lines(3.4)
    years = list(subject.by_year)
    places = np.arange(len(years))
    bars = [(f"{subject.name}", ACCENT, [y.rank_ic for y in subject.by_year.values()])]
    bars.append((f"{subject.name}, neutral", HORIZON_COLOURS[2], [y.neutral_rank_ic for y in subject.by_year.values()]))
    if other is not None:
        bars.append((other.name, PALE, [other.by_year[year].rank_ic for year in years]))
    for i, (label, colour, values) in enumerate(bars):
        axes.bar(places + (i - 1) * 0.27, values, width=0.25, color=colour, label=label)
    axes.set_xticks(places, [f"{year}\n{subject.by_year[year].days} days" for year in years])
    axes.set(ylabel="mean daily RankIC")
    legend(axes)
    known = {year: f.rank_ic for year, f in subject.by_year.items() if np.isfinite(f.rank_ic)}
    positive = sum(value > 0 for value in known.values())
    return Picture(f"{subject.name}: RankIC above zero in {positive} of {len(known)} years", base64_png(made))


def liquidity_heat(subject: Profile) -> Picture | None:
    """RankIC by thirds of liquidity and segment or division; None where liquidity is not known."""
    cells = {tuple(name.split(" / ", 1)): cell.rank_ic for name, cell in subject.by_liquidity_and_group.items()}
    if not cells:
        return None
    columns = list(dict.fromkeys(column for _, column in cells))
    rows = [row for row in TERCILES if any(name == row for name, _ in cells)]
    values = np.array([[cells.get((row, column), np.nan) for column in columns] for row in rows])
    made, axes = one_axes(1.4 + 0.6 * len(rows))
    limit = max(float(np.nanmax(np.abs(values))), 1e-6)
    image = axes.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    for (r, c), value in np.ndenumerate(values):
        strong = abs(value) > 0.6 * limit
        axes.text(c, r, as_text(value, ".3f"), ha="center", va="center", color="white" if strong else "black")
    axes.set_xticks(range(len(columns)), columns, rotation=15 if len(columns) > 5 else 0)
    axes.set_yticks(range(len(rows)), rows)
    made.colorbar(image, ax=axes, label="RankIC within the cell")
    best = max(cells, key=lambda cell: np.nan_to_num(cells[cell], nan=-np.inf))
    title = f"{subject.name} ranks best among {best[0]} names of {best[1]} ({cells[best]:.3f})"
    return Picture(title, base64_png(made))


def exposures(subject: Profile, other: Profile | None) -> Picture:
    """Mean daily rank correlation of the ranking with what is known of the names."""
    made, axes = one_axes(1.2 + 0.42 * len(subject.exposures))
    names = list(subject.exposures)[::-1]
    places = np.arange(len(names))
    means = np.array([subject.exposures[name].mean for name in names])
    low = means - np.array([subject.exposures[name].low for name in names])
    high = np.array([subject.exposures[name].high for name in names]) - means
    spans = np.nan_to_num(np.clip([low, high], 0, None))
    axes.barh(places, means, color=ACCENT, height=0.55, xerr=spans, ecolor=GREY, capsize=3, label=subject.name)
    if other is not None:
        theirs = [other.exposures[name].mean for name in names]
        axes.plot(theirs, places, "D", color="black", markersize=6, markeredgecolor="white", label=other.name)
    axes.set_yticks(places, [name.replace("_", " ") for name in names])
    axes.set(xlabel="daily rank correlation with the ranking: mean, and tenth to ninetieth percentile of the days")
    axes.axvline(0, color="black", linewidth=0.8)
    legend(axes)
    most = max(subject.exposures, key=lambda name: abs(np.nan_to_num(subject.exposures[name].mean)))
    lean = as_text(subject.exposures[most].mean, "+.2f")
    title = f"{subject.name} leans most on {most.replace('_', ' ')} ({lean})"
    return Picture(title, base64_png(made))


def sector_weights(subject: Profile) -> Picture | None:
    """Sectors in which the highest tenth holds most more, or less, than the universe does."""
    tilt = {code: 100 * (weights.top - weights.universe) for code, weights in subject.sectors.items()}
    if not tilt:
        return None
    shown = sorted(sorted(tilt, key=lambda code: -abs(tilt[code]))[:SECTORS_SHOWN], key=lambda code: tilt[code])
    made, axes = one_axes(1.0 + 0.3 * len(shown))
    axes.barh(range(len(shown)), [tilt[c] for c in shown], color=[ACCENT if tilt[c] >= 0 else BELOW for c in shown])
    axes.set_yticks(range(len(shown)), [f"{SECTOR33.get(code, '')} {code}".strip() for code in shown])
    axes.set(xlabel="share of the highest tenth less share of the universe, percentage points")
    axes.axvline(0, color="black", linewidth=0.8)
    most = max(tilt, key=lambda code: abs(tilt[code]))
    name = SECTOR33.get(most, most)
    tilted = f"{abs(tilt[most]):.1f} points {'more' if tilt[most] >= 0 else 'less'} of {name}"
    title = f"The highest tenth of {subject.name} holds {tilted} than the universe"
    return Picture(title, base64_png(made))


def differences(board: Mapping[str, Any]) -> Picture | None:
    """Paired daily differences with their intervals; None where nothing is compared.

    Those of each phase with the one before it, and of the last phase and the blend with everything; all pairs of a
    whole table would hide the few that decide something.
    """
    phases = [row["name"] for row in board["rows"] if row["kind"] == "phase"]
    pairs = [
        (f"{row['name']} less {other}", pair)
        for row in board["rows"]
        for other, pair in row["against"].items()
        if pair["mean"] is not None and pair["low"] is not None
        if row["kind"] != "phase" or row["name"] == phases[-1] or other == row["previous"]
    ][::-1]
    if not pairs:
        return None
    made, axes = one_axes(1.0 + 0.3 * len(pairs))
    told = 0
    for place, (_, pair) in enumerate(pairs):
        apart = pair["low"] > 0 or pair["high"] < 0
        told += apart
        colour = ACCENT if pair["low"] > 0 else BELOW if apart else PALE
        axes.plot([pair["low"], pair["high"]], [place, place], color=colour, linewidth=3)
        axes.plot([pair["mean"]], [place], "o", color=colour, markeredgecolor="black")
    axes.set_yticks(range(len(pairs)), [name for name, _ in pairs])
    axes.set(xlabel="difference of daily RankIC, mean and 95 % interval")
    axes.axvline(0, color="black", linewidth=1)
    title = f"{told} of {len(pairs)} differences are told from zero"
    return Picture(title, base64_png(made))


def persistence(profiles: Profiles, subject: Profile) -> Picture:
    """Rank autocorrelation of all rankings by lag."""
    made, axes = zero_lines(3.8)
    ends = {}
    for one in profiles.scores:
        known = np.flatnonzero(np.isfinite(one.autocorrelation))
        if len(known):
            values = np.array(one.autocorrelation)[known]
            axes.plot(known + 1, values, color=_colour(one, subject), linewidth=2 if one is subject else 1.2)
            ends[one.name] = float(values[-1])
    name_lines(axes, ends, {one.name: _colour(one, subject) for one in profiles.scores})
    axes.set(xlabel="trading days apart", ylabel="rank correlation of two rankings", xticks=range(1, DECAY_DAYS + 1))
    life = f"halves in {subject.half_life:.1f} days" if np.isfinite(subject.half_life) else "does not fade"
    return Picture(f"The order of {subject.name} {life}", base64_png(made))


def _colour(one: Profile, subject: Profile) -> str:
    return ACCENT if one is subject else colour_of(one.name)


def _days(profiles: Profiles) -> NDArray[np.datetime64]:
    return np.array([date.fromisoformat(day) for day in profiles.dates], "datetime64[D]")


def _in_days(horizon: str) -> str:
    return f"{horizon} day" if horizon == "1" else f"{horizon} days"
