"""The endpoint table of J-Quants API V2: one row an endpoint, and nothing else knows a path or a field list.

A row says where an endpoint is, which parameters it takes, which fields every record of it carries and as what JSON
type, which of them tell records apart, which plan includes it, from which day data are stored, which rate limit it
counts against, and how it follows from a record when it could first be known. Source: the specification pages at
https://jpx-jquants.com/en/spec; publication times from the update schedule there, or as seen where that was later.

Field lists are written in the notation of `endpoint`.
"""

from datetime import date
from typing import Any

from atft_assets.jquants.availability import (
    BusinessDaysAfter,
    DayBefore,
    Disclosure,
    EndOfMarchBefore,
    FixedClock,
    Publication,
    Rule,
)
from atft_assets.jquants.endpoint import Endpoint, fields
from atft_assets.settings import Plan


def _row(
    path: str, parameters: str, plan: Plan, record: str, since: str | None = None, *,
    keys: str, available: Rule | None, date_field: str | None = None, **rest: Any,
) -> Endpoint:  # fmt: skip
    """A row; the date field is the first of the keys, unless it is named."""
    stored = date.fromisoformat(since) if since else None
    of_records = tuple(keys.split())
    return Endpoint(
        path, tuple(parameters.split()), fields(record), plan, stored,
        keys=of_records, date_field=date_field or next(iter(of_records), None), available=available, **rest,
    )  # fmt: skip


def _prefixed(prefixes: str, names: str) -> str:
    return " ".join(prefix + name for prefix in prefixes.split() for name in names.split())


def _suffixed(names: str, suffixes: str) -> str:
    return " ".join(name + suffix for suffix in suffixes.split() for name in names.split())


_SESSION = "O H L C UL LL Vo Va AdjO AdjH AdjL AdjC AdjVo"
_PROFIT = "Sales OP OdP NP EPS"
_STATEMENT_KEY = "S DiscDate DiscTime Code DiscNo DocType"
_INVESTORS = "Prop Brk Tot Ind Frgn SecCo InvTr BusCo OthCo InsCo Bank TrstBnk OthFin"
_TRADES = "LongSell ShrtNoMrgn MrgnSellNew MrgnSellClose LongBuy MrgnBuyNew MrgnBuyClose"
_EDINET_KEY = "S DocId; S? Code EdinetCode"
_FREE, _LIGHT, _STANDARD, _PREMIUM = Plan.FREE, Plan.LIGHT, Plan.STANDARD, Plan.PREMIUM

_HALF_PAST_FOUR = FixedClock("16:30")
_NIGHT = FixedClock("27:00")
# preliminary at 18:00, final at 24:30 (Premium has documents as they are disclosed: the later instant is taken for all)
_STATEMENT_BATCHES = Disclosure("DiscDate", "DiscTime", ("18:00", "24:30"))
_AS_FILED = Disclosure("SubDate", "SubTime")  # weekdays 08:00 to 17:59

