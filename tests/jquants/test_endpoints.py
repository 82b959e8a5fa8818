"""The endpoint table, held against the official client's own column lists and the published schedule."""

from datetime import date, datetime

import pytest
from jquantsapi import constants, enums

from atft_assets.calendar import TOKYO
from atft_assets.jquants.endpoint import Field, fields
from atft_assets.jquants.endpoints import BY_PATH, CALENDAR, DAILY_BARS, ENDPOINTS, MASTER
from atft_assets.settings import Plan

OFFICIAL = {
    "/equities/master": constants.EQ_MASTER_COLUMNS_V2,
    "/equities/bars/daily/am": constants.PRICES_PRICES_AM_COLUMNS_V2,
    "/equities/bars/minute": constants.EQ_BARS_MINUTE_COLUMNS_V2,
    "/equities/valuation": constants.EQ_VALUATION_COLUMNS_V2,
    "/equities/investor-types": constants.EQ_INVESTOR_TYPES_COLUMNS_V2,
    "/equities/earnings-calendar": constants.FINS_ANNOUNCEMENT_COLUMNS_V2,
    "/fins/summary": constants.FIN_SUMMARY_COLUMNS_V2,
    "/fins/details": constants.FINS_FS_DETAILS_COLUMNS_V2,
    "/fins/dividend": constants.FINS_DIVIDEND_COLUMNS_V2,
    "/fins/earnings-date": constants.FIN_EARNINGS_DATE_COLUMNS_V2,
    "/markets/calendar": constants.MARKETS_TRADING_CALENDAR_COLUMNS_V2,
    "/markets/margin-interest": constants.MKT_MARGIN_INTEREST_COLUMNS_V2,
    "/markets/margin-alert": constants.DAILY_MARGIN_INTEREST_COLUMNS_V2,
    "/markets/short-ratio": constants.MKT_SHORT_RATIO_COLUMNS_V2,
    "/markets/short-sale-report": constants.SHORT_SELLING_POSITIONS_COLUMNS_V2,
    "/markets/breakdown": constants.MKT_BREAKDOWN_COLUMNS_V2,
    "/indices/bars/daily/topix": constants.INDICES_TOPIX_COLUMNS_V2,
    "/indices/bars/daily": constants.INDICES_COLUMNS_V2,
    "/derivatives/bars/daily/options": constants.DERIVATIVES_OPTIONS_COLUMNS_V2,
    "/derivatives/bars/daily/futures": constants.DERIVATIVES_FUTURES_COLUMNS_V2,
    "/edinet/major-shareholders": constants.EDINET_MAJOR_SHAREHOLDERS_COLUMNS_V2,
    "/edinet/cross-shareholdings": constants.EDINET_CROSS_SHAREHOLDINGS_COLUMNS_V2,
    "/edinet/large-volume-shareholders": constants.EDINET_LARGE_VOLUME_SHAREHOLDERS_COLUMNS_V2,
    "/td/list": constants.TD_LIST_COLUMNS_V2,
    "/bulk/list": constants.BULK_LIST_COLUMNS_V2,
}


@pytest.mark.parametrize("path", OFFICIAL)
def test_fields_are_those_of_the_official_client(path):
    assert set(BY_PATH[path].declared) == set(OFFICIAL[path])


def test_bars_have_the_two_fields_added_since_the_official_list():
    assert set(DAILY_BARS.declared) == {*constants.EQ_BARS_DAILY_COLUMNS_V2, "MktCap", "ExRT"}


def test_every_bulk_endpoint_of_the_official_client_is_in_the_table():
    assert {member.value for member in enums.BulkEndpoint} <= set(BY_PATH)


def test_no_path_and_no_field_occurs_twice():
    assert len(BY_PATH) == len(ENDPOINTS)
    for row in ENDPOINTS:
        assert len(row.declared) == len(row.fields), row.path


def test_fields_of_a_larger_plan_or_added_later_are_optional():
    optional = set(DAILY_BARS.declared) - DAILY_BARS.required
    assert {"MktCap", "ExRT", "MO", "AAdjVo"} <= optional
    assert {"O", "Vo", "AdjFactor", "AdjC"} <= DAILY_BARS.required
    assert "ProdCat" not in MASTER.required


def test_field_notation():
    assert fields("S Date; N?* MktCap Z") == (
        Field("Date", "S"),
        Field("MktCap", "N?", True),
        Field("Z", "N?", True),
    )


@pytest.mark.parametrize(
    ("kind", "python_type", "accepted"),
    [("N?", float, True), ("N?", int, True), ("N?", str, False), ("N", bool, False), ("S", int, False),
     ("S", str, True), ("NS", str, True), ("SN?", int, True)],
)  # fmt: skip
def test_json_types(kind, python_type, accepted):
    assert Field("X", kind).accepts(python_type) is accepted


def test_publication():
    friday, monday = date(2024, 1, 5), date(2024, 1, 9)  # the 8th was a holiday
    assert DAILY_BARS.published_at(friday) == datetime(2024, 1, 5, 16, 30, tzinfo=TOKYO)
    assert MASTER.published_at(monday) == datetime(2024, 1, 5, 17, 30, tzinfo=TOKYO)
    options = BY_PATH["/derivatives/bars/daily/options/225"]
    assert options.published_at(friday) == datetime(2024, 1, 6, 3, 0, tzinfo=TOKYO)
    assert CALENDAR.published_at(friday) == datetime(2023, 3, 31, 18, 0, tzinfo=TOKYO)
    assert BY_PATH["/equities/earnings-calendar"].published_at(monday) == datetime(2024, 1, 5, 19, 0, tzinfo=TOKYO)
    with pytest.raises(ValueError, match="has no availability rule"):
        BY_PATH["/td/list"].published_at(friday)


def test_plans_of_the_road():
    assert BY_PATH["/indices/bars/daily/topix"].plan is Plan.LIGHT
    assert BY_PATH["/indices/bars/daily"].plan is Plan.STANDARD
    assert BY_PATH["/equities/bars/daily"].plan is Plan.FREE
