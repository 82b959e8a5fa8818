"""What each table of a data root must be, by its contract: for files that no manifest vouches for any more."""

from collections.abc import Mapping
from datetime import timedelta

import polars as pl

from atft_assets import calendar
from atft_assets.contracts import Contract, ContractViolation, Verdict, failures_frame
from atft_assets.features.names import GROUP as FEATURES
from atft_assets.features.registry import complete, served
from atft_assets.features.schemas import contract_of
from atft_assets.graph import asset as graph
from atft_assets.raw import SOURCES, Source, trading_calendar
from atft_assets.raw.beside import Beside
from atft_assets.raw.ingest import GROUP as RAW
from atft_assets.reports import feature_report
from atft_assets.settings import Settings
from atft_assets.store import UNPARTITIONED
from atft_assets.store.mending import Judge
from atft_assets.trading import daily_scores, orders, portfolio

ANY_NEIGHBOURS = 1000  # a graph may have been built with more neighbours than the default


def judges(settings: Settings) -> Mapping[tuple[str, str], Judge]:
    """The judge of every table, by group and name, in the order of the road."""
    found: dict[tuple[str, str], Judge] = {(RAW, "trading_calendar"): _calendar}
    for source in SOURCES:
        found[RAW, source.name] = _of_source(source)
    for table in complete(served(settings.plan)):
        found[FEATURES, table.name] = _of_contract(contract_of(table), settings)
    found[graph.GROUP, graph.NAME] = _of_contract(graph.contract(graph.GraphConfig(k=ANY_NEIGHBOURS)), settings)
    found[FEATURES, feature_report.NAME] = _of_contract(feature_report.CONTRACT, settings)
    for evening in (daily_scores, portfolio, orders):
        found[evening.GROUP, evening.NAME] = _of_contract(evening.CONTRACT, settings)
    return found


def _of_contract(contract: Contract, settings: Settings) -> Judge:
    def judge(key: str, frame: pl.DataFrame) -> str:
        if key == UNPARTITIONED:
            history = frame["date"].n_unique() if "date" in frame.columns else 0
        else:
            before = calendar.first_of_month(key) - timedelta(days=1)
            history = len(calendar.trading_days(settings.start, before)) if before >= settings.start else 0
        return _wrong(contract.audit(frame, key, history))

    return judge


def _of_source(source: Source) -> Judge:
    def judge(key: str, frame: pl.DataFrame) -> str:
        if wrong := _wrong(source.contract.audit(frame, key)):
            return wrong
        try:
            failures = source.rules(frame, Beside()) if source.rules else []
            return _wrong(Verdict(source.name, key, failures_frame(failures)))
        except ContractViolation as violation:
            return _wrong(violation.verdict)

    return judge


def _calendar(key: str, frame: pl.DataFrame) -> str:
    contract = trading_calendar.CONTRACT
    if wrong := _wrong(contract.audit(frame, key)):
        return wrong
    return _wrong(Verdict(contract.table, key, failures_frame(trading_calendar.gaps(frame))))


def _wrong(verdict: Verdict) -> str:
    return "" if verdict.passed else str(verdict)