# fmt: off
ENDPOINTS: tuple[Endpoint, ...] = (
    # -- equities
    _row(
        "/equities/master", "code date", _FREE,
        "S Date Code CoName; S? CoNameEn; S S17 S17Nm S33 S33Nm ScaleCat Mkt MktNm Mrgn MrgnNm; S* ProdCat",
        "2008-05-07", keys="Date Code", available=DayBefore("17:30"),  # the next day's list; refreshed at 08:00
    ),
    _row(
        "/equities/bars/daily", "code date from to", _FREE,
        "S Date Code; N? O H L C; S UL LL; N? Vo Va; N AdjFactor; N? AdjO AdjH AdjL AdjC AdjVo;"
        f"N?* {_prefixed('M A', _SESSION.replace(' UL LL', ''))}; S?* MUL MLL AUL ALL; N?* MktCap; SN?* ExRT",
        "2008-05-07", keys="Date Code", available=_HALF_PAST_FOUR,
    ),
    _row(
        "/equities/bars/daily/am", "code", _PREMIUM,
        "S Date Code; N? MO MH ML MC MVo MVa", keys="Date Code", available=FixedClock("12:00"),
    ),
    _row(
        "/equities/bars/minute", "code date from to", _LIGHT,
        "S Date Time Code; N O H L C Vo Va", bucket="minute", addon="minute and tick data",
        keys="Date Time Code", available=_HALF_PAST_FOUR,
    ),
    _row(
        "/equities/trades", "", _LIGHT,
        "S Date Code Time SessionDistinction; N Price TradingVolume; S TransactionId",
        bucket="minute", addon="minute and tick data", bulk_only=True,
        keys="Date Time Code TransactionId", available=_HALF_PAST_FOUR,
    ),
    _row(
        "/equities/valuation", "code date from to", _STANDARD,  # seen to work on Standard; smaller plans unknown
        "S Date Code; N? EPS FwdEPS BPS ROE FwdROE PER FwdPER PBR MktCap", "2008-05-07",
        keys="Date Code", available=_HALF_PAST_FOUR,  # the schedule gives no time; seen with the day's bars
    ),
    _row(
        "/equities/investor-types", "section from to", _LIGHT,
        f"S PubDate StDate EnDate Section; N {_prefixed(_INVESTORS, 'Sell Buy Tot Bal')}",
        "2008-01-16",
        # normally the fourth business day after the week; corrections are further records with a newer PubDate
        keys="PubDate StDate EnDate Section", available=Publication("PubDate", "18:00"),
    ),
    _row(
        "/equities/earnings-calendar", "", _FREE,
        "S Date Code CoName FY SectorNm FQ Section",
        # the list is of the next business day, and changes at about 19:00 of the one before; /fins/earnings-date knows
        # when a date was announced
        keys="Date Code FY FQ", available=DayBefore("19:00"),
    ),
    # -- statements
    _row(
        "/fins/summary", "code date cursor", _FREE,
        f"{_STATEMENT_KEY} CurPerType CurPerSt CurPerEn CurFYSt CurFYEn NxtFYSt NxtFYEn"
        f" {_PROFIT} DEPS TA Eq EqAR BPS CFO CFI CFF CashEq"
        f" {_prefixed('Div FDiv', '1Q 2Q 3Q FY Ann Unit TotalAnn')} PayoutRatioAnn FPayoutRatioAnn"
        f" {_prefixed('NxFDiv', '1Q 2Q 3Q FY Ann Unit')} NxFPayoutRatioAnn"
        f" {_prefixed('F', 'Sales2Q OP2Q OdP2Q NP2Q EPS2Q ' + _PROFIT)}"
        " NxFSales2Q NxFOP2Q NxFOdP2Q NxFNp2Q NxFEPS2Q NxFSales NxFOP NxFOdP NxFNp NxFEPS"
        " MatChgSub ChgByASRev ChgNoASRev ChgAcEst RetroRst ShOutFY TrShFY AvgSh"
        f" {_prefixed('NC', _PROFIT + ' TA Eq EqAR BPS')}"
        f" {_prefixed('FNC NxFNC', 'Sales2Q OP2Q OdP2Q NP2Q EPS2Q ' + _PROFIT)};"
        "S* SigChgInC ShEq NCShEq ROE NCROE",
        "2008-07-07", bucket="statements", keys="DiscNo", date_field="DiscDate", available=_STATEMENT_BATCHES,
    ),
    _row(
        "/fins/details", "code date cursor", _PREMIUM,
        f"{_STATEMENT_KEY}; J FS", "2009-01-13", bucket="statements",
        keys="DiscNo", date_field="DiscDate", available=_STATEMENT_BATCHES,
    ),
    _row(
        "/fins/dividend", "code date from to", _PREMIUM,
        "S PubDate PubTime Code RefNo StatCode BoardDate IFCode FRCode IFTerm; NS DivRate;"
        "S RecDate ExDate ActRecDate PayDate CARefNo; NS DistAmt RetEarn DeemDiv DeemCapGains NetAssetDecRatio;"
        "S CommSpecCode; NS CommDivRate SpecDivRate",
        "2013-02-20",
        keys="RefNo", date_field="PubDate",
        available=Disclosure("PubDate", "PubTime", tuple(f"{hour}:00" for hour in range(12, 20))),  # hourly
    ),
    _row(
        "/fins/earnings-date", "code date scheduled_date", _FREE,
        "S PubDate SchDate FQName FYE Code CoName; S? CoNameEn", "2014-09-01",
        # documented 10:05, seen at 16:00; one code may move several of its dates in one publication
        keys="PubDate Code FYE FQName SchDate", available=Publication("PubDate", "16:00"),
    ),
    # -- markets
    _row(
        "/markets/calendar", "hol_div from to", _FREE,
        "S Date HolDiv", "2008-01-01", keys="Date", available=EndOfMarchBefore(),
    ),
    _row(
        "/markets/margin-interest", "code date published_date from to", _STANDARD,
        "S Date Code IssType; N ShrtVol LongVol ShrtNegVol LongNegVol ShrtStdVol LongStdVol; S?* PubDate;"
        "N?* ShrtVal LongVal ShrtNegVal LongNegVal ShrtStdVal LongStdVal",
        "2012-02-10", keys="Date Code",
        # weekly balances (Date: the week's last business day) came on the second business day after, without PubDate;
        # since 2026-09-25 daily, with one. The time of the daily edition is not documented: that of the weekly one.
        available=Publication("PubDate", "16:30", otherwise=BusinessDaysAfter(2, "16:30")),
    ),
    _row(
        "/markets/margin-alert", "code date from to", _STANDARD,
        "S PubDate Code AppDate; J PubReason; N ShrtOut; NS ShrtOutChg ShrtOutRatio; N LongOut;"
        "NS LongOutChg LongOutRatio SLRatio; N ShrtNegOut; NS ShrtNegOutChg; N ShrtStdOut; NS ShrtStdOutChg;"
        "N LongNegOut; NS LongNegOutChg; N LongStdOut; NS LongStdOutChg; S TSEMrgnRegCls",
        "2008-05-08",
        # a correction has the AppDate of what it corrects and a newer PubDate; two AppDates may come on one PubDate
        keys="PubDate Code AppDate", available=Publication("PubDate", "16:30"),
    ),
    _row(
        "/markets/short-ratio", "s33 date from to", _STANDARD,
        "S Date S33; N SellExShortVa ShrtWithResVa ShrtNoResVa", "2008-11-05",
        keys="Date S33", available=_HALF_PAST_FOUR,
    ),
    _row(
        "/markets/short-sale-report", "code disc_date calc_date disc_date_from disc_date_to", _STANDARD,
        "S DiscDate CalcDate Code SSName SSAddr DICName DICAddr FundName;"
        "N? ShrtPosToSO ShrtPosShares ShrtPosUnits; S? PrevRptDate; N? PrevRptRatio; S? Notes",
        "2013-11-07",
        # documented 17:30, seen at 17:33 and 18:02; holders' names do not tell people apart, so nothing is unique
        keys="", date_field="DiscDate", available=Publication("DiscDate", "18:05"),
    ),
    _row(
        "/markets/breakdown", "code date from to", _PREMIUM,
        f"S Date Code; N {_suffixed(_TRADES, 'Va Vo')}",
        "2015-04-01", keys="Date Code", available=FixedClock("18:00"),
    ),
    # -- indices
    _row(
        "/indices/bars/daily/topix", "from to", _LIGHT,
        "S Date; N O H L C", "2008-05-07", keys="Date", available=_HALF_PAST_FOUR,
    ),
    _row(
        "/indices/bars/daily", "code date from to", _STANDARD,
        "S Date Code; N? O H L; N C", "2008-05-07", keys="Date Code", available=_HALF_PAST_FOUR,
    ),
    # -- derivatives
    _row(
        "/derivatives/bars/daily/options/225", "date", _STANDARD,
        "S Date Code; N O H L C; NS EO EH EL EC; N AO AH AL AC Vo OI Va; S CM; N Strike; N? VoOA;"
        "S EmMrgnTrgDiv PCDiv; S? LTD SQD; N? Settle Theo BaseVol UnderPx IV IR",
        "2008-05-07", keys="Date Code EmMrgnTrgDiv", available=_NIGHT,
    ),
    _row(
        "/derivatives/bars/daily/options", "date category code contract_flag", _PREMIUM,
        "S Code ProdCat UndSSO Date; N O H L C; NS MO MH ML MC EO EH EL EC; N AO AH AL AC Vo OI Va; S CM;"
        "N Strike; N? VoOA; S EmMrgnTrgDiv PCDiv; S? LTD SQD; N? Settle Theo BaseVol UnderPx IV IR; S? CCMFlag",
        "2008-05-07", keys="Date Code EmMrgnTrgDiv", available=_NIGHT,
    ),
    _row(
        "/derivatives/bars/daily/futures", "date category contract_flag", _PREMIUM,
        "S Code ProdCat Date; N O H L C; NS MO MH ML MC EO EH EL EC; N AO AH AL AC Vo OI Va; S CM; N? VoOA;"
        "S EmMrgnTrgDiv; S? LTD SQD; N? Settle; S? CCMFlag",
        "2008-05-07", keys="Date Code EmMrgnTrgDiv", available=_NIGHT,
    ),
    # -- EDINET
    _row(
        "/edinet/major-shareholders", "edinet_code code date", _STANDARD,
        f"{_EDINET_KEY} FilerName FilerNameEn DocTypeCode SubDate SubTime PerSt PerEn; J Hldrs",
        keys="DocId", date_field="SubDate", available=_AS_FILED,
    ),
    _row(
        "/edinet/cross-shareholdings", "edinet_code code date", _STANDARD,
        f"{_EDINET_KEY} FilerName FilerNameEn DocTypeCode SubDate SubTime PerSt PerEn;"
        "J Report Largest SecondLargest",
        keys="DocId", date_field="SubDate", available=_AS_FILED,
    ),
    _row(
        "/edinet/large-volume-shareholders", "edinet_code code date", _STANDARD,
        f"{_EDINET_KEY} IsrName DocTypeCode SubDate SubTime LargeHldgTypeCode DocTitle ChgRsn;"
        "NS TotalShsHeld TotalShsRatio TotalShsRatioLast TotalOutStks; J Hldrs",
        keys="DocId", date_field="SubDate", available=_AS_FILED,
    ),
    # -- timely disclosure
    _row(
        "/td/list", "date code from to discItems cursor", _LIGHT,
        "S DiscNo Code Name DiscDate DiscTime Title; J DiscStatus RevNo DiscItems Docs",
        bucket="tdnet", addon="TDnet disclosures",
        keys="DiscNo RevNo", date_field="DiscDate", available=None,  # how soon after DiscTime is not documented
    ),
    _row(
        "/td/files", "discNo docs", _LIGHT, "J* url",
        bucket="tdnet", addon="TDnet disclosures", envelope="object", keys="", available=None,  # no records
    ),
    _row(
        "/td/bulk", "", _LIGHT, "S* lastUpdated url",
        bucket="tdnet", addon="TDnet disclosures", envelope="object", keys="", available=None,  # no records
    ),
    # -- files
    _row("/bulk/list", "endpoint date from to", _FREE, "S Key LastModified; N Size", keys="", available=None),
    _row("/bulk/get", "key endpoint date", _FREE, "S url", envelope="object", keys="", available=None),
)
# fmt: on

