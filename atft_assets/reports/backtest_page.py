"""`reports/backtest.html`: what a portfolio of the scores would have earned, in the order in which a person asks.

Was it better than its yardstick; what costs took; could one have held it; what binds; how much money; how much is luck.
One file that fetches nothing.
"""

from collections.abc import Iterator, Sequence

import polars as pl

from atft_assets.reports import backtest_pictures as drawn
from atft_assets.reports.backtest import COSTS, OURS, UNIVERSE, Backtest, Figures, Luck
from atft_assets.reports.markup import (
    definitions,
    details,
    document,
    number,
    paragraph,
    percent,
    section,
    shown,
    subheading,
    table,
)

PAGE = "backtest.html"
TRIPS = 10
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
TRIP_HEAD = ("profit, ¥", "return", "code", "name", "from", "to", "days", "bought", "sold", "on the way")
TEXT = ("code", "name", "from", "to", "on the way", "reason", "high", "low", "back", "what it says")
WIDE = ("name", "on the way", "what it says")
# how a line of the key figures is made: its name, and the text of a column
LINES = (
    ("growth a year", lambda one: percent(one.cagr, "+.1%")),
    ("volatility a year", lambda one: percent(one.volatility)),
    ("Sharpe ratio a year", lambda one: number(one.sharpe, ".2f")),
    ("its 95 % interval", lambda one: _interval(one.sharpe_low, one.sharpe_high, ".2f")),
    ("Sortino ratio a year", lambda one: number(one.sortino, ".2f")),
    ("largest fall", lambda one: percent(one.max_drawdown)),
    ("growth over largest fall", lambda one: number(one.calmar, ".2f")),
    ("the strategy's lead a year", lambda one: percent(one.lead, "+.1%")),
    ("the lead's 95 % interval", lambda one: _interval(one.lead_low, one.lead_high, "+.1%")),
    ("the strategy's beta to it", lambda one: number(one.beta, ".2f")),
)


def headline(of: Backtest) -> str:
    """The result in a sentence, with what it may not be read without."""
    figures, equal = of.figures, of.equal
    lead = (
        "a lead that is told from zero"
        if equal.lead_low > 0
        else "behind by more than chance"
        if equal.lead_high < 0
        else "which cannot be told from chance"
    )
    return (
        f"Net of costs {of.strategy} grows by {percent(figures.cagr, '+.1%')} a year with a Sharpe ratio of "
        f"{number(figures.sharpe, '.2f')} (95 % {_interval(figures.sharpe_low, figures.sharpe_high, '.2f')}), "
        f"{percent(equal.lead, '+.1%')} a year beyond the equal-weight universe, {lead}; deflated by "
        f"{of.luck.trials} trials it is above chance with a probability of {percent(of.luck.dsr, '.0%')}."
    )


def render(of: Backtest) -> str:
    """The page."""
    first, last = of.equity["date"][0], of.equity["date"][-1]
    kind = (
        "Returns hold dividends." if of.total_return else "Returns are of prices: dividends are in none of the figures."
    )
    where = f"{first} to {last}, {of.equity.height} trading days, {drawn.yen(of.capital)} at the start. {kind} No tax."
    return document(
        f"Back-test of {of.strategy}, {first} to {last}",
        paragraph(headline(of)),
        *(paragraph(said, "warning") for said in of.caveats),
        paragraph(where, "left-out"),
        details("Of what: scores, panel, universe, rule, costs", definitions(of.header)),
        *_sections(of),
    )


