"""The official Python client works against the sandbox, for every method whose endpoint it serves."""

from collections.abc import Iterator
from datetime import date, datetime

import jquantsapi
import pandas as pd
import pytest
from jquantsapi import constants
from requests.exceptions import HTTPError

from atft_assets.sandbox import Market, SandboxServer, serve

# the client itself sorts in a way that pandas is about to drop
pytestmark = pytest.mark.filterwarnings("ignore::Warning:jquantsapi.*", "ignore:.*cursor:DeprecationWarning")


def client(server: SandboxServer, key: str | None = None) -> jquantsapi.ClientV2:
    class Local(jquantsapi.ClientV2):
        JQUANTS_API_BASE = server.base_url

    return Local(api_key=key or server.api_key)


@pytest.fixture(scope="module")
def premium(market: Market) -> Iterator[SandboxServer]:
    with serve(market, plan="premium", now=datetime(2022, 6, 30, 20)) as server:
        yield server


@pytest.fixture(scope="module")
def official(premium: SandboxServer) -> jquantsapi.ClientV2:
    return client(premium)


def test_master(official: jquantsapi.ClientV2, market: Market) -> None:
    frame = official.get_eq_master(date="20220104")
    assert list(frame.columns) == constants.EQ_MASTER_COLUMNS_V2
    assert frame["Code"].tolist() == market.master(date(2022, 1, 4))["Code"].to_list()
    assert (frame["Date"] == pd.Timestamp(2022, 1, 4)).all() and not frame.isna().any().any()
    assert official.get_eq_master(code="1300", date="2022-01-04")["Code"].tolist() == ["13000"]
    assert official.get_eq_master()["Date"].unique().tolist() == [pd.Timestamp(2022, 6, 30)]


def test_list_joins_the_clients_own_names_of_sectors_and_segments(official: jquantsapi.ClientV2) -> None:
    for day in ("20220301", "20220601"):  # before and after the market reform
        frame = official.get_list(date_yyyymmdd=day)
        assert not frame[["S17NmEn", "S33NmEn", "MktNmEn"]].isna().any().any()
        sectors = official.get_33_sectors().set_index("S33")["S33Nm"]
        assert (frame["S33"].map(sectors) == frame["S33Nm"]).all()
        groups = official.get_17_sectors().set_index("S17")["S17Nm"]
        assert (frame["S17"].map(groups) == frame["S17Nm"]).all()
        segments = official.get_market_segments().set_index("Mkt")["MktNm"]
        assert (frame["Mkt"].map(segments) == frame["MktNm"]).all()


def test_daily_bars(official: jquantsapi.ClientV2, market: Market) -> None:
    frame = official.get_eq_bars_daily(date_yyyymmdd="2022-03-01")
    assert set(frame.columns) >= set(constants.EQ_BARS_DAILY_COLUMNS_V2)
    ours = market.bars(date(2022, 3, 1))
    assert frame["Code"].tolist() == ours["Code"].to_list()
    for field in ("O", "H", "L", "C", "Vo", "Va", "AdjFactor"):
        assert frame[field].astype(float).fillna(-1).tolist() == ours[field].fill_null(-1.0).to_list()
    own = official.get_eq_bars_daily(code="13000", from_yyyymmdd="20220104", to_yyyymmdd="20220131")
    assert len(own) == 19 and own["Date"].is_monotonic_increasing


def test_daily_bars_over_a_range_of_all_calendar_days(official: jquantsapi.ClientV2, market: Market) -> None:
    frame = official.get_eq_bars_daily_range("20220501", "20220515")
    days = [day for day in market.days if date(2022, 5, 1) <= day <= date(2022, 5, 15)]
    assert sorted(frame["Date"].unique()) == [pd.Timestamp(day) for day in days]
    assert len(frame) == sum(len(market.bars(day)) for day in days)
    assert not frame.duplicated(["Date", "Code"]).any()


def test_morning_bars(market: Market) -> None:
    with serve(market, plan="premium", now=datetime(2022, 6, 15, 13)) as server:
        frame = client(server).get_eq_bars_daily_am()
        assert list(frame.columns) == constants.PRICES_PRICES_AM_COLUMNS_V2
        assert len(frame) == len(market.bars(date(2022, 6, 15)))
        server.now = datetime(2022, 6, 15, 9)
        assert client(server).get_eq_bars_daily_am().empty


