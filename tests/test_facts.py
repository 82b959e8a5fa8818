"""What was counted on real records of J-Quants, fact by fact, and the tests that hold it.

Forty-two facts, numbered as in the study that counted them. Each names every test that would fail if the client, a
contract, the sandbox or a feature got it wrong; what nobody here can get wrong says why. That the named tests exist is
read from their files, not collected: a test that is renamed must be renamed here.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@dataclass(frozen=True)
class Fact:
    """One fact.

    Attributes:
        said: the fact in a few words.
        tests: node ids, below `tests/`.
        none: why (a part of) it is held by no test; "" where all of it is.
    """

    said: str
    tests: tuple[str, ...] = ()
    none: str = ""


def at(file: str, *names: str) -> tuple[str, ...]:
    """Node ids of a file's tests."""
    return tuple(f"{file}.py::test_{name}" for name in names)


ODD, SHAPES, SERVED, ROAD = "sandbox/test_oddities", "raw/test_shapes", "sandbox/test_records", "raw/test_every_table"
STATEMENTS, EARNINGS, DIVIDENDS = "features/test_statements", "features/test_earnings", "features/test_dividends"
SHORT, FLOW, OPTIONS, FUTURES = (f"features/test_{name}" for name in ("short", "flow", "options", "futures"))
MARGIN, ALERTS, UNIVERSE = (f"features/test_{name}" for name in ("margin", "daily_margin", "universe"))
RULES, CLIENT, CELLS = "jquants/test_availability", "jquants/test_client", "raw/test_cells"

