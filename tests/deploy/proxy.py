"""Debian's nginx with the configuration of deploy/nginx, as a process without rights, and what stands behind it."""

import base64
import http.client
import http.server
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import yaml

from tests.patience import PATIENCE, until
from tests.ports import free_port

REPOSITORY = Path(__file__).parents[2]
NGINX = REPOSITORY / "deploy" / "nginx"
NAME = "localhost"
NOBODY = 65534
LOGINS = {"operators": ("ope", "rator-0"), "viewers": ("vie", "wer-0")}  # pragma: allowlist secret

MAIN = """worker_processes 1;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    include {folder}/atft.conf;
}}
"""


@dataclass
class Answer:
    """What the proxy answered."""

    status: int
    headers: Mapping[str, str]
    body: str


@dataclass
class Nginx:
    """A running nginx.

    Attributes:
        port: of TLS.
        plain: of plain HTTP.
    """

    folder: Path
    port: int
    plain: int

    @property
    def origin(self) -> str:
        """As a browser names it."""
        return f"https://{NAME}:{self.port}"

    def context(self) -> ssl.SSLContext:
        """Trusts its certificate alone."""
        return ssl.create_default_context(cafile=str(self.folder / "tls.crt"))

    def ask(
        self,
        method: str,
        path: str,
        login: str = "operators",
        body: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request; `login` is the file of logins to take one from, or empty."""
        connection = http.client.HTTPSConnection(NAME, self.port, context=self.context(), timeout=PATIENCE)
        try:
            connection.request(
                method, path, body, {**(authorization(*LOGINS[login]) if login else {}), **(headers or {})}
            )
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read().decode())
        finally:
            connection.close()


def authorization(user: str, password: str) -> dict[str, str]:
    """The header of HTTP's basic authentication (RFC 7617)."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@contextmanager
def nginx(operator: int, view: int) -> Iterator[Nginx]:
    """nginx in front of two ports, with a certificate and logins of its own."""
    with tempfile.TemporaryDirectory(prefix="atft-nginx-", dir="/tmp") as name:  # where a process without rights may go
        one = Nginx(Path(name), free_port(), free_port())
        render(one, operator, view)
        certify(one.folder)
        for file, (user, password) in LOGINS.items():
            command = ["htpasswd", "-cbB", "-C", "4", str(one.folder / file), user, password]
            subprocess.run(command, check=True, capture_output=True)
        without_rights: list[str] = []
        if os.getuid() == 0:
            without_rights = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
            for path in [one.folder, *one.folder.rglob("*")]:
                os.chown(path, NOBODY, NOBODY)
        log = one.folder / "log"
        with log.open("wb") as said:
            process = subprocess.Popen(
                [*without_rights, program(), "-p", name, "-c", "nginx.conf", "-g", "daemon off;"],
                stdout=said, stderr=said, cwd=name,
            )  # fmt: skip
        try:
            until(lambda: (one.folder / "nginx.pid").exists(), "nginx", process=process, log=log)
            until(lambda: reached(one), "nginx", process=process, log=log)
            yield one
        finally:
            process.terminate()
            process.wait(PATIENCE)


def reached(one: Nginx) -> bool:
    try:
        return one.ask("GET", "/healthz", "").status > 0
    except OSError:
        return False


def program() -> str:
    """nginx; Debian keeps it where only root looks."""
    return shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or ""


def render(one: Nginx, operator: int, view: int) -> None:
    """The shipped files with ports, name and places of a test; each replacement must find what it replaces."""
    text = (NGINX / "atft.conf").read_text()
    for old, new in {
        "listen 443": f"listen {one.port}",
        "listen 80": f"listen {one.plain}",
        "127.0.0.1:3000": f"127.0.0.1:{operator}",
        "127.0.0.1:3001": f"127.0.0.1:{view}",
        "atft.example.org": NAME,
        "/etc/nginx/atft": str(one.folder),
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    (one.folder / "atft.conf").write_text(text)
    (one.folder / "proxy_params.conf").write_text((NGINX / "proxy_params.conf").read_text())
    (one.folder / "nginx.conf").write_text(MAIN.format(folder=one.folder))


def certify(folder: Path) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"),
            *("-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")),
        ],
        check=True,
        capture_output=True,
    )


@dataclass
class Echo:
    """A server that answers everything and remembers the headers that reached it."""

    port: int
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)


@contextmanager
def echo() -> Iterator[Echo]:
    """A running Echo."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            one.seen.append((self.path, dict(self.headers)))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        one = Echo(server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield one
        server.shutdown()


@contextmanager
def webservers(folder: Path) -> Iterator[tuple[int, int]]:
    """The guarded webserver twice, on one instance of SQLite: for operators, and read-only under /view; their ports."""
    home = folder / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    location = {"python_file": {"relative_path": str(Path(__file__).with_name("tiny.py")), "location_name": "atft"}}
    (folder / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [location]}))
    environment = {**os.environ, "DAGSTER_HOME": str(home)}
    environment.pop("DAGSTER_MODULE_NAME", None)
    with dg.DagsterInstance.from_config(str(home)):  # makes the tables, before two webservers would
        pass
    started, ports = [], []
    try:
        for name, more in {"operator": [], "view": ["--read-only", "--path-prefix", "/view"]}.items():
            port, log = free_port(), folder / f"{name}.log"
            command = [
                sys.executable,
                "-m",
                "atft_assets.tools.webserver",
                "--workspace",
                str(folder / "workspace.yaml"),
            ]
            with log.open("wb") as said:
                process = subprocess.Popen(
                    [*command, "--host", "127.0.0.1", "--port", str(port), *more, "--allow-host", NAME],
                    env=environment, stdout=said, stderr=said,
                )  # fmt: skip
            started.append((process, log, port, "/view" if more else ""))
            ports.append(port)
        for process, log, port, prefix in started:
            until(lambda port=port, prefix=prefix: answers(port, prefix), "it", process=process, log=log)  # type: ignore[misc]
        yield ports[0], ports[1]
    finally:
        for process, *_ in started:
            process.terminate()
        for process, *_ in started:
            process.wait(PATIENCE)


def answers(port: int, prefix: str) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        connection.request("GET", f"{prefix}/server_info")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
