"""Who is wanted: the ranking of an evening, and from it the names of a long book or of deciles in each sector.

Functions of one evening. Arrays are [N], one value a name; weights are shares of the net asset value.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atft_assets.trading.market import Market
from atft_assets.trading.policy import (
    BUFFER,
    CAP_NAME,
    CAP_SECTOR,
    ENTER,
    EXIT_RANK,
    EXIT_UNIVERSE,
    HOLD,
    LOT_ZERO,
    NO_REASON,
    Rule,
    in_order_of_codes,
)
from atft_assets.trading.rules import LOT

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Places = NDArray[np.int64]
_ROUND_OFF = 1e-12  # of weights


@dataclass(frozen=True)
class Evening:
    """What is known of each name on an evening.

    Attributes:
        eligible: in the universe.
        scored: eligible, with a score.
        candidates: scored, traded today and liquid enough: may be bought or sold short.
        order: places of the scored names, best first, ties by code [M].
        rank: 1 + number of candidates with a better score; infinite where there is no score.
        precedence: place in `order`, the others behind by code: all different.
        sector: sector code + 1, so that the unknown have 0.
        share: of the candidates that are of a sector, by `sector`.
        shortable: may be sold short.
        reach: largest order by the usual turnover, as a weight.
        lot: weight of one lot; 0 where there is no price.
    """

    eligible: Flags
    scored: Flags
    candidates: Flags
    order: Places
    rank: Floats
    precedence: Places
    sector: Places
    share: Floats
    shortable: Flags
    reach: Floats
    lot: Floats


@dataclass(frozen=True)
class Wanted:
    """What an evening wants, before orders are cut to what may be traded.

    Attributes:
        weights: signed [N].
        reason: place in REASONS [N]; NO_REASON where a name is neither held nor wanted.
        forced: reductions that come before all others when turnover is short [N].
    """

    weights: Floats
    reason: NDArray[np.int8]
    forced: Flags


def evening_of(market: Market, t: int, scores: NDArray[np.float32], rule: Rule, unit: Floats, nav: float) -> Evening:
    """The view of an evening; reads row t of the market alone.

    Args:
        scores: NaN where there is none.
        unit: weight of one share; 0 where there is no price.
    """
    eligible, adv = market.eligible[t], market.adv[t]
    scored = eligible & np.isfinite(scores)
    candidates = scored & np.isfinite(market.close[t])
    if rule.liquid_only:
        known = adv[eligible & np.isfinite(adv)]
        candidates &= adv >= (np.median(known) if known.size else np.inf)  # False where NaN
    by_code = in_order_of_codes(market.codes)
    has_score = scored[by_code]
    places = by_code[has_score]
    order = places[np.argsort(-scores[places], kind="stable")]
    rank, precedence = np.full(len(scores), np.inf), np.empty(len(scores), np.int64)
    among = candidates[order]
    rank[order] = np.cumsum(among) - among + 1
    precedence[order] = np.arange(len(order))
    precedence[by_code[~has_score]] = np.arange(len(order), len(scores))
    sector = market.sector[t].astype(np.int64) + 1
    counts = np.bincount(sector[candidates], minlength=int(sector.max(initial=0)) + 1)
    return Evening(
        eligible=eligible,
        scored=scored,
        candidates=candidates,
        order=order,
        rank=rank,
        precedence=precedence,
        sector=sector,
        share=counts / max(int(counts.sum()), 1),
        shortable=market.shortable[t],
        reach=np.where(np.isfinite(adv), adv, 0.0) * (rule.adv_share / nav),
        lot=LOT * unit,
    )


def reachable(held: Floats, reach: Floats, lot: Floats) -> Floats:
    """The least weight, without sign, that an evening's order can bring a holding down to."""
    return np.maximum(np.abs(held) - np.maximum(reach, lot), 0.0)


