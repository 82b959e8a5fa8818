"""Every row of the attack on the API, through the real assets, store, Dagster instance and sensors."""

import pytest

from tests.attack.cases import CASES, Case, Fate
from tests.attack.lab import KEY, MONTH, Lab, Outcome, sentence

ACCEPT = "python -m atft_assets.tools.accept"


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.group}: {case.name}")
def test_what_becomes_of_an_answer(lab: Lab, case: Case) -> None:
    outcome = lab.attack(case)
    assert outcome.struck > 0, "the case has struck no answer"
    assert outcome.left == []
    assert KEY not in outcome.log
    JUDGES[case.fate](lab, case, outcome)


def refused(lab: Lab, case: Case, outcome: Outcome) -> None:
    assert not outcome.success, "published"
    assert outcome.changed == []
    assert len(outcome.alerts) == 1, outcome.alerts
    assert case.says in outcome.sentence, outcome.sentence
    assert case.table in outcome.sentence, outcome.sentence


def published(lab: Lab, case: Case, outcome: Outcome) -> None:
    assert outcome.success, outcome.sentence
    assert outcome.frame is not None and outcome.frame.equals(lab.truth(case.table))
    assert outcome.alerts == [] and outcome.warned == []


def kept(lab: Lab, case: Case, outcome: Outcome) -> None:
    assert outcome.success, outcome.sentence
    truth = lab.truth(case.table)
    assert outcome.frame is not None and outcome.frame.select(truth.columns).equals(truth)
    assert outcome.frame.width > truth.width
    assert outcome.alerts == [] and outcome.warned == []


def told(lab: Lab, case: Case, outcome: Outcome) -> None:
    assert outcome.success, outcome.sentence
    assert len(outcome.warned) == len(outcome.alerts) == 1, outcome.alerts
    assert MONTH in outcome.alerts[0]["what"] and ACCEPT in outcome.alerts[0]["todo"]
    release = lab.run("data_release", MONTH)
    assert not release.success and ACCEPT in sentence(release)
    lab.accept()
    assert lab.run("data_release", MONTH).success
    lab.tell()  # of the refused release, which is not part of this case


JUDGES = {Fate.REFUSED: refused, Fate.PUBLISHED: published, Fate.KEPT: kept, Fate.TOLD: told}
