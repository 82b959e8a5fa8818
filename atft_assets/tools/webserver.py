"""Dagster's webserver behind the guard; `atft_assets.tools.ui` starts it, and so do the services of deploy/."""

import argparse
from ipaddress import ip_address

import dagster as dg
import uvicorn

from atft_assets.dagster_private import webserver_app
from atft_assets.log_lines import set_up_logs
from atft_assets.tools.guard import Guard

STATEMENT_MILLISECONDS = 15_000  # what `dagster-webserver` gives a statement of a database
POOL_RECYCLE_SECONDS = 3_600
POOL_OVERFLOW = 20
GOODBYE_SECONDS = 2  # open pages hold a websocket; it is cut after this


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m atft_assets.tools.webserver", description=__doc__)
    parser.add_argument("--workspace", required=True, help="workspace file that names the code server")
    parser.add_argument("--host", required=True, help="address to listen on")
    parser.add_argument("--port", type=int, required=True, help="port to listen on")
    parser.add_argument(
        "--allow-host", action="extend", nargs="*", default=[], metavar="NAME", help="further names it is addressed by"
    )
    parser.add_argument("--read-only", action="store_true", help="refuse whatever changes something")
    parser.add_argument("--path-prefix", default="", help="what all its paths begin with, e.g. /view")
    arguments = parser.parse_args()
    set_up_logs()
    hosts = {*arguments.allow_host, *([] if everywhere(arguments.host) else [arguments.host])}
    with dg.DagsterInstance.get() as instance:
        instance.optimize_for_webserver(STATEMENT_MILLISECONDS, POOL_RECYCLE_SECONDS, POOL_OVERFLOW)
        with webserver_app(instance, arguments.workspace, arguments.path_prefix, arguments.read_only) as app:
            uvicorn.run(
                Guard(app, hosts),
                host=arguments.host,
                port=arguments.port,
                log_level="warning",
                log_config=None,  # in our format
                timeout_graceful_shutdown=GOODBYE_SECONDS,
            )


def everywhere(host: str) -> bool:
    """Whether an address stands for all addresses of the machine, so that nobody is asked by that name."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return not host


if __name__ == "__main__":
    main()
