"""J-Quants as a Dagster resource: the key from the environment, one client and one rate limit per run.

With neither a key nor a base URL (`Settings.sandbox`) the resource starts the embedded sandbox when a run begins and
stops it when the run ends.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, datetime, time
from urllib.parse import urlsplit

import dagster as dg
from pydantic import Field, PrivateAttr

from atft_assets.calendar import TOKYO
from atft_assets.jquants.client import LOOPBACK, JQuantsClient, Patience
from atft_assets.settings import Plan, Settings

KEY_VARIABLE = "JQUANTS_API_KEY"


class JQuantsResource(dg.ConfigurableResource):
    """The service, or the sandbox in its place. Resource key: `jquants`."""

    api_key: str = Field(
        default="",
        repr=False,
        description="Key of the J-Quants dashboard; always given through the environment",
        json_schema_extra={"dagster__is_secret": True},
    )
    base_url: str = Field(default="", description="Up to and including the version; empty: start the embedded sandbox")
    plan: str = Field(default=Plan.LIGHT.value, description="free, light, standard or premium")
    requests_per_minute: float | None = Field(
        default=None, description="Instead of 90 % of the plan's limit; 0 for none (a server of one's own)"
    )
    threads: int = Field(default=4, ge=1, description="Requests in flight")
    attempts: int = Field(default=10, ge=1, description="Tries of a request against transient faults")
    first_wait: float = Field(default=0.5, ge=0, description="Seconds before the second try; doubles, with jitter")
    first_freeze: float = Field(
        default=60.0, ge=0, description="Seconds without any request after a 429; drawn between this and twice as much"
    )
    next_freeze: float = Field(default=310.0, ge=0, description="Seconds after each further 429 in a row")
    read_timeout: float = Field(default=60.0, gt=0, description="Seconds without a byte before a request is given up")
    now: str = Field(
        default="", description="ISO instant taken as the present, for a server that replays the past; empty: the clock"
    )
    sandbox_start: str = Field(default="", description="First date of the embedded sandbox's market")
    sandbox_end: str = Field(default="", description="Its last date, and its present")

    _client: JQuantsClient | None = PrivateAttr(default=None)

    @property
    def embedded(self) -> bool:
        """Whether a run uses a sandbox that it starts itself."""
        return not self.base_url

    @property
    def origin(self) -> str:
        """Where answers come from: the service's host, or this machine (a sandbox, a replay; their ports change)."""
        host = urlsplit(self.base_url).hostname or ""
        return "a server on this machine" if self.embedded or host in LOOPBACK else host

    @property
    def subscription(self) -> Plan:
        return Plan(self.plan)

    @property
    def client(self) -> JQuantsClient:
        """The run's client.

        Raises:
            RuntimeError: outside a run.
        """
        if self._client is None:
            raise RuntimeError("the J-Quants client exists only while a run is executing")
        return self._client

    def present(self) -> datetime:
        """The present instant in Tokyo: the clock, `now`, or the evening of the sandbox's last day."""
        if self.now:
            instant = datetime.fromisoformat(self.now)
            return instant.astimezone(TOKYO) if instant.tzinfo else instant.replace(tzinfo=TOKYO)
        if self.embedded and self.sandbox_end:
            return datetime.combine(date.fromisoformat(self.sandbox_end), time(23, 59), TOKYO)
        return datetime.now(TOKYO)

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["JQuantsResource"]:
        """Open the client, and the sandbox if it is to be embedded; close both when the run ends."""
        with ExitStack() as stack:
            base_url, key, limit = self.base_url, self.api_key, self.requests_per_minute
            if self.embedded:
                from atft_assets.sandbox import demo_config, serve  # generating a market takes numpy and seconds

                start, end = date.fromisoformat(self.sandbox_start), date.fromisoformat(self.sandbox_end)
                server = stack.enter_context(serve(demo_config(start, end), plan=self.subscription))
                base_url, key = server.base_url, server.api_key
                limit = 0.0 if limit is None else limit
                if context.log:
                    context.log.info(
                        f"no {KEY_VARIABLE} and no JQUANTS_BASE_URL: simulated market {start} … {end} at {base_url}"
                    )
            patience = Patience(
                attempts=self.attempts,
                first_wait=self.first_wait,
                first_freeze=(self.first_freeze, 2 * self.first_freeze),
                next_freeze=self.next_freeze,
                read=self.read_timeout,
            )
            client = JQuantsClient(
                base_url,
                key,
                self.subscription,
                requests_per_minute=limit,
                patience=patience,
                threads=self.threads,
            )
            self._client = stack.enter_context(client)
            try:
                yield self
            finally:
                self._client = None


def jquants_resource(settings: Settings) -> JQuantsResource:
    """The resource that the settings ask for. The key is named, not read: it enters only when a run begins."""
    if settings.sandbox:
        end = settings.end or settings.start
        return JQuantsResource(
            plan=settings.plan.value, sandbox_start=settings.start.isoformat(), sandbox_end=end.isoformat()
        )
    return JQuantsResource(api_key=dg.EnvVar(KEY_VARIABLE), base_url=settings.base_url or "", plan=settings.plan.value)
