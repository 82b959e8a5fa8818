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
from atft_assets.jquants.client import JQuantsClient
from atft_assets.jquants.line import LOOPBACK
from atft_assets.jquants.patience import Patience
from atft_assets.sandbox.config import MarketConfig, demo_config
from atft_assets.settings import KEY_VARIABLE, Plan, Settings, clean_key

A_SERVER_HERE = "a server on this machine"  # one that does not say which market it serves
EMPTY_KEY = (
    f"{KEY_VARIABLE} is set but empty: this run takes the SIMULATED market, not J-Quants. Export the key, or unset the "
    "variable if the sandbox is meant"
)


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
        default=None,
        description="Instead of the plan's own rate (90 % of its limit, Premium 385); 0 for none",
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
    empty_key: bool = Field(default=False, description="The key's variable is exported with nothing in it")

    _client: JQuantsClient | None = PrivateAttr(default=None)

    @property
    def embedded(self) -> bool:
        """Whether a run uses a sandbox that it starts itself."""
        return not self.base_url

    @property
    def origin(self) -> str:
        """Where answers come from: the service's host, or the simulated market, on whatever port it is served.

        A server on this machine is asked which market it serves; what is no sandbox does not say.

        Raises:
            ConnectionFault: it cannot be reached.
            RuntimeError: it must be asked, and no run is executing.
        """
        if self.embedded:
            return simulated(self._market().fingerprint)
        host = urlsplit(self.base_url).hostname or ""
        if host not in LOOPBACK:
            return host
        market = self.client.market()
        return simulated(market) if market else A_SERVER_HERE

    def _market(self) -> MarketConfig:
        return demo_config(date.fromisoformat(self.sandbox_start), date.fromisoformat(self.sandbox_end))

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
            base_url, key, limit = self.base_url, clean_key(self.api_key), self.requests_per_minute
            if self.empty_key and context.log:
                context.log.warning(EMPTY_KEY)
            if self.embedded:
                from atft_assets.sandbox import serve  # generating a market takes numpy and seconds

                market = self._market()
                server = stack.enter_context(serve(market, plan=self.subscription))
                base_url, key = server.base_url, server.api_key
                limit = 0.0 if limit is None else limit
                if context.log:
                    context.log.info(
                        f"no {KEY_VARIABLE} and no JQUANTS_BASE_URL: simulated market {market.start} … {market.end} "
                        f"at {base_url}"
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
            plan=settings.plan.value,
            sandbox_start=settings.start.isoformat(),
            sandbox_end=end.isoformat(),
            empty_key=settings.empty_key,
        )
    return JQuantsResource(api_key=dg.EnvVar(KEY_VARIABLE), base_url=settings.base_url or "", plan=settings.plan.value)


def simulated(market: str) -> str:
    """The origin of tables that hold a simulated market."""
    return f"the simulated market {market}"


def demo_origin() -> str:
    """That of the market of `make demo`."""
    return simulated(demo_config().fingerprint)