def test_indices_and_topix(official: jquantsapi.ClientV2, market: Market) -> None:
    frame = official.get_idx_bars_daily(code="0050", from_yyyymmdd="20220104", to_yyyymmdd="20220630")
    assert list(frame.columns) == constants.INDICES_COLUMNS_V2
    assert frame["C"].tolist() == market.index_bars("0050", date(2022, 1, 4))["C"].to_list()
    day = official.get_idx_bars_daily(date_yyyymmdd="20220301")
    assert day["Code"].tolist() == market.index_day(date(2022, 3, 1))["Code"].to_list()
    assert {*market.indices, "0028", "0070", "0091", "8200"} <= set(day["Code"])
    topix = official.get_idx_bars_daily_topix()
    assert topix["C"].tolist() == market.index_bars("0000")["C"].to_list()


def test_calendar(official: jquantsapi.ClientV2, market: Market) -> None:
    frame = official.get_mkt_calendar(from_yyyymmdd="20211101", to_yyyymmdd="20220630")
    open_days = frame[frame["HolDiv"].isin(["1", "2"])]["Date"]
    assert [stamp.date() for stamp in open_days] == market.days
    assert len(official.get_mkt_calendar(holiday_division="1", from_yyyymmdd="20220101", to_yyyymmdd="20220131")) == 19


RECORDS: list[tuple[str, dict[str, str], list[str]]] = [
    ("get_eq_valuation", {"date_yyyymmdd": "20220301"}, constants.EQ_VALUATION_COLUMNS_V2),
    ("get_eq_bars_minute", {"code": "1300", "date_yyyymmdd": "20220301"}, constants.EQ_BARS_MINUTE_COLUMNS_V2),
    ("get_eq_investor_types", {"section": "TSEPrime"}, constants.EQ_INVESTOR_TYPES_COLUMNS_V2),
    ("get_eq_earnings_cal", {}, constants.FINS_ANNOUNCEMENT_COLUMNS_V2),
    ("get_fin_summary", {"date_yyyymmdd": "20220214"}, constants.FIN_SUMMARY_COLUMNS_V2),
    ("get_fin_details", {"date_yyyymmdd": "20220214"}, constants.FINS_FS_DETAILS_COLUMNS_V2),
    ("get_fin_dividend", {"date_yyyymmdd": "20220214"}, constants.FINS_DIVIDEND_COLUMNS_V2),
    ("get_fin_earnings_date", {"scheduled_date_yyyymmdd": "20220214"}, constants.FIN_EARNINGS_DATE_COLUMNS_V2),
    ("get_mkt_short_ratio", {"date_yyyymmdd": "20220301"}, constants.MKT_SHORT_RATIO_COLUMNS_V2),
    ("get_mkt_short_sale_report", {"disclosed_date": "20220301"}, constants.SHORT_SELLING_POSITIONS_COLUMNS_V2),
    ("get_mkt_margin_interest", {"date_yyyymmdd": "20220304"}, constants.MKT_MARGIN_INTEREST_COLUMNS_V2),
    ("get_mkt_margin_alert", {"date_yyyymmdd": "20220301"}, constants.DAILY_MARGIN_INTEREST_COLUMNS_V2),
    ("get_mkt_breakdown", {"date_yyyymmdd": "20220301"}, constants.MKT_BREAKDOWN_COLUMNS_V2),
    ("get_drv_bars_daily_fut", {"date_yyyymmdd": "20220301"}, constants.DERIVATIVES_FUTURES_COLUMNS_V2),
    ("get_drv_bars_daily_opt", {"date_yyyymmdd": "20220301"}, constants.DERIVATIVES_OPTIONS_COLUMNS_V2),
    ("get_drv_bars_daily_opt_225", {"date_yyyymmdd": "20220301"}, []),
]


@pytest.mark.parametrize(("method", "arguments", "columns"), RECORDS)
def test_records_beside_prices(
    official: jquantsapi.ClientV2, method: str, arguments: dict[str, str], columns: list[str]
) -> None:
    """The columns that the client names, all of them; those that it does not know would have been dropped."""
    frame = getattr(official, method)(**arguments)
    assert len(frame), method
    assert set(columns) <= set(frame.columns)
    for name in {"Date", "DiscDate", "CalcDate"} & set(frame.columns) - ({"Date"} if "cal" in method else set()):
        assert pd.api.types.is_datetime64_any_dtype(frame[name]) and not frame[name].isna().any()


def test_errors_reach_the_client_with_their_text(premium: SandboxServer, market: Market) -> None:
    with pytest.raises(HTTPError, match=r"403.*invalid or expired"):
        client(premium, key="wrong").get_eq_master()
    with pytest.raises(HTTPError, match=r"400.*covers the following dates"):
        client(premium).get_eq_bars_daily(date_yyyymmdd="19990104")
    with pytest.raises(HTTPError, match=r"403.*not available on your subscription"):
        client(premium).get_td_list(date="20220301")
    with serve(market, plan="light") as server, pytest.raises(HTTPError, match=r"403.*not available"):
        client(server).get_idx_bars_daily(code="0000")
