"""Command line: `python -m atft_assets.sandbox serve | run -- COMMAND... | oracle | bench`."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import date, datetime
from pathlib import Path

from atft_assets.sandbox.config import PLANTED, MarketConfig, demo_config
from atft_assets.sandbox.faults import Fault
from atft_assets.sandbox.market import simulate
from atft_assets.sandbox.oracle import oracle_rank_ic, oracle_scores
from atft_assets.sandbox.server import SandboxServer, serve
from atft_assets.settings import SANDBOX_KEY_VARIABLE, Plan, SettingsError, clean_key

KEY_NOTE = f"The key to accept is taken from {SANDBOX_KEY_VARIABLE}; without it a random one is made."


def parser() -> argparse.ArgumentParser:
    """The options of the commands."""
    demo = demo_config()
    top = argparse.ArgumentParser(prog="python -m atft_assets.sandbox", description="A local J-Quants.")
    commands = top.add_subparsers(dest="command", required=True)

    market = argparse.ArgumentParser(add_help=False)
    market.add_argument("--names", type=int, default=demo.n_names, help="ordinary shares at the start (%(default)s)")
    market.add_argument("--start", type=date.fromisoformat, default=demo.start, help="first day (%(default)s)")
    market.add_argument("--end", type=date.fromisoformat, default=demo.end, help="last day (%(default)s)")
    market.add_argument("--seed", type=int, default=demo.seed, help="of every random stream (%(default)s)")
    market.add_argument(
        "--plant", action="append", default=[], type=planted, metavar="NAME=STRENGTH",
        help=f"drift that only other data than prices show, e.g. regime=0.1; may be repeated: {', '.join(PLANTED)}",
    )  # fmt: skip

    service = argparse.ArgumentParser(add_help=False)
    service.add_argument("--port", type=int, default=0, help="0 takes a free one (%(default)s)")
    service.add_argument(
        "--plan", type=Plan, choices=list(Plan), default=Plan.STANDARD, help="what it serves (%(default)s)"
    )
    service.add_argument("--now", type=datetime.fromisoformat, help="Japanese time; the evening of --end if left out")
    service.add_argument("--page-rows", type=int, help="rows of a page; 60 %% of the names if left out")
    service.add_argument(
        "--rate-limit", type=int, nargs="?", const=True, default=False,
        help="requests a minute, the plan's if no number follows; none if left out",
    )  # fmt: skip
    service.add_argument("--shuffle", action="store_true", help="rows in no order")
    service.add_argument(
        "--fault", action="append", default=[], type=Fault.parse, metavar="KIND[:SHARE][,name=value...]",
        help="commit a fault, e.g. 500:0.1 or null_column,path=/equities/bars/daily,column=Vo; may be repeated",
    )  # fmt: skip
    service.add_argument("--fault-seed", type=int, default=0, help="of the draw of faults (%(default)s)")

    commands.add_parser("serve", parents=[market, service], help="serve until interrupted", epilog=KEY_NOTE)
    run = commands.add_parser("run", parents=[market, service], help="serve while a command runs", epilog=KEY_NOTE)
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="run with the sandbox exported")
    best = commands.add_parser("oracle", parents=[market], help="attainable rank correlations")
    best.add_argument("--scores", type=Path, metavar="DIR", help="also write their scores, a file each")
    commands.add_parser("bench", parents=[market], help="how long a market and its answers take")
    return top


def planted(text: str) -> tuple[str, float]:
    """A name of `PLANTED` and its strength.

    Raises:
        ArgumentTypeError: another name, or no number.
    """
    name, _, strength = text.partition("=")
    try:
        if name in PLANTED and float(strength) >= 0:
            return name, float(strength)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r}: write NAME=STRENGTH, with a name of {', '.join(PLANTED)}")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = parser().parse_args(argv)
    config = MarketConfig(
        n_names=options.names, start=options.start, end=options.end, seed=options.seed, **dict(options.plant)
    )
    if options.command == "oracle":
        return _oracle(config, options.scores)
    if options.command == "bench":
        return _bench(config)
    command: list[str] = []
    if options.command == "run":
        command = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
        if not command or shutil.which(command[0]) is None:
            what = f"command not found: {command[0]}" if command else "run needs a command"
            print(f"{what} (python -m atft_assets.sandbox run [options] -- COMMAND...)", file=sys.stderr)
            return 127 if command else 2
    server = serve(
        config, plan=options.plan, faults=options.fault, fault_seed=options.fault_seed, now=options.now,
        page_rows=options.page_rows, rate_limit=options.rate_limit, shuffle=options.shuffle,
        # from the environment: arguments are shown to every user of the machine
        api_key=clean_key(os.environ.get(SANDBOX_KEY_VARIABLE, ""), SANDBOX_KEY_VARIABLE) or None,
        port=options.port,
    )  # fmt: skip
    with server:
        return _run(server, command) if command else _serve(server)


def _serve(server: SandboxServer) -> int:
    ready = {"base_url": server.base_url, "api_key": server.api_key, "now": server.now.isoformat()}
    print(f"ready {json.dumps(ready)}", flush=True)
    try:
        server.wait()
    except KeyboardInterrupt:
        return 130
    return 0


def _run(server: SandboxServer, command: list[str]) -> int:
    config = server.market.config
    environment = {
        "JQUANTS_PLAN": str(server.keys[server.api_key]),
        "ATFT_START": config.start.isoformat(),
        "ATFT_END": config.end.isoformat(),
        **os.environ,
        "JQUANTS_BASE_URL": server.base_url,
        "JQUANTS_API_KEY": server.api_key,
    }
    try:
        return subprocess.run(command, env=environment, check=False).returncode
    except KeyboardInterrupt:
        return 130


HORIZONS = (1, 5, 10, 20)


def _oracle(config: MarketConfig, folder: Path | None) -> int:
    market = simulate(config)
    components = market.signals.components
    print(f"Rank correlation that the planted signals allow: {config.n_names} names, {len(market.days)} days")
    print("horizon   " + "".join(f"{name:>11}" for name in ("all", *components)))
    for horizon in HORIZONS:
        values = [oracle_rank_ic(market, horizon, component) for component in (None, *components)]
        print(f"{horizon:>3} days  " + "".join(f"{value:>11.3f}" for value in values))
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for component in (None, *components):
            oracle_scores(market, HORIZONS, component).write_parquet(folder / f"{component or 'oracle'}.parquet")
    return 0


def _bench(config: MarketConfig) -> int:
    begin = time.perf_counter()
    market = simulate(config)
    seconds, rows = time.perf_counter() - begin, int(market.alive.sum())
    print(f"simulated {config.n_names} names, {len(market.days)} days, {rows} bars in {seconds:.1f} s")
    days = market.days[:: max(1, len(market.days) // 100)]
    with serve(market) as server:
        begin = time.perf_counter()
        sizes = [len(server.answer("GET", f"/v2/equities/bars/daily?date={day}", server.api_key)[1]) for day in days]
        each = (time.perf_counter() - begin) / len(days)
    print(f"a page of {server.page_rows} bars: {1000 * each:.1f} ms, {sum(sizes) / len(sizes) / 1000:.0f} kB of JSON")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SettingsError as error:
        sys.exit(str(error))
