"""`kill -9` in the middle of a back-fill: the next run completes, with the tables of an undisturbed one."""

import os
import signal
import subprocess
import sys
import textwrap
import time

from tests.patience import until

BACKFILL = textwrap.dedent("""
    import sys
    from datetime import date
    import dagster as dg
    from atft_assets.jquants.resource import JQuantsResource
    from atft_assets.raw import definitions
    from atft_assets.settings import Plan, Settings
    from atft_assets.store import Store

    url, root = sys.argv[1:]
    settings = Settings(base_url=url, plan=Plan.STANDARD, data_root=root, start=date(2024, 1, 1), end=date(2024, 6, 28))
    (bars,) = [one for one in definitions(settings).assets if one.key.to_user_string() == "daily_quotes"]
    jquants = JQuantsResource(
        api_key="k", base_url=url, plan="standard", requests_per_minute=0, now="2024-12-01T12:00", first_wait=0.01
    )
    span = "dagster/asset_partition_range_"
    result = dg.materialize(
        [bars], resources={"store": Store(root=root), "jquants": jquants},
        tags={f"{span}start": "2024-01", f"{span}end": "2024-04"},
    )
    sys.exit(0 if result.success else 1)
""")


def test_a_killed_backfill_is_taken_up(lab, tmp_path):
    lab.exchange.page_rows = 20
    lab.run("daily_quotes", "2024-01", "2024-04")
    clean = lab.files("daily_quotes")
    asked = len(lab.asked())

    lab.root = tmp_path / "killed"
    lab.exchange.fault = lambda request, number: time.sleep(0.01)
    command = [sys.executable, "-c", BACKFILL, lab.server.base_url, str(lab.root)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: len(lab.server.requests) >= 0.6 * asked, "most of the requests", process=process)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    time.sleep(0.1)  # answers that were under way
    before = len(lab.asked())
    assert lab.table("daily_quotes").keys() == []  # nothing half done is visible

    assert lab.run("daily_quotes", "2024-01", "2024-04").success
    after = len(lab.asked())
    assert {name: data for name, data in lab.files("daily_quotes").items() if not name.endswith(".staged")} == clean
    # what had landed was not asked for again: a month at most is lost, and what was in flight
    assert before + after <= asked + 23 + 8
