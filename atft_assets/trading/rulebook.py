"""The portfolio rules that have a name: a champion is promoted with one, a back-test sweeps several.

`default` was fixed before any result was looked at. The others are further tries: each one that is swept is a line of
the ledger of trials. All of them are made for an exchange of thousands of names and shrink with a smaller one: fifty of
the hundred liquid names of a small market are no choice. How they shrink was decided after looking at the sandbox,
where books of nine names told a perfect forecast from LightGBM by luck alone; on more than a thousand names nothing of
it applies.
"""

from collections.abc import Mapping
from dataclasses import replace

from atft_assets.failures import Refusal
from atft_assets.trading.policy import BookSide, Rule

DEFAULT = "default"
CAPITAL = 30e6  # JPY of a new paper book and of a back-test; fifty places of it hold a lot of most names
COSTS = "retail_zero"  # preset of both

RULES: Mapping[str, Rule] = {
    DEFAULT: Rule(),
    "concentrated": Rule(names=30),
    "broad": Rule(names=100, name_cap=0.02),
    "patient": Rule(buffer=3.0),
    "whole": Rule(tranches=1),
    "all_names": Rule(liquid_only=False),
    "long_short": Rule(side=BookSide.LONG_SHORT, gross=2.0),
}


WHOLE_FROM = 1_000  # eligible names, from which on a rule is taken as it stands
LEAST_SHARE = 0.4  # of its names: `default` holds twenty at least, below which single names decide (Statman 1987)


class UnknownRule(Refusal):
    """There is no rule of that name; the text has those that there are."""


def rule_named(name: str, eligible: int = WHOLE_FROM) -> Rule:
    """A rule by its name.

    Args:
        eligible: names of the universe: with less than a thousand the rule holds fewer in proportion, two fifths of
            them at least, each of them larger.

    Raises:
        UnknownRule: there is none.
    """
    if name not in RULES:
        raise UnknownRule(f"there is no portfolio rule {name!r}; there are {', '.join(RULES)}")
    rule = RULES[name]
    if eligible >= WHOLE_FROM:
        return rule
    names = round(rule.names * max(eligible / WHOLE_FROM, LEAST_SHARE))
    return replace(rule, names=names, name_cap=max(rule.name_cap, min(2 / names, 1.0)))
