"""The report of runs: which is best, which two are drawn, and a page that stands alone."""

from html.parser import HTMLParser

from atft_assets.reports.run_table import RunLine, best_of, common_settings, records, render, two_newest


def line(run_id: str, rank_ic: float | None, *, phase: str = "phase0", fold: str = "main", **settings) -> RunLine:
    figures = {} if rank_ic is None else {"rank_ic": rank_ic, "kept_epoch": 2, "epochs": 3}
    status = "interrupted" if rank_ic is None else "finished"
    return RunLine(fold, phase, run_id, status, "<parent>", False, {"preset": "demo", "seed": 0, **settings}, figures)


LINES = [
    line("1", 0.1),
    line("2", 0.3, seed=1),
    line("3", 0.2),
    line("4", None),
    line("5", 0.9, phase="phase1"),
    line("6", 0.8, fold="previous"),
]


class Page(HTMLParser):
    """Tags that were opened and not closed, what is fetched, and the cells of each row."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.rows: list[list[str]] = []
        self.best: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.sources += [value for name, value in given.items() if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
            self._marked = given.get("class") == "best"
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            if self._marked and not self.rows[-1]:
                self.best.append(data)
            self.rows[-1].append(data)


def test_the_best_run_of_each_fold_and_phase_is_marked() -> None:
    assert {one.run_id for one in best_of(LINES)} == {"2", "5", "6"}  # one that did not end well is never best


def test_two_runs_of_one_fold_and_phase_are_drawn() -> None:
    assert [one.run_id for one in two_newest(LINES)] == ["2", "3"]
    assert [one.run_id for one in two_newest(LINES[3:])] == ["6"]
    assert two_newest(LINES[3:4]) == []


def test_settings_that_all_share_are_said_once() -> None:
    assert common_settings(LINES) == {"preset": "demo"}
    first = records(LINES)[0].data
    assert first["run"] == "★ previous/phase0 6" and first["seed"] == "0" and "preset" not in first


def test_the_page_is_whole_and_fetches_nothing() -> None:
    page = Page(render(LINES, LINES[1:3], "iVBORw0KGgo="))
    assert page.open == []
    assert page.sources == ["data:image/png;base64,iVBORw0KGgo="]
    assert page.best == ["★ 2", "★ 5", "★ 6"]
    runs = {row[0].removeprefix("★ "): row for row in page.rows}
    assert set("123456") <= set(runs)
    assert runs["1"] == ["1", "finished", "0.1", "2", "3", "0", "<parent>"]  # escaped, and read back as it was
    assert runs["4"][1:3] == ["interrupted", "–"]
    assert Page(render([], [], None)).sources == []
