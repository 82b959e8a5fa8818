"""A server that answers like Ray's Jobs API, as far as it is asked: submit, look, list, stop, with a token.

It starts nothing. What a driver would do, a test does: it writes the outcome and sets the job's status.
"""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any


@dataclass
class JobsServer:
    """What the head knows, and how it behaves.

    Attributes:
        jobs: by id, as the API tells them.
        stopped: ids that were told to stop, in order.
        quiet: while set, a call is taken and never answered.
        on_submit: what the driver does at once, before the order is answered.
        on_look: called when somebody asks for a job.
    """

    token: str = ""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    quiet: Event = field(default_factory=Event)
    over: Event = field(default_factory=Event)
    on_submit: Any = None
    on_look: Any = None
    url: str = ""

    def folder(self, job_id: str) -> Path:
        """The folder of a job, from its command."""
        return Path(shlex.split(self.jobs[job_id]["entrypoint"])[-1]).parent

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        parts = path.strip("/").split("/")[2:]  # after api/jobs
        if method == "POST" and not parts:
            asked = json.loads(body)
            job = {"type": "SUBMISSION", "status": "RUNNING", "message": "", **asked}
            self.jobs[asked["submission_id"]] = job
            if self.on_submit:
                self.on_submit(asked["submission_id"])
            return 200, {"job_id": asked["submission_id"], "submission_id": asked["submission_id"]}
        if not parts:
            return 200, list(self.jobs.values())
        if parts[0] not in self.jobs:
            return 404, f"Job {parts[0]} does not exist"
        if parts[1:] == ["stop"]:
            self.stopped.append(parts[0])
            self.jobs[parts[0]]["status"] = "STOPPED"
            return 200, {"stopped": True}
        if self.on_look:
            self.on_look()
        return 200, self.jobs[parts[0]]


@contextmanager
def jobs_server(token: str = "") -> Iterator[JobsServer]:
    """The server on a port of its own."""
    head = JobsServer(token)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if head.quiet.is_set():
                head.over.wait()
                return
            status, answer = 401, "Unauthorized: Missing authentication token"
            if not head.token or self.headers.get("Authorization") == f"Bearer {head.token}":
                status, answer = head.answer(self.command, self.path, body)
            data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with suppress(BrokenPipeError, ConnectionResetError):  # whoever asked was interrupted
                self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    head.url = f"http://127.0.0.1:{server.server_address[1]}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield head
    finally:
        head.over.set()
        server.shutdown()
        server.server_close()