def _sections(of: Backtest) -> Iterator[str]:
    columns = [of.figures, *([of.topix] if of.topix else []), of.equal]
    lines = [(name, *(text(one) for one in columns)) for name, text in LINES]
    yield section(
        "figures",
        "Was it worth it",
        "The equal-weight universe is what the names earned without a choice; TOPIX weighs them by size. A lead before "
        "the first is skill, one before TOPIX alone may be size.",
        table(("", *(one.name for one in columns)), lines),
        "" if of.topix else paragraph(f"TOPIX of the same return type ({of.index}) is not known.", "left-out"),
        *_beside(of),
        definitions(of.facts),
    )
    yield section(
        "value",
        "How it grew",
        "The scale is logarithmic: equal slopes are equal growth. Between net and gross lies what trading costs.",
        shown(drawn.value(of)),
    )
    yield section("drawdown", "Could one have held it", "", shown(drawn.underwater(of)), _drawdowns(of))
    yield section(
        "ahead",
        "Does it choose well",
        "A straight line is steady skill; one step is one episode. The universe holds names that the "
        "rule may leave out, and pays no costs: the lead before those that it may choose from stands above.",
        shown(drawn.ahead(of)),
    )
    yield section("months", "When it earned", "Net returns, per cent.", shown(drawn.years(of)), _months(of))
    yield section(
        "costs",
        "What costs take",
        "Half-spread and impact are models until fills of a desk are recorded: what does not survive three times of "
        "them should not be traded.",
        shown(drawn.costs(of)),
        _costs(of),
        shown(drawn.at_costs(of), "The ledger was not run again at other costs."),
        _at_costs(of),
    )
    yield section(
        "rules",
        "Do the rules bind",
        "Much cash, or many orders unfilled, say that the book on paper is not the book that can be had.",
        shown(drawn.workings(of)),
        shown(drawn.unfilled(of), "Every order was filled."),
        _unfilled(of),
    )
    yield section(
        "capacity",
        "How much money",
        "The ledger run again with other capital: lots bind at the low end, turnover of the market at the high one.",
        shown(drawn.capacity(of), "The ledger was not run again with other capital."),
        _capacity(of),
    )
    yield section(
        "bets",
        "Hidden bets",
        "Beta to the universe should stay near one for a long book; a sector far from its share is a bet of its own.",
        shown(drawn.betas(of), f"The record is too short for a beta over {of.beta_days} days."),
        shown(drawn.sectors(of), "Sector weights are not known."),
        shown(drawn.exposures(of), "Size and transfer coefficient are not known."),
    )
    yield section(
        "luck",
        "How much is luck",
        "Whoever tries many rules finds a good one by chance. The deflated ratio asks how probable it is that this "
        "one is better than the best of as many without skill.",
        shown(drawn.sharpes(of)),
        table(("", "figure", "what it says"), _luck(of.luck), text=TEXT, wide=WIDE),
    )
    yield section(
        "trips",
        "Best and worst trades",
        "Look for what cannot be: a split taken for a gain, a limit day that was traded through, one name that made it "
        "all.",
        *_trips(of.trips),
    )


def _beside(of: Backtest) -> Iterator[str]:
    if not of.others:
        yield paragraph("No other portfolio was run by the same rule.", "left-out")
        return
    head = ("", "growth a year", "Sharpe", "95 %", "largest fall", "our lead a year", "95 %")
    yield subheading("Other scores by the same rule, costs and capital")
    yield table(head, [_portfolio(one) for one in (of.figures, *of.others)], marked=0)


def _portfolio(one: Figures) -> tuple[str, ...]:
    return (
        one.name,
        percent(one.cagr, "+.1%"),
        number(one.sharpe, ".2f"),
        _interval(one.sharpe_low, one.sharpe_high, ".2f"),
        percent(one.max_drawdown),
        percent(one.lead, "+.1%"),
        _interval(one.lead_low, one.lead_high, "+.1%"),
    )


def _drawdowns(of: Backtest) -> str:
    if not of.drawdowns:
        return paragraph("It never fell below its start.", "left-out")
    rows = [
        (
            percent(one.depth),
            str(one.since or "the start"),
            str(one.lowest),
            str(one.until or "not yet"),
            f"{one.days:,}",
        )
        for one in of.drawdowns
    ]
    return table(("fall", "high", "low", "back", "trading days"), rows, text=TEXT)


def _months(of: Backtest) -> str:
    found = {(row["year"], row["month"]): row["ret"] for row in of.months[OURS].iter_rows(named=True)}
    theirs = drawn.yearly(of.months[UNIVERSE])
    rows = [
        (
            str(year),
            *(percent_of(found.get((year, month))) for month in (*range(1, 13), 0)),
            percent_of(theirs.get(year)),
        )
        for year in drawn.yearly(of.months[OURS])
    ]
    return table(("", *MONTHS, "year", "universe"), rows)


def percent_of(value: float | None) -> str:
    """A return in per cent without the sign of it; blank where there is none."""
    return "" if value is None else number(100 * value, "+.1f")


def _costs(of: Backtest) -> str:
    rows = [
        (str(row["year"]), *(number(1e4 * row[one], ".1f") for one in (*COSTS, "total")))
        for row in of.costs.iter_rows(named=True)
    ]
    return details("In figures, bp of the book a year", table(("", *COSTS.values(), "all"), rows))


