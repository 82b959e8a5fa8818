"""Pictures of a back-test. Each title states what is seen; the strategy is blue, markets are brown, models grey."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from atft_assets.reports.backtest import COSTS, EQUAL, INDEX, OURS, UNIVERSE, Backtest, Figures
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

LIGHT = "#6a9fd8"  # of the strategy, before costs
MARKETS = {UNIVERSE: "#7d6420", INDEX: "#c4a962"}
SMOOTH_DAYS = 20
SECTORS_SHOWN = 12
COST_COLOURS = ("#0b2e59", "#1f5fa8", "#6a9fd8", "#b3cdec")
BP = 1e4


def value(of: Backtest) -> Picture:
    """One yen in the strategy, net and gross, and in what it is measured by, on a logarithmic scale."""
    made, axes = one_axes(4.8)
    days, equity = _days_with_start(of), of.equity
    paths = {
        "net": (equity["nav"].to_numpy() / of.capital, ACCENT, 2.2),
        "gross": (grown(equity["ret_gross"])[1:], LIGHT, 1.4),
        UNIVERSE: (grown(equity[EQUAL])[1:], MARKETS[UNIVERSE], 1.4),
    }
    if of.topix is not None:
        paths[INDEX] = (grown(equity[of.index])[1:], MARKETS[INDEX], 1.4)
    for name, nav in of.others_nav.items():
        paths[name] = (np.asarray(nav, np.float64), colour_of(name), 1.2)
    ends, colours = {}, {}
    for name, (path, colour, width) in paths.items():
        axes.plot(days, np.concatenate([[1.0], path]), color=colour, linewidth=width)
        ends[name], colours[name] = float(path[-1]), colour
    _log_scale(axes)
    axes.axhline(1, color="black", linewidth=0.8)
    name_lines(axes, ends, colours)
    axes.set(ylabel="value of one yen")
    gap = ends["gross"] - ends["net"]
    title = f"One yen became {ends['net']:.2f}; costs took {gap:.2f}, the equal-weight universe reached "
    return Picture(title + f"{ends[UNIVERSE]:.2f}", base64_png(made))


def underwater(of: Backtest) -> Picture:
    """How far the book is below its highest value, the starting capital included."""
    made, axes = zero_lines(3.0)
    nav = np.concatenate([[of.capital], of.equity["nav"].to_numpy()])
    depth = 100 * (nav / np.maximum.accumulate(nav) - 1)
    days = _days_with_start(of)
    axes.fill_between(days, depth, 0, color=BELOW, alpha=0.25, linewidth=0)
    axes.plot(days, depth, color=BELOW, linewidth=1.2)
    deepest = int(depth.argmin())
    axes.annotate(f"{depth[deepest]:.1f} %", (days[deepest], depth[deepest]), ha="center", va="top", color=BELOW)
    axes.margins(y=0.15)
    axes.set(ylabel="below the highest value, %")
    below = float((depth < -1e-9).mean())
    return Picture(
        f"The book fell by {-depth[deepest]:.1f} % at most, and was below its high on {below:.0%} of days",
        base64_png(made),
    )


def ahead(of: Backtest) -> Picture:
    """Running sum of the daily return beyond the equal-weight universe, net and gross."""
    made, axes = zero_lines(4.0)
    theirs, ends = of.equity[EQUAL].to_numpy(), {}
    for name, column, colour in (("gross", "ret_gross", LIGHT), ("net", "ret", ACCENT)):
        path = 100 * np.nancumsum(of.equity[column].to_numpy() - theirs)
        axes.plot(_days(of), path, color=colour, linewidth=2 if name == "net" else 1.4)
        ends[name] = float(path[-1])
    name_lines(axes, ends, {"gross": LIGHT, "net": ACCENT})
    axes.set(ylabel="sum of daily returns beyond the universe, %")
    title = f"Beyond the equal-weight universe the daily returns add up to {ends['net']:+.1f} % net"
    return Picture(f"{title}, {ends['gross']:+.1f} % gross", base64_png(made))


def years(of: Backtest) -> Picture:
    """Compounded return of each calendar year beside the universe and TOPIX."""
    made, axes = zero_lines(3.4)
    found = {who: yearly(frame) for who, frame in of.months.items()}
    named = list(found[OURS])
    width = 0.8 / len(found)
    for i, (who, returns) in enumerate(found.items()):
        places = np.arange(len(named)) + (i - (len(found) - 1) / 2) * width
        heights = [100 * returns.get(year, 0.0) for year in named]
        axes.bar(places, heights, width=0.92 * width, color=MARKETS.get(who, ACCENT), label=_named(of, who))
    counts = dict(of.equity.group_by(pl.col("date").dt.year()).len().iter_rows())
    axes.set_xticks(range(len(named)), [f"{year}\n{counts.get(year, 0)} days" for year in named])
    axes.set(ylabel="return of the year, %")
    legend(axes)
    above = sum(value > found[UNIVERSE].get(year, np.inf) for year, value in found[OURS].items())
    return Picture(
        f"Net of costs the book was ahead of the equal-weight universe in {above} of {len(named)} years",
        base64_png(made),
    )


def yearly(months: pl.DataFrame) -> dict[int, float]:
    """Returns of whole years by year."""
    return dict(months.filter(pl.col("month") == 0).sort("year").select("year", "ret").iter_rows())


def costs(of: Backtest) -> Picture:
    """Costs of each year by source, in basis points of the year's mean value."""
    made, axes = one_axes(3.4)
    found = of.costs
    floor = np.zeros(found.height)
    for (column, label), colour in zip(COSTS.items(), COST_COLOURS, strict=True):
        heights = BP * found[column].to_numpy()
        axes.bar(range(found.height), heights, bottom=floor, width=0.6, color=colour, label=label)
        floor = floor + heights
    for place, total in enumerate(floor):
        axes.annotate(f"{total:.0f}", (place, total), ha="center", va="bottom")
    axes.set_xticks(range(found.height), found["year"].to_list())
    axes.set_ylim(0, 1.12 * max(float(floor.max()), 1.0))
    axes.set(ylabel="cost of the year, bp of the book")
    legend(axes, columns=len(COSTS))
    largest = max(COSTS, key=lambda column: float(found[column].sum()))
    years = max(
        (of.equity["date"][-1] - of.equity["date"][0]).days / 365.25, 1 / 365.25
    )  # the first and last are short
    return Picture(
        f"Costs take {floor.sum() / years:.0f} bp of the book in a year; most of it is {COSTS[largest]}",
        base64_png(made),
    )


