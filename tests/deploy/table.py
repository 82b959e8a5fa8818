"""Plugin of pytest for `make deploy-test`: a table of what ran, how long it took, and what did not run and why."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line a file; below it what was skipped, each reason once."""
    rows: dict[str, dict[str, float]] = {}
    reasons: dict[str, dict[str, int]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            file = str(report.nodeid).partition("::")[0]
            row = rows.setdefault(file, {"passed": 0, "failed": 0, "skipped": 0, "seconds": 0.0})
            row["failed" if outcome == "error" else outcome] += 1
            if outcome == "skipped" and isinstance(report.longrepr, tuple):
                why = str(report.longrepr[2]).removeprefix("Skipped: ")
                reasons.setdefault(file, {}).setdefault(why, 0)
                reasons[file][why] += 1
    for reports in terminalreporter.stats.values():  # what fixtures took counts too
        for report in reports:
            file = str(getattr(report, "nodeid", "")).partition("::")[0]
            if file in rows:
                rows[file]["seconds"] += getattr(report, "duration", 0.0)
    if not rows:
        return
    wide = max(len(file) for file in rows)
    terminalreporter.section("what of deploy/ was tried here")
    terminalreporter.write_line(f"{'file':{wide}}  passed  failed  skipped  seconds")
    for file, row in sorted(rows.items()):
        counts = f"{row['passed']:6.0f}  {row['failed']:6.0f}  {row['skipped']:7.0f}  {row['seconds']:7.1f}"
        terminalreporter.write_line(f"{file:{wide}}  {counts}")
        for why, count in reasons.get(file, {}).items():
            terminalreporter.write_line(f"{'':{wide}}  not tried ({count}): {why}")
