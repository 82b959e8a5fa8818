"""Dagster's UI with all that it needs: `make ui`, or `python -m atft_assets.tools.ui`.

Starts Dagster's code server, its webserver (behind the guard) and its daemon, and stays with them: what dies is told as
an alert and started again. `dagster dev` does neither; without its code server it stays up and starts nothing more.
"""

import argparse
import os
import signal
import socket
import sys
import tempfile
from functools import partial
from pathlib import Path

import dagster as dg
import yaml
from filelock import FileLock, Timeout

from atft_assets.operations.alerts import LOG_NAME, Alert, Alerts
from atft_assets.settings import Settings, SettingsError
from atft_assets.tools.home import claim
from atft_assets.tools.services import FOLDER, CodeServer, Service, Supervisor
from atft_model.interchange.disk import DiskError

DEFINITIONS = "atft_assets.definitions"
LOCATION = "atft"
LOCK = "ui.lock"


def services(folder: Path, host: str, port: int, allowed: list[str]) -> list[Service]:
    """Dagster's own commands, in the order in which they start.

    Args:
        folder: empty; takes the code server's socket and the workspace file that names it.
    """
    python = [sys.executable, "-m"]
    code = folder / "code.sock"
    workspace = folder / "workspace.yaml"
    server = {
        "socket": str(code),
        "location_name": LOCATION,
        "additional_metadata": {"module_name": DEFINITIONS},
    }
    workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
    names = [word for name in allowed for word in ("--allow-host", name)]
    return [
        CodeServer(
            "code server",
            [
                *(*python, "dagster", "code-server", "start", "--socket", str(code), "--module-name", DEFINITIONS),
                *("--location-name", LOCATION, "--log-level", "warning"),
                *("--use-python-environment-entry-point", "--inject-env-vars-from-instance"),
            ],
            code,
        ),
        Service(
            "webserver",
            [
                *(*python, "atft_assets.tools.webserver", "--workspace", str(workspace)),
                *("--host", host, "--port", str(port), *names),
            ],
            partial(accepts, host, port),
        ),
        Service("daemon", [*python, "dagster._daemon", "run", "--workspace", str(workspace)]),
    ]


def tell(alert: Alert, instance: dg.DagsterInstance, settings: Settings, ui_url: str) -> None:
    """Send an alert as the code location would, which may be what died.

    Each alert has a resource of its own, for one that could not deliver tries that target no more.
    """
    log = "" if "://" in settings.data_root else str(Path(settings.data_root) / LOG_NAME)
    alerts = Alerts(urls=" ".join(settings.alert_urls), log_file=log, ui_url=ui_url)
    with dg.build_init_resource_context(instance=instance) as context:
        alerts.setup_for_execution(context)
    alerts.send(alert)


def taken(host: str, port: int) -> str:
    """Why nobody can listen there, or nothing."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def accepts(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def welcome(host: str, url: str) -> str:
    """What a person must know before leaving the UI open."""
    who = "anyone on this machine" if host in ("127.0.0.1", "localhost", "::1") else f"anyone who reaches {host}"
    return f"{url}  (Ctrl-C ends it). There is no login: {who} may launch and stop runs there."


def interrupts() -> None:
    """A closed terminal and a polite kill end the UI as Ctrl-C does; so does Ctrl-C where a script had it ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


def main(given: list[str] | None = None) -> int:
    """Serve until Ctrl-C; 2 when it cannot begin."""
    parser = argparse.ArgumentParser(prog="python -m atft_assets.tools.ui", description=__doc__.split("\n\n")[0])
    parser.add_argument("--port", type=int, default=3000, help="port to listen on (default: %(default)s)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; another than loopback opens it to all"
    )
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a name that the UI may be addressed by"
    )
    arguments = parser.parse_args(given)
    host, port = arguments.host, arguments.port
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    try:
        settings = Settings.from_env()
        claim(settings.data_root)
        instance = dg.DagsterInstance.get()
    except (SettingsError, DiskError) as error:
        return sorry(str(error))
    except dg.DagsterError as error:
        return sorry(str(error).strip().splitlines()[0] + "; activate the environment: . ./env.sh")
    if why := taken(host, port):
        return sorry(f"port {port} of {host} cannot be taken ({why}); take another: make ui PORT={port + 1}")
    os.environ.pop("DAGSTER_MODULE_NAME", None)  # Dagster's services refuse it beside a workspace file
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "yes"
    interrupts()
    try:
        with (
            instance,
            FileLock(Path(instance.root_directory, LOCK), timeout=0),
            tempfile.TemporaryDirectory(prefix=f"{FOLDER}{os.getpid()}-") as folder,
        ):
            started = services(Path(folder), host, port, arguments.allow_host)
            told = partial(tell, instance=instance, settings=settings, ui_url=url)
            Supervisor(started, told, welcome(host, url)).run()
    except Timeout:
        return sorry(f"a UI is running for {instance.root_directory} already; one daemon a home is all that may be")
    return 0


def sorry(sentence: str) -> int:
    """Say why it cannot begin."""
    print(f"ui: {sentence}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