def at_costs(of: Backtest) -> Picture | None:
    """The book at one, two and three times the costs; None without re-runs."""
    if not of.at_costs:
        return None
    made, axes = one_axes(3.8)
    days, ends, colours = _days_with_start(of), {}, {}
    for run, colour in zip(of.at_costs, (ACCENT, LIGHT, *[PALE] * len(of.at_costs)), strict=False):
        name = f"{run.multiple:g} × costs"
        path = np.asarray(run.nav, np.float64) / of.capital
        axes.plot(days, np.concatenate([[1.0], path]), color=colour, linewidth=1.8)
        ends[name], colours[name] = float(path[-1]), colour
    _log_scale(axes)
    axes.axhline(1, color="black", linewidth=0.8)
    name_lines(axes, ends, colours)
    axes.set(ylabel="value of one yen")
    last = of.at_costs[-1]
    title = f"At {last.multiple:g} times the costs the book grows by {as_text(100 * last.cagr, '+.1f')} % a year"
    return Picture(title, base64_png(made))


def workings(of: Backtest) -> Picture:
    """Turnover, number of names, and share of cash, day by day."""
    made = figure(WIDTH, 5.2)
    equity, days = of.equity, _days(of)
    rows: list[tuple[str, NDArray[np.float64]]] = [
        (f"turnover, {SMOOTH_DAYS}-day mean, %", 100 * _smooth(equity["turnover"].to_numpy(), SMOOTH_DAYS)),
        ("names held", equity["names"].to_numpy().astype(np.float64)),
        ("cash, % of the book", 100 * equity["cash"].to_numpy() / equity["nav"].to_numpy()),
    ]
    every = made.subplots(len(rows), 1, sharex=True)
    for axes, (label, values) in zip(every, rows, strict=True):
        plain(axes)
        axes.plot(days, values, color=ACCENT, linewidth=1.2)
        axes.set_title(label, loc="left", fontsize=10)
        axes.set_ylim(bottom=min(0.0, float(np.nanmin(values, initial=0.0))))
    turned, names = equity["turnover"].mean(), equity["names"].mean()
    title = f"Each day {_percent(turned)} of the book is turned over; it holds {_of(names):.0f} names"
    return Picture(title, base64_png(made))


def unfilled(of: Backtest) -> Picture | None:
    """Orders that were not filled, or not wholly, by reason; None if all were."""
    found = of.unfilled
    if not found.height:
        return None
    made, axes = one_axes(1.0 + 0.36 * found.height)
    places, every = range(found.height), of.orders
    shares = 100 * found["orders"].to_numpy() / every
    axes.barh(places, shares[::-1], color=ACCENT, height=0.6)
    for place, row in zip(places, found.reverse().iter_rows(named=True), strict=True):
        axes.annotate(f" {row['orders']:,}", (100 * row["orders"] / every, place), va="center", color=GREY)
    axes.set_yticks(places, [reason.replace("_", " ") for reason in found["reason"][::-1]])
    axes.set(xlabel="share of all orders that were not, or not wholly, filled, % (beside it: how many)")
    first = found["reason"][0].replace("_", " ")
    return Picture(
        f"{shares.sum():.1f} % of {every:,} orders were not wholly filled, most often because of: {first}",
        base64_png(made),
    )