def _at_costs(of: Backtest) -> str:
    if not of.at_costs:
        return ""
    rows = [(f"{one.multiple:g} ×", percent(one.cagr, "+.1%"), number(one.sharpe, ".2f")) for one in of.at_costs]
    return table(("costs", "growth a year", "Sharpe"), rows)


def _unfilled(of: Backtest) -> str:
    found = of.unfilled
    if not found.height:
        return ""
    rows = [
        (row["reason"].replace("_", " "), f"{row['orders']:,}", percent(row["share"], ".2%"))
        for row in found.iter_rows(named=True)
    ]
    return table(("reason", "orders", "cut, share of all orders"), rows)


def _capacity(of: Backtest) -> str:
    rows = [
        (
            drawn.yen(one.capital),
            percent(one.cagr, "+.1%"),
            number(one.sharpe, ".2f"),
            percent(one.unfilled),
            percent(one.invested, ".0%"),
        )
        for one in of.at_capital
    ]
    return table(("capital", "growth a year", "Sharpe", "unfilled", "in shares"), rows) if rows else ""


def _luck(luck: Luck) -> list[tuple[str, str, str]]:
    return [
        (
            "Sharpe ratio a year",
            f"{number(luck.sharpe, '.2f')} ({_interval(luck.low, luck.high, '.2f')})",
            f"with its 95 % interval; p of a mean of zero {number(luck.p, '.3f')}",
        ),
        ("PSR", percent(luck.psr), "probability that the true ratio is above zero, had nothing else been tried"),
        (
            "DSR",
            percent(luck.dsr),
            f"probability that it is above {number(luck.expected_maximum, '.2f')}, the best of {luck.trials} trials "
            f"({number(luck.effective_trials, '.0f')} independent ones; variance of their ratios "
            f"{number(luck.variance, '.2f')}) without skill; 95 % is asked for. Counted are the trials that this data "
            "root's ledger knows: whoever tried more elsewhere must expect less",
        ),
        (
            "days",
            f"{luck.days:,}",
            f"{number(luck.days_needed, ',.0f')} are needed to show a ratio of this size (MinTRL)"
            if luck.days_needed < float("inf")
            else "no number of days shows a ratio that is not above zero (MinTRL)",
        ),
        (
            "years that so many trials ask for",
            number(luck.years_needed, ".1f"),
            "below, the best of as many without skill is expected to reach a ratio of one (MinBTL)",
        ),
        (
            "PBO",
            percent(luck.pbo, ".0%"),
            "share of splits in which the best rule of one half is below the middle in the other; 30 % is the most"
            if luck.pbo == luck.pbo
            else "not known: one rule alone was run",
        ),
    ]


def _trips(trips: pl.DataFrame) -> Iterator[str]:
    if not trips.height:
        yield paragraph("There is no round trip yet.", "left-out")
        return
    for heading, frame in zip(("Earned most", "Lost most"), extremes(trips, TRIPS), strict=True):
        if frame.height:
            yield subheading(heading)
            yield table(TRIP_HEAD, _trip_lines(frame), text=TEXT, wide=WIDE, japanese=("name",))


def _trip_lines(frame: pl.DataFrame) -> Sequence[tuple[str, ...]]:
    return [
        (
            number(row["profit"], "+,.0f"),
            percent(row["ret"], "+.1%"),
            row["code"],
            row["name"],
            str(row["entry"]),
            str(row["exit"] or "held"),
            str(row["days"]),
            number(row["entry_price"], ",.1f"),
            number(row["exit_price"], ",.1f"),
            row["note"],
        )
        for row in frame.iter_rows(named=True)
    ]


def extremes(trips: pl.DataFrame, count: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The round trips that earned most, and that lost most, in yen; none stands in both."""
    ordered = trips.sort(["profit", "code", "entry"], descending=[True, False, False])
    best = ordered.head(min(count, (ordered.height + 1) // 2))
    worst = ordered.tail(min(count, ordered.height // 2)).reverse()
    return best, worst


def _interval(low: float, high: float, form: str) -> str:
    """Both ends, or a dash."""
    ends = number(low, form), number(high, form)
    return "–" if "–" in ends else f"{ends[0]} to {ends[1]}"
