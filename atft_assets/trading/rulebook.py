"""The portfolio rules that have a name: a champion is promoted with one, a back-test sweeps several.

`default` was fixed before any result was looked at. The others are further tries: each one that is swept is a line of
the ledger of trials.
"""

from collections.abc import Mapping

from atft_assets.failures import Refusal
from atft_assets.trading.policy import BookSide, Rule

DEFAULT = "default"

RULES: Mapping[str, Rule] = {
    DEFAULT: Rule(),
    "concentrated": Rule(names=30),
    "broad": Rule(names=100, name_cap=0.02),
    "patient": Rule(buffer=3.0),
    "whole": Rule(tranches=1),
    "all_names": Rule(liquid_only=False),
    "long_short": Rule(side=BookSide.LONG_SHORT, gross=2.0),
}


class UnknownRule(Refusal):
    """There is no rule of that name; the text has those that there are."""


def rule_named(name: str) -> Rule:
    """A rule by its name.

    Raises:
        UnknownRule: there is none.
    """
    if name not in RULES:
        raise UnknownRule(f"there is no portfolio rule {name!r}; there are {', '.join(RULES)}")
    return RULES[name]