def top_names(evening: Evening, held: Floats, rule: Rule, due: Flags) -> Wanted:
    """A long book: who stays, who leaves, who takes the free places.

    Args:
        held: weights by the prices of the evening, not negative.
        due: names about which the evening decides.
    """
    place, weights = rule.place, held.copy()
    reason = np.full(len(held), NO_REASON, np.int8)
    mine = held > 0
    reason[mine] = HOLD
    reason[mine & (evening.rank > rule.names)] = BUFFER
    gone = mine & (~evening.eligible | (due & ~evening.scored))
    lost = mine & due & ~gone & (evening.rank > rule.buffer * rule.names)
    surplus = mine & ~gone & ~lost  # an imported book may hold more names than there are places
    over = int(surplus.sum()) - rule.names
    if over > 0:
        candidates = np.flatnonzero(surplus & due)
        lost[candidates[np.argsort(-evening.precedence[candidates])][:over]] = True
    reason[gone], reason[lost] = EXIT_UNIVERSE, EXIT_RANK
    weights[gone | lost] = 0.0

    stays = mine & ~gone & ~lost
    capped = stays & (held > rule.name_cap + _ROUND_OFF)
    drifted = stays & due & (held > (1 + rule.drift_band) * place)
    weights = np.where(capped | drifted, np.minimum(_least(evening, place, rule), held), weights)
    reason[capped] = CAP_NAME
    stays &= ~_leave_full_sectors(evening, held, weights, reason, rule)

    short_of = stays & due & evening.candidates & (weights < (1 - rule.drift_band) * place)
    weights[short_of] = place
    entering = _enter(evening, weights, reason, stays, mine, rule, due)
    weights[entering], reason[entering] = place, ENTER
    return Wanted(weights, reason, forced=gone | capped | (reason == CAP_SECTOR))


def _least(evening: Evening, place: Floats | float, rule: Rule) -> Floats:
    """What a weight that is too large is set to: a place, or one lot where that is more and within the cap."""
    return np.where(evening.lot <= rule.name_cap, np.maximum(evening.lot, place), place)


def _leave_full_sectors(evening: Evening, held: Floats, weights: Floats, reason: NDArray[np.int8], rule: Rule) -> Flags:
    """Let the worst names go of sectors that prices led beyond the band; the names, with `weights` and `reason` set."""
    left = np.zeros(len(held), bool)
    now = np.where(weights > 0, weights, reachable(held, evening.reach, evening.lot))
    total = np.bincount(evening.sector, now, minlength=len(evening.share))
    for sector in np.flatnonzero(total > evening.share + rule.sector_band + _ROUND_OFF):
        staying = np.flatnonzero((evening.sector == sector) & (weights > 0))
        for i in staying[np.argsort(-evening.precedence[staying])]:
            if total[sector] <= evening.share[sector] + rule.sector_band + _ROUND_OFF:
                break
            total[sector] -= now[i] - reachable(held[i], evening.reach[i], evening.lot[i])
            weights[i], reason[i], left[i] = 0.0, CAP_SECTOR, True
    return left


def _enter(
    evening: Evening, weights: Floats, reason: NDArray[np.int8], stays: Flags, mine: Flags, rule: Rule, due: Flags
) -> Places:
    """Names that take free places: of the best that sectors and lots let in, those about which the evening decides.

    `reason` is set of the best that are too dear.
    """
    place = rule.place
    free = rule.names - int(stays.sum())
    if free <= 0:
        return np.zeros(0, np.int64)
    sector_weight = np.bincount(evening.sector, weights, minlength=len(evening.share))
    highest = (evening.share + rule.sector_band + _ROUND_OFF).tolist()
    dear = evening.lot > (rule.name_cap if rule.fill_lots else place) + _ROUND_OFF  # one lot is more than a name may be
    reason[dear & evening.candidates & (evening.rank <= rule.names) & due & ~mine] = LOT_ZERO
    total, sectors = sector_weight.tolist(), evening.sector.tolist()
    among = evening.order[(evening.candidates & (stays | ~dear))[evening.order]].tolist()
    staying, open_to = stays.tolist(), (due & ~mine).tolist()
    entering: list[int] = []

    def enter(i: int) -> None:
        entering.append(i)
        open_to[i] = False
        total[sectors[i]] += place

    built = min(1.0, (rule.names - free) / rule.names + 1 / rule.tranches)  # how much of a book there is tonight
    lowest = np.maximum(evening.share - rule.sector_band, 0.0) * built
    for sector in np.flatnonzero(sector_weight < lowest).tolist():
        for i in among:
            if len(entering) == free or total[sector] >= lowest[sector]:
                break
            if sectors[i] == sector and open_to[i] and total[sector] + place <= highest[sector]:
                enter(i)
    counted = 0
    for i in among:
        if not (staying[i] or i in entering) and total[sectors[i]] + place > highest[sectors[i]]:
            continue  # its sector is full: the next one moves up
        counted += 1
        if counted > rule.names or len(entering) == free:
            break
        if open_to[i]:
            enter(i)
    return np.array(entering, np.int64)


