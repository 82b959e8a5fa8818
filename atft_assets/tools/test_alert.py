"""A test alert, the way real ones go: `python -m atft_assets.tools.test_alert`.

The same resource, log, masking and retries as those of the sensors; nothing is kept for another try.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from atft_assets.operations.alerts import Alert, Alerts, Delivery, Severity, alerts_resource
from atft_assets.operations.masking import masked
from atft_assets.settings import ALERT_URLS_VARIABLE, Settings, SettingsError

KIND = "test"
HELP = "docs/how-to/slack.md"


def a_test(now: datetime) -> Alert:
    """An alert that nobody has told before."""
    return Alert(
        kind=KIND,
        fingerprint=f"{KIND}-{now.isoformat()}",
        what="this is a test alert",
        where={"sent by": "python -m atft_assets.tools.test_alert"},
        why="somebody wants to know whether alerts arrive",
        todo="nothing",
        severity=Severity.INFO,
    )


def report(alerts: Alerts, fingerprint: str, deliveries: Sequence[Delivery]) -> list[str]:
    """Print what became of it, a line a place; returns what is to be done, nothing if all is well."""
    todo = []
    newest = next(alerts.told(), {})
    if newest.get("fingerprint") == fingerprint:
        print(f"alert log: written, {alerts.log_path}")
    else:
        print(f"alert log: NOT written, {alerts.log_path}")
        todo.append(f"Make {alerts.log_path.parent} writable for this user.")
    for one in deliveries:
        print(f"{one.target}: delivered" if one.delivered else f"{one.target}: NOT delivered. {one.why}")
    if not deliveries:
        print(f"no target: {ALERT_URLS_VARIABLE} is empty, so alerts go to the log alone ({HELP})")
    if not all(one.delivered for one in deliveries):
        todo.append(
            f"Correct {ALERT_URLS_VARIABLE} and export it again ({HELP} has examples), or start what should listen "
            "there. Then run this again, and restart `make ui`: a running one keeps the old addresses."
        )
    return todo


def main(arguments: Sequence[str] | None = None) -> int:
    """Send it; 0 if every target and the log took it, 1 if one did not, 2 if the settings cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m atft_assets.tools.test_alert",
        description=f"Send a test alert to every target of {ALERT_URLS_VARIABLE} and into the alert log, by the code "
        "that real alerts take, and say which of them took it.",
    )
    parser.parse_args(arguments)
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        print(f"test_alert: {masked(str(error))}", file=sys.stderr)
        return 2
    instance = dg.DagsterInstance.get() if os.environ.get("DAGSTER_HOME") else dg.DagsterInstance.ephemeral()
    resource = alerts_resource(bool(settings.alert_urls), settings.data_root)
    with instance, dg.build_resources({"alerts": resource}, instance=instance) as resources:
        alert = a_test(datetime.now(UTC))
        todo = report(resources.alerts, alert.fingerprint, resources.alerts.deliver(alert))
    if todo:
        print("\n" + "\n".join(todo), file=sys.stderr)
    return 1 if todo else 0


if __name__ == "__main__":
    sys.exit(main())