BY_PATH = {endpoint.path: endpoint for endpoint in ENDPOINTS}

MASTER = BY_PATH["/equities/master"]
DAILY_BARS = BY_PATH["/equities/bars/daily"]
TOPIX = BY_PATH["/indices/bars/daily/topix"]
INDICES = BY_PATH["/indices/bars/daily"]
CALENDAR = BY_PATH["/markets/calendar"]
MINUTE_BARS = BY_PATH["/equities/bars/minute"]
VALUATION = BY_PATH["/equities/valuation"]
INVESTOR_TYPES = BY_PATH["/equities/investor-types"]
EARNINGS_CALENDAR = BY_PATH["/equities/earnings-calendar"]
FINS_SUMMARY = BY_PATH["/fins/summary"]
FINS_DETAILS = BY_PATH["/fins/details"]
FINS_DIVIDEND = BY_PATH["/fins/dividend"]
EARNINGS_DATE = BY_PATH["/fins/earnings-date"]
MARGIN_INTEREST = BY_PATH["/markets/margin-interest"]
MARGIN_ALERT = BY_PATH["/markets/margin-alert"]
SHORT_RATIO = BY_PATH["/markets/short-ratio"]
SHORT_SALE_REPORT = BY_PATH["/markets/short-sale-report"]
BREAKDOWN = BY_PATH["/markets/breakdown"]
OPTIONS_225 = BY_PATH["/derivatives/bars/daily/options/225"]
OPTIONS = BY_PATH["/derivatives/bars/daily/options"]
FUTURES = BY_PATH["/derivatives/bars/daily/futures"]
BULK_LIST = BY_PATH["/bulk/list"]
BULK_GET = BY_PATH["/bulk/get"]
