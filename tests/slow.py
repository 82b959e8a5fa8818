"""What `make test-fast` leaves out, files or single tests that take more than about three seconds on a quiet core; and
what `make test` leaves to `make deploy-test`.

Measured with `pytest --durations=30`. The mark `slow` is given to them by tests/conftest.py, so that the list can be
read, and kept short, in one place. A test of a file of its own may carry `pytest.mark.slow` instead.
"""

from collections.abc import Iterable

SLOW = (
    # the attack: a hundred hostile answers, damaged files, processes that are killed
    "tests/attack/test_api.py",
    "tests/attack/test_corruption.py",
    "tests/attack/test_kill.py",
    "tests/attack/test_leaks.py",
    "tests/attack/test_secrets.py::test_the_key_is_in_no_file_after_an_attack",
    "tests/attack/test_wrong_settings.py",
    # real runs of Dagster with a daemon, a killed process, or every table
    "tests/hpo/test_hpo.py",
    "tests/hpo/test_study.py",
    "tests/test_closing_words.py::test_a_wrong_setting",
    "tests/test_closing_words.py::test_a_step_that_refuses",
    "tests/test_closing_words.py::test_an_interrupt_wherever_it_strikes",
    "tests/operations/test_corrections.py",
    "tests/operations/test_daemon.py",
    "tests/operations/test_data_release.py",
    "tests/operations/test_run_history.py",
    "tests/benches/test_evenings.py",
    "tests/test_home.py::test_the_homes_that_are_asked_who_is_writing",
    "tests/test_home.py::test_the_code_location_is_not_loaded_with_a_home_of_another_root",
    "tests/tools/test_home.py",
    "tests/tools/test_reaper.py",
    "tests/tools/test_ui.py",
    "tests/tools/test_road.py",
    "tests/tools/test_test_alert.py",
    # a server of S3's kind, and processes that publish into it
    "tests/store/test_bucket.py",
    "tests/store/test_tables.py::test_kill_at_every_step_of_a_publication_leaves_each_file_old_or_new",
    "tests/store/test_tables.py::test_two_writers_lose_nothing",
    # history by file: a process that is killed, and every table twice
    "tests/jquants/test_bulk.py::test_a_killed_download_is_taken_up",
    "tests/raw/test_history.py",
    # tables by real runs: from the sandbox with its faults and real waiting, and from raw months to features
    "tests/raw/test_daily_quotes.py",
    "tests/raw/test_damaged.py",
    "tests/raw/test_interrupted.py",
    "tests/raw/test_killed.py",
    "tests/raw/test_other_rules.py",
    "tests/raw/test_every_table.py",
    "tests/raw/test_with_sandbox.py",
    "tests/raw/test_toy_endpoint.py",
    "tests/features/test_assets.py",
    "tests/features/test_corrected.py",
    "tests/features/test_lineage.py",
    "tests/features/test_plans.py",
    "tests/features/test_raw_lineage.py",
    "tests/features/test_served.py",
    "tests/features/test_toy_table.py",
    "tests/reports/test_feature_report.py",
    # a simulated market large enough to measure what is planted
    "tests/sandbox/test_command_line.py",
    "tests/sandbox/test_faults.py",
    "tests/sandbox/test_planted.py",
    "tests/sandbox/test_records.py::test_records_know_nothing_of_the_days_after_them",
    "tests/sandbox/test_signals.py",
    # trainings: processes with torch, and networks that must have learned something
    "tests/model/test_checkpoint.py",
    "tests/model/test_cli.py",
    "tests/model/test_gates.py::test_a_compiled_network_is_two_graphs",
    "tests/model/test_learning.py",
    "tests/model/test_train.py",
    "tests/baselines/test_choices.py",
    "tests/baselines/test_trees.py",
    "tests/training/test_launcher.py",
    "tests/training/test_fan_out.py",
    "tests/training/test_fold_range.py",
    "tests/training/test_ray_launcher.py",
    "tests/training/test_phases.py",
    "tests/training/test_evaluation.py",
    "tests/training/test_disk.py",
    "tests/training/test_ablation.py",
    "tests/training/test_walk_forward.py",
    "tests/trading/test_backtest_asset.py",
    "tests/trading/test_daily_scores.py",
    "tests/trading/test_promotion.py",
    "tests/trading/test_brokers.py",
    "tests/trading/test_two_weeks.py",
    "tests/trading/test_orders.py::test_whatever_is_held_orders_keep_to_lots_ticks_bands_caps_and_cash",
    "tests/trials/test_ledger.py::test_of_two_writers_neither_loses_a_line",
    # pages with their pictures, assets run in the process, processes that load the code
    "tests/deploy/test_units.py::test_what_a_service_starts_exists_with_its_options",
    "tests/reports/test_backtest_page.py",
    "tests/reports/test_evaluation_page.py",
    "tests/reports/test_evening_page.py",
    "tests/store/test_mirror.py",
    "tests/benches/test_bulk.py",
    "tests/benches/test_events.py",
    "tests/deploy/test_json_logs.py",
    "tests/operations/test_retention.py",
    "tests/sandbox/test_bulk.py",
    "tests/test_dagster_private.py::test_a_run_that_waits_for_a_place_in_a_pool_sleeps_between_two_questions",
    "tests/test_examples.py",
    "tests/features/test_point_in_time.py",
    "tests/features/test_quality.py",
    "tests/operations/test_metrics.py",
    "tests/panel/test_build.py",
    "tests/panel/test_turnover_floor.py",
    "tests/raw/test_cells.py",
    "tests/raw/test_damage.py",
    "tests/raw/test_other_tables.py",
    "tests/scoring/test_profile.py",
    "tests/tools/test_services.py",
    "tests/training/test_folds.py",
    "tests/test_wall.py",
    "tests/training/test_bucket.py",
    "tests/training/test_importing.py",
    "tests/tools/test_mend.py",
    "tests/trading/test_backtest_shown.py",
    "tests/trading/test_portfolio_asset.py",
    "tests/trading/test_today.py",
    "tests/training/test_readiness.py::TestBeforeATraining",
    "tests/training/test_runs_report.py",
)

