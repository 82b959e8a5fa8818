"""The champion's pointer and its lines: promotion, rollback, and every way in which it must be refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from atft_assets.trading import champion as c
from atft_assets.trading.champion import Champion, ChampionRefused, Promotion
from atft_model.interchange import run
from atft_model.interchange.errors import RunError
from atft_model.interchange.fold import Fold
from atft_model.interchange.hashes import file_sha256
from atft_model.interchange.records import from_plain, to_plain, write_json
from atft_model.interchange.run import RunRecord, write_record

CATALOGUE = "c0ffee"
SPANS = ((date(2019, 1, 4), date(2019, 6, 28)), (date(2019, 9, 2), date(2019, 12, 30)))
FOLD = Fold("main", *SPANS, (date(2020, 3, 2), date(2020, 6, 30)))


def make_run(root: Path, run_id: str, catalogue: str = CATALOGUE, seed: int = 0) -> Path:
    """A finished run directory, as a training leaves it, with a few bytes as its checkpoint."""
    folder = root / "runs" / "main" / "phase3" / run_id
    folder.mkdir(parents=True)
    (folder / run.CHECKPOINT).write_bytes(run_id.encode())
    record = RunRecord(
        format=run.FORMAT, status="finished", run_id=run_id, phase=3, name="Fine-tuning", fold=FOLD, panel_id="p1",
        catalogue_hash=catalogue, features=("a",), horizons=(1, 5), label="y_oo", target="y_neutral", config={},
        curriculum={}, switches={}, parent=None, code_version="1", seed=seed, n_seeds=1, mode="safe", controls={},
        hardware={}, versions={}, checkpoint_sha256=file_sha256(folder / run.CHECKPOINT),
    )  # fmt: skip
    write_record(folder, record)
    return folder


def make_baselines(root: Path, name: str = "set1", catalogue: str = CATALOGUE, **baselines: dict) -> Path:
    folder = root / "runs" / "main" / "baselines" / name
    write_json(folder / run.RUN_JSON, {"baselines": baselines or {"lightgbm": {}}, "catalogue_hash": catalogue})
    return folder


def network(root: Path, *run_ids: str, name: str = "n1", **changes) -> Champion:
    sha256 = [file_sha256(root / "runs" / "main" / "phase3" / one / run.CHECKPOINT) for one in run_ids]
    made = Champion(
        champion_id=name, kind="network", fold="main", recipe="r1", panel_id="p1", catalogue_hash=CATALOGUE,
        as_of=date(2020, 6, 30), phase="phase3", runs=run_ids, checkpoints=tuple(sha256),
    )  # fmt: skip
    return replace(made, **changes)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for place, run_id in enumerate(("one", "two", "three")):
        make_run(tmp_path, run_id, seed=place)
    make_baselines(tmp_path)
    return tmp_path


def promoted(root: Path, champion: Champion, **more) -> Promotion:
    return c.install(root / "trading", Promotion(c.now(), "champion", champion, rule="recipe", **more))


def test_before_the_first_there_is_none(tmp_path: Path) -> None:
    assert c.current(tmp_path) is None and c.promotions(tmp_path) == []
    with pytest.raises(ChampionRefused, match=r"no champion yet.*--select promotion"):
        c.needed(tmp_path)


def test_a_promotion_is_recorded_and_moves_the_pointer(root: Path) -> None:
    folder = root / "trading"
    first = promoted(root, network(root, "one", "two", expected={"rank_ic": 0.05}), who="a", note="why")
    assert first.previous is None and c.needed(folder) == network(root, "one", "two", expected={"rank_ic": 0.05})
    second = promoted(root, network(root, "three", name="n2"), decision={"p": 0.01})
    assert second.previous == "n1" and c.needed(folder).champion_id == "n2"
    lines = c.promotions(folder)
    assert [(line.role, line.champion.champion_id) for line in lines] == [
        ("champion", "n1"),
        ("champion", "n2"),
        ("retired", "n1"),
    ]
    assert lines[0].note == "why" and lines[1].decision == {"p": 0.01}
    assert [from_plain(Promotion, to_plain(line), "line") for line in lines] == lines
    c.record(folder, Promotion(c.now(), "candidate", network(root, "one", name="n3"), rule="recipe"))
    assert c.needed(folder).champion_id == "n2"  # a candidate is only a line
    assert c.kept_ids(c.promotions(folder)) == {"one", "two", "three"}


def test_back_is_the_one_before_and_not_the_one_that_was_left(root: Path) -> None:
    folder = root / "trading"
    made = [network(root, run_id, name=f"n{place}") for place, run_id in enumerate(("one", "two", "three"))]
    for one in made:
        promoted(root, one)
    assert c.before(folder, made[2]) == made[1] and c.before(folder, made[0]) is None
    promoted(root, made[1], rollback=True)
    assert c.needed(folder) == made[1] and c.before(folder, made[1]) == made[0]
    promoted(root, made[0], rollback=True)
    assert c.before(folder, c.needed(folder)) is None
    assert [line.rollback for line in c.promotions(folder) if line.role == "champion"] == [False] * 3 + [True] * 2


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "run is gone": (lambda root: (root / "runs/main/phase3/two").rename(root / "away"), "two/run.json does not exist"),
    "checkpoint is gone": (lambda root: (root / "runs/main/phase3/two" / run.CHECKPOINT).unlink(), "it is gone"),
    "checkpoint is another": (
        lambda root: (root / "runs/main/phase3/two" / run.CHECKPOINT).write_bytes(b"x"),
        "not the file that its record describes",
    ),
    "baselines are gone": (
        lambda root: (root / "runs/main/baselines/set1/run.json").unlink(),
        "the set of baselines is gone",
    ),
    "baselines have no trees": (
        lambda root: make_baselines(root, ridge={}),
        "describes no set of baselines with lightgbm",
    ),
    "baselines are of another catalogue": (lambda root: make_baselines(root, catalogue="0ld"), "catalogue 0ld"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_champion_that_cannot_score_is_refused_with_a_sentence(root: Path, fault: str) -> None:
    blend = network(root, "one", "two", kind="blend", baselines="set1")
    c.check_whole(blend, root, CATALOGUE)
    plant, said = FAULTS[fault]
    plant(root)
    with pytest.raises(ChampionRefused, match=said) as refused:
        c.check_whole(blend, root, CATALOGUE)
    assert "cannot be used" in str(refused.value) and "python -m atft_assets.trading.rollback" in str(refused.value)


def test_a_run_that_was_trained_again_under_its_name_is_another(root: Path) -> None:
    made = network(root, "one")
    folder = root / "runs/main/phase3/one"
    (folder / run.CHECKPOINT).write_bytes(b"new weights")
    record = replace(run.read_record(folder), checkpoint_sha256=file_sha256(folder / run.CHECKPOINT))
    write_record(folder, record)
    with pytest.raises(ChampionRefused, match="another run than the one that was promoted"):
        c.check_whole(made, root)


def test_features_that_have_changed_since_are_refused(root: Path) -> None:
    made = network(root, "one")
    c.check_whole(made, root)
    with pytest.raises(ChampionRefused, match=f"learned from the catalogue {CATALOGUE}, the features are of new"):
        c.check_whole(made, root, "new")
    with pytest.raises(ChampionRefused, match="names no run at all"):
        c.check_whole(replace(made, runs=(), checkpoints=()), root)


def test_a_pointer_to_nothing_and_a_damaged_line_are_said(root: Path) -> None:
    folder = root / "trading"
    promoted(root, network(root, "one"))
    (folder / c.POINTER).write_text("nobody\n")
    with pytest.raises(RunError, match=r"names nobody, of which promotions\.jsonl knows nothing"):
        c.current(folder)
    (folder / c.POINTER).write_text("two words\n")
    with pytest.raises(RunError, match="is damaged"):
        c.current(folder)
    (folder / c.PROMOTIONS).write_text(json.dumps({"at": "now"}) + "\n")
    with pytest.raises(RunError, match=r"promotions\.jsonl is damaged .*line 1"):
        c.promotions(folder)