FACTS: Mapping[int, Fact] = {
    # -- statements
    1: Fact(
        "a document's number is its only key; a name files several in one minute",
        at(ODD, "the_number_alone_tells_documents_apart")
        + at(SHAPES, "documents_are_told_apart_by_their_number_alone")
        + at(STATEMENTS, "growth_is_against_one_document_however_many_there_were"),
    ),
    2: Fact(
        "the date within a number is that of the registration; order is date, time, number; two revisions in a day",
        at(ODD, "the_date_within_a_number_is_not_that_of_the_disclosure_and_orders_nothing")
        + at(STATEMENTS, "a_document_number_says_nothing_of_order")
        + at(STATEMENTS, "of_two_revisions_of_a_day_the_later_counts_by_time_and_then_by_number"),
    ),
    3: Fact(
        "results of a whole year have F* empty and NxF* filled, which the next quarter's F* mostly repeats",
        at(ODD, "a_whole_year_carries_the_next_years_forecast_and_none_of_its_own")
        + at(STATEMENTS, "a_revision_is_against_the_forecast_of_the_same_year"),
    ),
    4: Fact(
        "which fields are filled depends on period and accounting standard",
        at(ODD, "fields_are_filled_as_often_as_they_are")
        + at(STATEMENTS, "only_like_is_held_against_like", "the_random_names_reach_every_column"),
    ),
    5: Fact(
        "a quarter of quarters tells cash flows, three in ten since April 2024, and finer than the rest",
        at(ODD, "fields_are_filled_as_often_as_they_are", "cash_flows_are_finer_than_the_figures_beside_them")
        + at(STATEMENTS, "every_column_is_what_plain_python_makes_of_what_the_evening_knew"),
    ),
    6: Fact(
        "Eq holds minorities, ShEq does not; EqAR and BPS go by ShEq",
        at(ODD, "ratios_go_by_the_owners_equity")
        + at("features/test_event_lineage", "a_column_changes_with_what_it_is_computed_from_and_with_nothing_else"),
    ),
    7: Fact(
        "a sixth of the documents holds no results",
        at(ODD, "some_documents_hold_no_results_and_some_names_never_disclose")
        + at(STATEMENTS, "documents_without_results_say_nothing_of_results"),
    ),
    8: Fact(
        "seven results in a hundred are corrections, up to two years later, many with equal figures; Saturdays",
        at(ODD, "one_result_in_fourteen_is_a_correction_up_to_two_years_later", "hours_of_disclosure")
        + at(ROAD, "documents_of_saturdays_and_nights_carry_the_instant_at_which_they_were_served")
        + at(STATEMENTS, "a_correction_of_the_year_before_counts_from_its_evening_and_takes_no_newer_period_away")
        + at(STATEMENTS, "a_late_correction_of_an_old_year_brings_its_forecast_not_back")
        + at(EARNINGS, "a_correction_is_no_announcement_of_results"),
    ),
    9: Fact(
        "a quarter comes before 15:30, half at it, one in a hundred after the batch of 18:00; days of 940 documents",
        at(ODD, "hours_of_disclosure")
        + at(RULES, "statements", "a_document_waits_for_the_next_batch_of_a_trading_day")
        + at(SERVED, "documents_come_in_batches_and_on_premium_at_once")
        + at(CLIENT, "every_page_is_read_in_order_with_the_same_query")
        + at(STATEMENTS, "a_disclosure_after_the_batch_counts_from_the_next_evening"),
    ),
    10: Fact(
        "other names of types in 2022, fourth quarters, halves of two scales in a year with a split, names that never "
        "disclose, a filer in US dollars",
        at(SHAPES, "documents_of_every_kind_and_period_are_taken")
        + at(STATEMENTS, "a_fourth_quarter_and_other_names_of_documents_say_nothing_of_results")
        + at(ODD, "in_a_year_with_a_split_the_dividend_adds_halves_of_two_scales")
        + at(ODD, "some_documents_hold_no_results_and_some_names_never_disclose")
        + at(STATEMENTS, "a_split_is_no_revision_of_what_is_told_a_share")
        + at(STATEMENTS, "a_name_without_documents_and_a_table_without_any_are_blank"),
        "No field says in which currency a document is: ratios of figures to a market value are wrong for the one name "
        "that files in dollars, and features are ranked within a day.",
    ),
    11: Fact(
        "a statement is an object, in a file a dict in single quotes; numbers in two spellings; like labels differ",
        at(ODD, "statements_are_objects_with_other_labels_and_other_spellings_of_numbers")
        + at("sandbox/test_bulk", "nested_cells_are_dicts_in_single_quotes")
        + at(CELLS, "texts_of_open_kinds", "what_is_plain_stays_so", "a_file_gives_the_frame_that_the_records_give")
        + at(SHAPES, "first_months_are_those_that_were_seen"),
    ),
    # -- dividends and announced days
    12: Fact(
        "an ex-date is always there and may lie a year ahead; three terms at once; rate 0 and -; the newest counts",
        at(ODD, "dividends_are_events")
        + at(SHAPES, "three_terms_of_one_announcement_are_three_dividends")
        + at(DIVIDENDS, "the_newest_of_a_dividend_counts_and_a_deletion_leaves_nothing")
        + at(DIVIDENDS, "a_decision_under_a_number_of_its_own_replaces_the_forecast_for_its_ex_date")
        + at(DIVIDENDS, "an_undecided_rate_is_no_zero_and_a_zero_is_one")
        + at(DIVIDENDS, "every_column_is_what_plain_python_makes_of_what_the_evening_knew"),
    ),
    13: Fact(
        "the older calendar: hundreds of rows in season and one off it, words in full width",
        at(ODD, "the_older_calendar_in_words")
        + at(SHAPES, "words_of_the_older_calendar_are_kept_as_they_are")
        + at(SERVED, "the_older_calendar_speaks_of_the_next_business_day_until_something_new_comes"),
        "Undecided days in words, notes for a fiscal year and old sections are of the exchange's own lists, which no "
        "client reads; the contract takes the words all the same.",
    ),
    14: Fact(
        "announced days move, and results come on them but for a few, some a day early",
        at(ODD, "announced_days_move_and_are_sometimes_missed")
        + at(EARNINGS, "a_day_that_moves_counts_from_its_publication")
        + at(EARNINGS, "results_that_come_a_day_early_are_not_due_any_more")
        + at(EARNINGS, "late_results_are_still_due_on_their_evening"),
    ),
    15: Fact(
        "0331 keeps its zero; announced 12 to 64 days ahead; not unique on code and period; out at 16:00",
        at(ODD, "announced_days_move_and_are_sometimes_missed")
        + at(SHAPES, "announced_days_keep_their_zeros_and_may_move_within_a_publication")
        + at(CELLS, "texts_of_open_kinds")
        + at(SERVED, "rows_appear_at_their_hour", "a_record_is_there_at_the_instant_that_the_client_stamps_it_with"),
    ),
    # -- margin
    16: Fact(
        "balances of the last business day of a week, none of weeks of two sessions, out two business days later",
        at(ODD, "weeks_of_the_margin_balances")
        + at(SHAPES, "the_days_of_weekly_balances")
        + at(RULES, "margin_balances_bear_a_publication_date_or_come_two_days_after")
        + at(ROAD, "margin_of_a_month_before_the_change_has_no_values")
        + at(MARGIN, "a_balance_enters_on_the_second_business_day_of_the_next_week")
        + at(MARGIN, "weeks_of_two_sessions_have_no_balance_in_either_edition"),
    ),
    17: Fact(
        "every name has a row, some of zeros; three kinds of issues; preferred shares and codes with letters",
        at(ODD, "margin_balances")
        + at(SHAPES, "balances_of_nobody_and_of_every_kind_of_code")
        + at(MARGIN, "positions_of_nobody"),
    ),
    18: Fact(
        "some two hundred alerts a day, of the business day before",
        at(ODD, "margin_alerts") + at(SHAPES, "alerts_are_told_apart_by_publication_code_and_balance_date"),
    ),
    19: Fact(
        "nothing on 2021-08-26 and two days on the next; corrections with the old AppDate; published on 2020-10-01",
        at(ODD, "a_day_without_alerts_comes_the_day_after", "margin_alerts", "nothing_was_sold_on_the_day_of_the_halt")
        + at(SHAPES, "alerts_are_told_apart_by_publication_code_and_balance_date")
        + at(ROAD, "alerts_of_two_days_in_one_publication", "the_month_of_the_system_halt")
        + at(ALERTS, "nothing_published_on_one_day_and_two_balance_dates_on_the_next")
        + at(ALERTS, "a_correction_counts_from_its_own_evening_and_never_before"),
    ),
    20: Fact(
        "* for funds, a ratio of 0 where nobody is long, several reasons at once, reasons that are none",
        at(ODD, "margin_alerts")
        + at(SHAPES, "markers_of_alerts_stay_markers")
        + at("raw/test_records", "markers_of_either_type_are_one_text")
        + at(CELLS, "texts_of_open_kinds", "a_file_gives_the_frame_that_the_records_give")
        + at(ALERTS, "markers_are_no_numbers_and_a_ratio_of_zero_is_no_ratio"),
    ),
    # -- short selling
    21: Fact(
        "34 rows a day: 9999 is what has no sector, and not the total",
        at(ODD, "turnover_of_short_sales_has_34_rows")
        + at(SHAPES, "all_sectors_of_a_day_and_other_is_one_of_them")
        + at(SHORT, "other_is_not_the_total_and_all_sectors_are_the_market"),
    ),
    22: Fact(
        "a report comes two business days after its date, or one, or a year: only the disclosure says when",
        at(ODD, "lags_of_reported_positions")
        + at(SHAPES, "reports_have_no_key_and_days_of_their_own")
        + at(SHORT, "a_report_is_known_by_its_disclosure_and_not_two_days_after_its_day")
        + at(SHORT, "older_days_that_come_late_do_not_displace_the_newest"),
    ),
    23: Fact(
        "the date of a position may be a holiday",
        at(ODD, "lags_of_reported_positions")
        + at(SHAPES, "reports_have_no_key_and_days_of_their_own")
        + at(SHORT, "a_report_is_known_by_its_disclosure_and_not_two_days_after_its_day"),
    ),
    24: Fact(
        "no key: people of one name, corrections that nobody flags, many rows of a code a day",
        at(ODD, "nothing_tells_reports_apart")
        + at(SHAPES, "reports_have_no_key_and_days_of_their_own")
        + at("raw/test_records", "rows_are_ordered_by_the_keys_of_the_endpoint")
        + at(SHORT, "persons_are_told_apart_by_the_reports_that_they_name", "the_same_day_again_is_a_correction"),
    ),
    25: Fact(
        "below half a per cent is an exit: silence after it is unknown, before it unchanged",
        at(ODD, "exits_below_half_a_per_cent")
        + at(SHORT, "a_report_below_the_threshold_is_an_exit_and_silence_before_it_means_unchanged")
        + at(SHORT, "positions_against_a_replay_of_every_disclosure")
        + at(SHORT, "older_days_that_come_after_an_exit_bring_nobody_back"),
    ),
    26: Fact(
        "a thousand rows a day, - for no text, floats, addresses with a blank, out at 17:33; few rows in a month",
        at(ODD, "exits_below_half_a_per_cent")
        + at(SHAPES, "reports_have_no_key_and_days_of_their_own")
        + at(SHAPES, "a_month_with_a_handful_of_reports_may_hold_one_name")
        + at(SERVED, "rows_appear_at_their_hour", "a_record_is_there_at_the_instant_that_the_client_stamps_it_with")
        + at(CLIENT, "every_page_is_read_in_order_with_the_same_query")
        + at(SHORT, "one_house_for_two_principals_is_two_holders_and_markers_are_no_names"),
    ),
    # -- flow
    27: Fact(
        "a week comes on the fourth business day after it, or later; weeks of one session; its end leaks",
        at(ODD, "weeks_of_the_flow")
        + at(SHAPES, "weeks_of_any_length_lag_and_number_type")
        + at(FLOW, "a_week_enters_on_the_evening_of_its_publication_and_not_on_its_last_day")
        + at(FLOW, "a_correction_counts_from_its_own_evening"),
    ),
    28: Fact(
        "the whole market is no sum of sections; floats in files and integers from the API; other sections in 2008",
        at(ODD, "weeks_of_the_flow")
        + at(SHAPES, "weeks_of_any_length_lag_and_number_type")
        + at(ROAD, "flow_over_the_reform_of_the_market")
        + at(CELLS, "a_file_gives_the_frame_that_the_records_give")
        + at(FLOW, "the_whole_market_is_not_the_sum_of_the_sections", "sections_by_market_of_the_day"),
        "One file in the place of two is announced for the exchange's web pages, which no client reads.",
    ),
    # -- derivatives
    29: Fact(
        "thousands of options a day, nineteen in twenty not traded",
        at(ODD, "most_options_are_not_traded_and_a_zero_price_says_nothing_of_volume")
        + at(SERVED, "pages_join_to_the_whole"),
        "As many as in Tokyo are there in a market of 1,000 names and more alone; tests use hundreds.",
    ),
    30: Fact(
        "no night on the first day of a contract; new strikes every day",
        at(ODD, "a_new_strike_has_no_night")
        + at(SHAPES, "prices_volumes_and_volatilities_of_options")
        + at(FUTURES, "a_price_of_zero_is_no_price_and_a_night_that_was_not_is_no_return"),
    ),
    31: Fact(
        "prices of 0 with a volume: traded outside the auction",
        at(ODD, "most_options_are_not_traded_and_a_zero_price_says_nothing_of_volume")
        + at(SHAPES, "prices_volumes_and_volatilities_of_options")
        + at(OPTIONS, "a_price_of_zero_has_a_volume_and_an_extra_settlement_has_none")
        + at(FUTURES, "a_price_of_zero_is_no_price_and_a_night_that_was_not_is_no_return"),
    ),
    32: Fact(
        "volatilities cut at 1 and 320, settlements of 1 at least, one level a day, rates by expiry, less before 2016",
        at(ODD, "figures_of_options", "volatilities_are_empty_before_they_were_published")
        + at(SHAPES, "prices_volumes_and_volatilities_of_options")
        + at(SHAPES, "options_of_before_2016_have_neither_settlement_nor_volatility")
        + at(OPTIONS, "clipped_volatilities_are_no_numbers", "far_strikes_do_not_enter_the_volatility_at_the_money")
        + at(OPTIONS, "puts_are_one_and_calls_are_two"),
    ),
    33: Fact(
        "codes of nine characters, not all digits; suffixes of adjusted share options; futures on currencies",
        at(ODD, "figures_of_options")
        + at(SHAPES, "codes_of_contracts_are_nine_characters_and_not_all_digits")
        + at(SERVED, "further_parameters"),
    ),
    34: Fact(
        "settlement files of holidays repeat the session before",
        none="They are files of the exchange's web pages; the client asks J-Quants, for trading days alone.",
    ),
    # -- names
    35: Fact(
        "a sector is never empty; all segments change on 2022-04-04, size classes every October and once by mistake",
        at("sandbox/test_market", "segments_change_on_the_day_of_the_reform")
        + at("sandbox/test_market", "sectors_classes_and_oddities_of_the_master")
        + at(SHAPES, "segments_and_size_classes_may_all_change_at_once_and_sectors_may_not")
        + at(SHAPES, "a_list_of_before_the_product_category_is_taken")
        + at(UNIVERSE, "the_reform_of_2022_changes_the_market_code_and_nobody_leaves"),
        "No feature and no rule of who is eligible reads a size class: a wrong one, for the month until the next list, "
        "puts names into the class without a size in two reports.",
    ),
    36: Fact(
        "names vanish and return years later; other fifth characters; TOKYO PRO rarely has a close",
        at(SHAPES, "names_may_vanish_and_return_and_have_any_fifth_character")
        + at(UNIVERSE, "a_name_that_vanishes_and_returns_is_absent_between_and_new_afterwards")
        + at(UNIVERSE, "only_domestic_common_shares_of_the_cash_market")
        + at("features/test_bars", "a_name_that_comes_back_after_years_has_no_return_over_the_hole")
        + at("sandbox/test_market", "a_code_can_be_given_out_again"),
    ),
    37: Fact(
        "other spellings of dates and segments in V1; files in two encodings",
        at(CELLS, "what_is_no_such_file_is_told", "line_ends_and_marks_of_other_writers")
        + at("raw/test_records", "a_date_that_is_none_is_refused"),
        "V1 was switched off on 2026-06-01, and files of the exchange's web pages are not read.",
    ),
    38: Fact(
        "half days of 2008 and 2009 are days of the market without a list of names",
        at(SHAPES, "half_days_have_no_list_and_the_next_day_opens_the_week")
        + at(ROAD, "half_days_are_days_of_the_market_without_a_list_of_names"),
    ),
    # -- indices, files, transport
    39: Fact(
        "indices begin on different days; on 2020-10-01 they are flat",
        at(ODD, "indices_begin_and_end_where_they_do", "nothing_was_sold_on_the_day_of_the_halt")
        + at("sandbox/test_market", "the_day_of_the_system_halt")
        + at(ROAD, "the_month_of_the_system_halt")
        + at("features/test_indices", "an_index_that_has_not_begun_leaves_the_others_whole"),
    ),
    40: Fact(
        "files: the plan in the key, a month beside its days, a byte order mark, no adjusted prices, one calendar",
        at("sandbox/test_bulk", "the_plan_stands_in_the_key_of_months_that_a_smaller_one_does_not_reach")
        + at("sandbox/test_bulk", "early_in_a_month_live_files_repeat_the_month_before")
        + at("sandbox/test_bulk", "no_adjusted_price_is_in_a_file_of_bars_but_the_factor_is")
        + at("sandbox/test_bulk", "the_calendar_is_one_file_without_a_date_in_its_name")
        + at("jquants/test_bulk", "files_of_whole_months_are_found_and_daily_ones_left")
        + at("jquants/test_bulk", "of_two_files_of_a_month_that_of_the_own_plan_is_taken")
        + at(CELLS, "line_ends_and_marks_of_other_writers")
        + at(CELLS, "a_file_may_lack_what_the_table_leaves_out_and_nothing_else")
        + at("raw/test_history", "by_file_and_by_day_a_table_is_the_same")
        + at("raw/test_history", "the_master_of_every_day_gives_the_weekly_snapshots"),
    ),
    41: Fact(
        "429 below the promised rate; 403 for an endpoint that is not available; when each table begins",
        at(CLIENT, "the_rate_stays_below_what_was_refused", "refusals_are_never_repeated")
        + at(CLIENT, "the_cool_down_after_429_is_a_minute_or_two_then_five_then_forgiven")
        + at("jquants/test_errors", "kind_and_text")
        + at(SHAPES, "first_months_are_those_that_were_seen"),
    ),
    42: Fact(
        "when records appear: 16:00, 16:30, 18:00; today is asked for again",
        at("jquants/test_endpoints", "publication")
        + at(RULES, "statements")
        + at(SERVED, "rows_appear_at_their_hour", "a_record_is_there_at_the_instant_that_the_client_stamps_it_with")
        + at("raw/test_daily_quotes", "the_last_five_trading_days_are_asked_for_again_and_corrections_enter")
        + at("raw/test_toy_endpoint", "a_day_is_asked_for_from_its_clock_on_and_again_while_it_may_be_corrected"),
    ),
}


@cache
def names_in(file: str) -> frozenset[str]:
    """Names of a file's tests."""
    tree = ast.parse((TESTS / file).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_every_fact_is_listed() -> None:
    assert list(FACTS) == list(range(1, 43))


@pytest.mark.parametrize("number", FACTS)
def test_a_fact_is_held_by_tests_that_exist_or_says_why_not(number: int) -> None:
    fact = FACTS[number]
    assert fact.said and (fact.tests or fact.none)
    assert len(set(fact.tests)) == len(fact.tests)
    for node in fact.tests:
        file, _, name = node.partition("::")
        assert name in names_in(file), f"fact {number} names {node}, which is no test"