def capacity(of: Backtest) -> Picture | None:
    """Growth and Sharpe ratio by capital; None without re-runs."""
    runs = of.at_capital
    if not runs:
        return None
    made = figure(WIDTH, 3.4)
    capital = [run.capital for run in runs]
    every = made.subplots(1, 2)
    for axes, label, values in zip(
        every,
        ("net growth a year, %", "net Sharpe ratio a year"),
        ([100 * run.cagr for run in runs], [run.sharpe for run in runs]),
        strict=True,
    ):
        plain(axes)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.plot(capital, values, marker="o", color=ACCENT)
        for x, y in zip(capital, values, strict=True):
            axes.annotate(f"{y:.1f}" if "%" in label else f"{y:.2f}", (x, y), xytext=(0, 6),
                          textcoords="offset points", ha="center")  # fmt: skip
        axes.set_xscale("log")
        axes.set_xticks(capital, [yen(one) for one in capital])
        axes.minorticks_off()
        axes.margins(x=0.08, y=0.2)
        axes.set(xlabel="capital", title=label)
    best = max(runs, key=lambda run: np.nan_to_num(run.sharpe, nan=-np.inf))
    title = f"The Sharpe ratio is highest with {yen(best.capital)} and {as_text(runs[-1].sharpe, '.2f')} with "
    return Picture(title + yen(runs[-1].capital), base64_png(made))


def betas(of: Backtest) -> Picture | None:
    """Rolling beta to the equal-weight universe and to TOPIX; None for a short record."""
    made, axes = one_axes(3.2)
    ends = {}
    for who, beta in of.betas.items():
        values = np.asarray(beta, np.float64)
        known = np.isfinite(values)
        if known.any():
            axes.plot(_days(of), values, color=MARKETS[who], linewidth=1.6)
            ends[who] = float(values[known][-1])
    if not ends:
        return None
    axes.axhline(1, color="black", linewidth=0.8, linestyle=":")
    name_lines(axes, ends, MARKETS)
    axes.set(ylabel=f"beta over {of.beta_days} days")
    said = " and ".join(f"{beta:.2f} to {'the universe' if who == UNIVERSE else who}" for who, beta in ends.items())
    return Picture(f"The beta of the last {of.beta_days} days is {said}", base64_png(made))


def exposures(of: Backtest) -> Picture | None:
    """Size, transfer coefficient, and whatever else is known of the book over time; None without."""
    names = [name for name in of.exposures.columns if name != "date"]
    if not names or not of.exposures.height:
        return None
    made = figure(WIDTH, 0.6 + 1.6 * len(names))
    every = np.atleast_1d(made.subplots(len(names), 1, sharex=True))
    for axes, name in zip(every, names, strict=True):
        plain(axes)
        axes.plot(of.exposures["date"].to_numpy(), of.exposures[name].to_numpy(), color=ACCENT, linewidth=1.2)
        axes.set_title(name, loc="left", fontsize=10)
    means = ", ".join(f"{name} {as_text(_of(of.exposures[name].drop_nans().mean()), '.2f')}" for name in names)
    return Picture(f"Means of the record: {means}", base64_png(made))


def sectors(of: Backtest) -> Picture | None:
    """Sectors of which the book holds most more, or less, than the universe; None where not known."""
    if not of.sectors.height:
        return None
    tilts = of.sectors.with_columns((100 * (pl.col("book") - pl.col("universe"))).alias("tilt"))
    most = tilts.sort(pl.col("tilt").abs(), descending=True).head(SECTORS_SHOWN).sort("tilt", "sector33")
    made, axes = one_axes(1.0 + 0.3 * most.height)
    axes.barh(range(most.height), most["tilt"], color=[ACCENT if tilt >= 0 else BELOW for tilt in most["tilt"]])
    axes.set_yticks(range(most.height), [SECTOR33.get(code, code) for code in most["sector33"]])
    axes.set(xlabel="mean share of the book less share of the universe, percentage points")
    axes.axvline(0, color="black", linewidth=0.8)
    code, tilt = most.sort(pl.col("tilt").abs(), descending=True).select("sector33", "tilt").row(0)
    tilted = f"{abs(tilt):.1f} points {'more' if tilt >= 0 else 'less'} of {SECTOR33.get(code, code)}"
    return Picture(f"On average the book holds {tilted} than the universe", base64_png(made))