# What `make deploy-test` runs, and `make test` does not, lest that take longer than eighteen minutes on two cores: the
# mark `machine` is given to it, as to the tests that boot machines and build images.
MINUTES = (
    # PostgreSQL that comes and goes, stacks of services, browsers at the proxy
    "tests/attack/test_leaks.py::test_secrets_are_in_nothing_that_runs_leave_on_postgresql",
    "tests/deploy/test_backup.py",
    "tests/deploy/test_history.py",
    "tests/deploy/test_nginx.py",
    "tests/deploy/test_postgres.py",
    "tests/deploy/test_search.py",
    "tests/deploy/test_sensors.py",
    "tests/deploy/test_stack.py",
    "tests/deploy/test_two_hosts.py",
    "tests/deploy/test_unrun_checks.py",
    # a row of real trainings; two hundred markets; half a year of every table, from requests to the report
    "tests/benches/test_plants.py::test_a_market_of_half_a_year_walks_the_road_and_nothing_is_found_of_nothing",
    "tests/model/test_footprint.py::test_several_at_a_time_take_what_the_sum_of_their_estimates_says",
    "tests/model/test_footprint.py::test_the_estimate_is_near_the_peak_of_a_real_training",
    "tests/trading/test_daily_scores.py::test_a_real_network_says_the_same_from_the_last_days_as_from_the_whole_panel",
    "tests/trading/test_ledger.py::test_scores_that_know_nothing_lose_their_costs_over_two_hundred_markets",
)


def listed(test: str, entries: Iterable[str]) -> bool:
    """Whether a test, by its id without parameters, or its file stands in a list."""
    return any(test == entry or test.startswith(f"{entry}::") for entry in entries)
