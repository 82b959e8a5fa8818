"""Ray's Jobs API over HTTP: submit, look, list, stop. Nothing of Ray is imported.

Every call is bounded. What the head answers is told apart from that it does not answer: `NoAnswer` may pass, `Refused`
will not. The token stands in the header alone, never in a text, and is read anew for each call, so that it may be
replaced while a job runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from atft_assets.failures import Refusal

TERMINAL = ("SUCCEEDED", "FAILED", "STOPPED")
RUN_ID = "dagster/run-id"  # metadata of a job: the Dagster run that ordered it
CALL_SECONDS = 10.0


class Refused(Refusal):
    """The head answers, and does not do what is asked; the text says what to change."""


class NoAnswer(Exception):
    """The head does not answer, or not with a job."""


class Late(NoAnswer):
    """It took the call and did not answer in time, or was not ready: whether it did what was asked is not known."""


@dataclass(frozen=True)
class Job:
    """A job as the head tells it."""

    id: str
    status: str
    message: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        return self.status in TERMINAL


@dataclass(frozen=True)
class JobsApi:
    """The Jobs API of one cluster.

    Attributes:
        url: where the head's dashboard answers, such as http://10.77.0.1:8265.
        token_path: file with the token; empty where the cluster asks for none.
        seconds: that a call may take.
    """

    url: str
    token_path: str = ""
    seconds: float = CALL_SECONDS

    def submit(self, job_id: str, entrypoint: str, metadata: Mapping[str, str], variables: Mapping[str, str]) -> None:
        """Start a job under an id of ours.

        Args:
            variables: environment of the driver and of its tasks.

        Raises:
            Refused, NoAnswer, Late: it may not be started, or nobody answers.
        """
        document = {
            "submission_id": job_id,
            "entrypoint": entrypoint,
            "metadata": dict(metadata),
            "runtime_env": {"env_vars": dict(variables)},
        }
        self._call("POST", "/api/jobs/", json=document)

    def job(self, job_id: str) -> Job:
        """A job as it stands.

        Raises:
            Refused, NoAnswer: the head does not know it, or nobody answers.
        """
        return _job(self._call("GET", f"/api/jobs/{job_id}"))

    def jobs(self) -> list[Job]:
        """All jobs that were submitted.

        Raises:
            Refused, NoAnswer: the head refuses, or nobody answers.
        """
        answer = self._call("GET", "/api/jobs/")
        if not isinstance(answer, list):
            raise NoAnswer(f"{self.url} answers with something else than a list of jobs")
        return [_job(one) for one in answer if isinstance(one, Mapping) and one.get("submission_id")]

    def stop(self, job_id: str) -> None:
        """Tell a job to stop; it is not waited for.

        Raises:
            Refused, NoAnswer: the head refuses, or nobody answers.
        """
        self._call("POST", f"/api/jobs/{job_id}/stop")

    def _call(self, method: str, path: str, json: Any = None) -> Any:
        try:
            answer = requests.request(
                method, self.url.rstrip("/") + path, json=json, headers=self._headers(), timeout=self.seconds,
                allow_redirects=False,  # a token goes to no other host
            )  # fmt: skip
            if answer.status_code in (401, 403):
                raise Refused(
                    f"the Ray head at {self.url} refuses the token ({answer.status_code}): let ATFT_RAY_TOKEN_PATH "
                    "name the file with the token that the cluster was started with (RAY_AUTH_TOKEN_PATH in "
                    "deploy/ray/ray.env)"
                )
            if 400 <= answer.status_code < 500:
                said = " ".join(answer.text.split())[:300]
                raise Refused(f"the Ray head at {self.url} refuses {method} {path} ({answer.status_code}): {said}")
            if answer.status_code != 200:  # a head that has just come up has nobody yet to start a job
                raise Late(f"{self.url} answers {answer.status_code}")
            return answer.json()
        except requests.ReadTimeout:
            raise Late(f"{self.url} does not answer (ReadTimeout)") from None
        except requests.RequestException as error:  # its text may hold headers; its kind says enough
            raise NoAnswer(f"{self.url} does not answer ({type(error).__name__})") from None

    def _headers(self) -> dict[str, str]:
        if not self.token_path:
            return {}
        try:
            token = Path(self.token_path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text"
            raise Refused(f"the file of Ray's token, {self.token_path}, cannot be read: {why}") from None
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise Refused(f"the file of Ray's token, {self.token_path}, does not hold one token in one line")
        return {"Authorization": f"Bearer {token}"}


def _job(answer: Any) -> Job:
    if not isinstance(answer, Mapping) or not isinstance(answer.get("status"), str):
        raise NoAnswer("the Ray head answers with something else than a job")
    metadata = answer.get("metadata")
    return Job(
        id=str(answer.get("submission_id") or ""),
        status=answer["status"],
        message=str(answer.get("message") or ""),
        metadata={str(k): str(v) for k, v in metadata.items()} if isinstance(metadata, Mapping) else {},
    )