def sharpes(of: Backtest) -> Picture:
    """Sharpe ratios with their 95 % intervals: the strategy and everything beside it."""
    every = [of.figures, of.equal, *([of.topix] if of.topix else []), *of.others][::-1]
    made, axes = one_axes(1.0 + 0.34 * len(every))
    for place, one in enumerate(every):
        colour = ACCENT if one is of.figures else GREY
        if np.isfinite(one.sharpe_low) and np.isfinite(one.sharpe_high):
            axes.plot([one.sharpe_low, one.sharpe_high], [place, place], color=colour, linewidth=3)
        axes.plot([one.sharpe], [place], "o", color=colour, markeredgecolor="black")
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(range(len(every)), [one.name for one in every])
    axes.set_ylim(-0.6, len(every) - 0.4)
    axes.set(xlabel="Sharpe ratio a year, with its 95 % interval")
    return Picture(_shown_or_not(of.figures), base64_png(made))


def pictures(of: Backtest) -> Mapping[str, Picture]:
    """All that can be drawn, by name, in the order of the page: also what Dagster's UI shows."""
    drawn = {
        "value": value(of),
        "drawdown": underwater(of),
        "ahead": ahead(of),
        "years": years(of),
        "costs": costs(of),
        "at_costs": at_costs(of),
        "workings": workings(of),
        "unfilled": unfilled(of),
        "capacity": capacity(of),
        "betas": betas(of),
        "exposures": exposures(of),
        "sectors": sectors(of),
        "sharpes": sharpes(of),
    }
    return {name: picture for name, picture in drawn.items() if picture is not None}


def yen(amount: float) -> str:
    """An amount in few letters: ¥30m, ¥1bn."""
    for unit, size in (("bn", 1e9), ("m", 1e6), ("k", 1e3)):
        if abs(amount) >= size:
            return f"¥{amount / size:g}{unit}" if amount % (size / 10) == 0 else f"¥{amount / size:,.1f}{unit}"
    return f"¥{amount:,.0f}"


def grown(returns: ArrayLike) -> NDArray[np.float64]:
    """Value of one yen by day [D + 1], the first before any return; a day without a return leaves it as it is."""
    values = np.nan_to_num(np.asarray(returns, np.float64))
    return np.concatenate([[1.0], np.cumprod(1 + values)])


def _named(of: Backtest, who: str) -> str:
    return f"{of.strategy}, net" if who == OURS else who


def _shown_or_not(figures: Figures) -> str:
    low, high = figures.sharpe_low, figures.sharpe_high
    between = f"{as_text(low, '.2f')} to {as_text(high, '.2f')}"
    if not np.isfinite(low):
        return f"A Sharpe ratio of {as_text(figures.sharpe, '.2f')} a year, whose interval is not known"
    shown = "is above zero" if low > 0 else "is below zero" if high < 0 else "cannot be told from zero"
    return f"A Sharpe ratio of {as_text(figures.sharpe, '.2f')} a year ({between}) {shown}"


def _log_scale(axes: Any) -> None:
    """With round numbers on it, not powers of ten."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    steps = np.array([0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.35, 1.5, 2, 3, 5, 7, 10, 20, 50, 100])
    inside = steps[(steps >= low) & (steps <= high)]
    kept = [
        step
        for i, step in enumerate(inside)
        if step == 1 or i == 0 or np.log(step / inside[i - 1]) > 0.08 * np.log(high / low)
    ]
    axes.set_yticks(kept or [1.0], [f"{step:g}" for step in kept or [1.0]])
    axes.minorticks_off()


def _smooth(values: NDArray[np.generic], days: int) -> NDArray[np.float64]:
    """Mean of the last days [D], of fewer at the beginning."""
    sums = np.cumsum(np.concatenate([[0.0], np.nan_to_num(values.astype(np.float64))]))
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(ends - days, 0)
    return np.asarray((sums[ends] - sums[begins]) / (ends - begins))


def _days(of: Backtest) -> NDArray[np.datetime64]:
    return of.equity["date"].to_numpy().astype("datetime64[D]")


def _days_with_start(of: Backtest) -> NDArray[np.datetime64]:
    """The days and the one before the first, on which the capital is whole."""
    days = _days(of)
    return np.concatenate([days[:1] - np.timedelta64(1, "D"), days])


def _percent(share: object) -> str:
    return f"{100 * _of(share):.1f} %"


def _of(mean: object) -> float:
    """A mean of a column as a float; NaN of an empty one."""
    return float(mean) if isinstance(mean, int | float) else float("nan")