def sector_deciles(evening: Evening, held: Floats, rule: Rule, due: Flags) -> Wanted:
    """A long-short book: the best of each sector against its worst that can be borrowed, in equal value.

    A sector is as large as its share of the candidates; one that is too small for a decile is left out. What is bought
    and what is sold of a sector differ by half a place at most before caps and lots; more is taken off the larger side.

    Args:
        held: signed weights by the prices of the evening.
        due: names about which the evening decides.
    """
    n, sectors = len(held), len(evening.share)
    counts = np.bincount(evening.sector[evening.candidates], minlength=sectors)
    size = np.floor(counts * rule.decile + 1e-9)  # names a side
    part = np.where(size > 0, counts, 0) / max(float(counts[size > 0].sum()), 1.0)
    place = np.minimum(rule.gross / 2 * part / np.maximum(size, 1), rule.name_cap)[evening.sector]  # [N]
    quota = size[evening.sector]

    best = _rank_in_sector(evening, evening.order, evening.candidates)
    worst = _rank_in_sector(evening, evening.order[::-1], evening.candidates & evening.shortable)
    lower_half = best > counts[evening.sector] / 2
    weights, reason = held.copy(), np.full(n, NO_REASON, np.int8)
    gone = (held != 0) & (~evening.eligible | (due & ~evening.scored))
    capped = np.zeros(n, bool)
    for sign, rank, may in ((1, best, ~lower_half), (-1, worst, lower_half & evening.shortable)):
        mine = np.sign(held) == sign
        reason[mine] = np.where(rank[mine] > quota[mine], BUFFER, HOLD)
        lost = mine & due & ~gone & (rank > rule.buffer * quota)
        reason[lost], weights[lost] = EXIT_RANK, 0.0
        stays = mine & ~gone & ~lost
        over = stays & (np.abs(held) > rule.name_cap + _ROUND_OFF)
        capped |= over
        reason[over] = CAP_NAME
        off = stays & due & (np.abs(np.abs(held) - place) > rule.drift_band * place)
        anew = np.where(np.abs(held) > place, np.minimum(_least(evening, place, rule), np.abs(held)), place)
        weights = np.where(over | off, sign * anew, weights)
        free = (size - np.bincount(evening.sector[stays], minlength=sectors))[evening.sector]
        new = np.flatnonzero((held == 0) & due & evening.candidates & may & (rank <= quota))
        new = new[np.lexsort((sign * evening.precedence[new], evening.sector[new]))]
        new = new[_count_in_groups(evening.sector[new]) < free[new]]
        weights[new], reason[new] = sign * place[new], ENTER
    reason[gone], weights[gone] = EXIT_UNIVERSE, 0.0
    return Wanted(_balanced(evening, weights, place, due | (held == 0)), reason, forced=gone | capped)


def _rank_in_sector(evening: Evening, order: Places, among: Flags) -> Floats:
    """1 + number of those `among` that come before a name in its sector; infinite where there is no score."""
    rank = np.full(len(among), np.inf)
    grouped = order[np.argsort(evening.sector[order].astype(np.int16), kind="stable")]  # of 16 bits: a radix sort
    counted = among[grouped]
    before: NDArray[np.int64] = np.cumsum(counted) - counted
    sector = evening.sector[grouped]
    starts = np.r_[True, sector[1:] != sector[:-1]][: len(sector)]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(sector)), 0)) if len(sector) else np.zeros(0, np.int64)
    rank[grouped] = before - before[first] + 1
    return rank


def _count_in_groups(groups: Places) -> Places:
    """How many of the same group stand before each value of a sorted array."""
    return np.arange(len(groups)) - np.searchsorted(groups, groups, side="left")


def _balanced(evening: Evening, weights: Floats, place: Floats, free: Flags) -> Floats:
    """The same with the larger side of a sector scaled down to the smaller one where they differ by half a place.

    Args:
        free: names whose weight may be changed tonight.
    """
    sectors = len(evening.share)
    long, short = (np.bincount(evening.sector, np.maximum(sign * weights, 0), minlength=sectors) for sign in (1, -1))
    half = np.zeros(sectors)
    half[evening.sector] = place / 2
    off = np.where(np.abs(long - short) > half + _ROUND_OFF, long - short, 0.0)
    larger = free & (np.sign(weights) == np.sign(off)[evening.sector]) & (weights != 0)
    movable = np.bincount(evening.sector, np.where(larger, np.abs(weights), 0.0), minlength=sectors)
    keep = 1 - np.minimum(np.abs(off) / np.where(movable > 0, movable, 1.0), 1.0)
    return np.where(larger, weights * keep[evening.sector], weights)
