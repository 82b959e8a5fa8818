"""Weights of a long book by a linear programme: as much score as the caps and the cost of trading leave.

Solved by HiGHS (Huangfu and Hall, Mathematical Programming Computation 10, 2018) through SciPy, which LightGBM brings.
"""

import numpy as np
from numpy.typing import NDArray

from atft_assets.failures import Refusal
from atft_assets.trading.policy import BUFFER, ENTER, EXIT_RANK, EXIT_UNIVERSE, HOLD, NO_REASON, Rule
from atft_assets.trading.selection import Evening, Flags, Floats, Wanted

_DUST = 1e-9  # weights below are none


class NotSolved(Refusal):
    """The programme has no solution that the solver found; the text has its own words."""


def optimal_weights(
    evening: Evening, scores: NDArray[np.float32], held: Floats, rule: Rule, due: Flags, kappa: float
) -> Wanted:
    """Maximise sum of score x weight - kappa x sum of |weight - held|, within the caps of a rule.

    Cash scores 0, so what scores less is not held. 0 <= weight <= name_cap; orders within `reach`; purchases and sales
    each within turnover_cap; the sum within gross. Sectors are held within their band where trading allows it: what is
    beyond costs more than any score brings. Names that left the universe, and weights above name_cap, are sold first,
    as far as `reach` lets.

    Args:
        scores: higher is better; those that are not candidates are not bought [N].
        held: weights before [N], not negative.
        due: names that may be traded; those that must be sold are anyway [N].
        kappa: in units of the score.

    Raises:
        NotSolved: the solver gave up.
    """
    from scipy.optimize import linprog  # loading takes a while, and most rules do without
    from scipy.sparse import csr_array, hstack, vstack

    known = np.where(evening.scored, np.nan_to_num(scores.astype(np.float64)), 0.0)
    gone = (held > 0) & (~evening.eligible | (due & ~evening.scored))
    most = np.maximum(evening.reach, evening.lot)  # that an order may sell
    must = np.minimum(np.where(gone, held, np.maximum(held - rule.name_cap, 0.0)), most)
    may = (due & ~gone) | (must > 0)
    names = np.flatnonzero(may & (evening.candidates | (held > 0)))
    n, sectors = len(names), len(evening.share)
    if not n:
        return Wanted(held.copy(), _reasons(evening, held, held, gone, rule), gone)
    room = np.where(evening.candidates & due, np.maximum(rule.name_cap - held, 0.0), 0.0)
    buys = np.minimum(room, evening.reach)[names]
    sales = np.maximum(np.minimum(held, most), must)[names]
    most_sold = max(rule.turnover_cap, float(must[names].sum()))
    most_held = max(rule.gross, float(held.sum() - must[names].sum()))

    # columns: purchases [n], sales [n], excess over and lack under the band of each sector [S], [S]
    member = csr_array((np.ones(n), (evening.sector[names], np.arange(n))), shape=(sectors, n))
    eye, none = csr_array(np.eye(sectors)), csr_array((sectors, sectors))
    now = np.bincount(evening.sector, held, minlength=sectors)
    rows = [
        hstack([member, -member, -eye, none]),
        hstack([-member, member, none, -eye]),
        csr_array(np.r_[np.ones(n), -np.ones(n), np.zeros(2 * sectors)][None]),
        csr_array(np.r_[np.ones(n), np.zeros(n + 2 * sectors)][None]),
        csr_array(np.r_[np.zeros(n), np.ones(n), np.zeros(2 * sectors)][None]),
    ]
    bounds_of_rows = np.r_[
        evening.share + rule.sector_band - now,
        now - np.maximum(evening.share - rule.sector_band, 0.0),
        most_held - held.sum(),
        rule.turnover_cap,
        most_sold,
    ]
    alpha = known[names]
    penalty = 10 * (float(np.abs(alpha).max()) + kappa) + 1
    cost = np.r_[kappa - alpha, kappa + alpha, np.full(2 * sectors, penalty)]
    bounds = np.column_stack([np.r_[np.zeros(n), must[names], np.zeros(2 * sectors)],
                              np.r_[buys, sales, np.full(2 * sectors, np.inf)]])  # fmt: skip
    found = linprog(cost, A_ub=vstack(rows, format="csr"), b_ub=bounds_of_rows, bounds=bounds, method="highs")
    if not found.success:
        raise NotSolved(f"the weights of an evening were not found: {found.message}; widen the caps of the rule")
    weights = held.copy()
    weights[names] += found.x[:n] - found.x[n : 2 * n]
    weights = np.where(weights > _DUST, weights, 0.0)
    return Wanted(weights, _reasons(evening, held, weights, gone, rule), forced=must > 0)


def _reasons(evening: Evening, held: Floats, weights: Floats, gone: Flags, rule: Rule) -> NDArray[np.int8]:
    reason = np.full(len(held), NO_REASON, np.int8)
    mine = held > 0
    reason[mine] = np.where(evening.rank[mine] > rule.names, BUFFER, HOLD)
    reason[~mine & (weights > 0)] = ENTER
    reason[mine & (weights == 0)] = EXIT_RANK
    reason[gone] = EXIT_UNIVERSE
    return reason
