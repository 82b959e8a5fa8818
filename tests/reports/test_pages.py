"""The index of all pages: what is there, what is not, by which command, and that it is whole while others write."""

import multiprocessing
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from atft_assets.reports import pages
from atft_assets.reports.markup import document
from atft_assets.store import Store
from tests.reports.page import checked


def listed(folder: Path) -> list[str]:
    return re.findall(r'<a href="([^"]+)">', (folder / "index.html").read_text())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(root=str(tmp_path))


def test_each_page_that_is_written_is_in_the_index_in_the_order_of_questions(store: Store, tmp_path: Path) -> None:
    names = ["feature_report.html", "evaluation-fold_2019.html", "evaluation.html", "evening.html", "hpo-a b.html"]
    for i, name in enumerate(names):
        path = pages.write_page(store, name, document(f"Title <{i}>", "<p>x</p>"))
        assert path == tmp_path / "reports" / name and path.stat().st_size > 100
    folder = tmp_path / "reports"
    assert listed(folder) == [
        "evening.html", "evaluation.html", "evaluation-fold_2019.html", "feature_report.html", "hpo-a%20b.html",
    ]  # fmt: skip
    index = (folder / "index.html").read_text()
    checked(index, tuple(listed(folder)))
    assert ">Title &lt;3&gt;</a>" in index and "The same of one fold." in index
    missing = index.partition('id="missing"')[2]
    assert "backtest.html" in missing and "--select runs_report" in missing and "evening.html" not in missing
    assert str(tmp_path) not in index


def test_the_date_is_that_of_the_file_in_tokyo(store: Store, tmp_path: Path) -> None:
    path = pages.write_page(store, "runs.html", document("Runs"))
    at = datetime(2026, 9, 21, 15, 1, tzinfo=UTC).timestamp()
    os.utime(path, (at, at))
    pages.write_index(tmp_path / "reports")
    assert "runs.html, written 2026-09-22 00:01" in (tmp_path / "reports" / "index.html").read_text()


def test_an_empty_folder_has_an_index_that_says_how_to_fill_it(tmp_path: Path) -> None:
    index = pages.write_index(tmp_path / "reports").read_text()
    assert "There is no page yet" in index
    assert all(kind.command in index and kind.says in index for kind in pages.KINDS)
    checked(index)


def test_a_page_of_another_hand_and_one_without_a_title_are_listed(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    (folder / "mine.html").write_bytes(b"\xff\xfe no title")
    (folder / ".evening.html.1a.staged").write_text("<title>half</title>")
    pages.write_index(folder)
    assert listed(folder) == ["mine.html"]
    (folder / "mine.html").unlink()
    pages.write_page(store, "evening.html", document("E"))
    assert listed(folder) == ["evening.html"]


def _write(root: str, names: list[str]) -> None:
    for name in names:
        pages.write_page(Store(root=root), name, document(name))


def test_writers_at_once_leave_an_index_of_all_pages_and_never_half_of_one(tmp_path: Path) -> None:
    folder, expected = tmp_path / "reports", []
    workers = []
    context = multiprocessing.get_context("fork")
    for w in range(3):
        names = [f"evaluation-fold_{w}{i}.html" for i in range(8)]
        expected += names
        workers.append(context.Process(target=_write, args=(str(tmp_path), names)))
    for worker in workers:
        worker.start()
    seen = 0
    while any(worker.is_alive() for worker in workers):
        if (folder / "index.html").exists():
            assert (folder / "index.html").read_text().endswith("</html>\n")
            seen += 1
    assert [worker.exitcode for worker in workers] == [0, 0, 0] and seen
    assert listed(folder) == sorted(expected)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*expected, "index.html"])


def test_a_page_that_comes_while_the_index_is_written_is_in_it(tmp_path: Path, monkeypatch) -> None:
    """The order of two writers that loses a page: the other's page and index come before ours is put in its place."""
    folder = tmp_path / "reports"
    write, raced = pages.write_text, []

    def late(path: Path, text: str) -> None:
        if path.name == "index.html" and not raced:
            raced.append(1)
            pages.write_page(Store(root=str(tmp_path)), "runs.html", document("Runs"))
        write(path, text)

    monkeypatch.setattr(pages, "write_text", late)
    pages.write_page(Store(root=str(tmp_path)), "evening.html", document("E"))
    assert listed(folder) == ["evening.html", "runs.html"]
