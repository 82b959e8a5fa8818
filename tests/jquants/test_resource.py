"""The Dagster resource: where the key comes from, where it does not show, and the embedded sandbox."""

import json
import traceback
from dataclasses import replace
from datetime import date, datetime

import dagster as dg
import pytest

from atft_assets.calendar import TOKYO
from atft_assets.jquants.endpoints import TOPIX
from atft_assets.jquants.resource import JQuantsResource, jquants_resource
from atft_assets.sandbox import MarketConfig, demo_config, serve, simulate
from atft_assets.settings import KEY_VARIABLE, Plan, Settings

from .scripted_server import Answer, scripted

KEY = "s3cr3t-0123456789"
BAR = {"Date": "2024-01-04", "O": 1.0, "H": 2.0, "L": 1.0, "C": 1.5}


def settings(**given) -> Settings:
    defaults = {"base_url": None, "plan": Plan.STANDARD, "data_root": "/nowhere", "end": None}
    return Settings(**({"start": date(2024, 1, 4)} | defaults | given))


@dg.asset
def first_bar(context: dg.AssetExecutionContext, jquants: JQuantsResource) -> dg.MaterializeResult:
    records = jquants.client.fetch(TOPIX, {"from": "2024-01-04", "to": "2024-01-31"})
    context.log.info(f"{jquants} {jquants!r} {jquants.client}")
    return dg.MaterializeResult(metadata={"records": len(records)})


def test_the_key_is_named_not_read_until_a_run_begins(monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with scripted(Answer({"data": [BAR]})) as server:
        resource = jquants_resource(settings(base_url=server.base_url, plan=Plan.PREMIUM))
        defs = dg.Definitions(assets=[first_bar], resources={"jquants": resource})
        dg.Definitions.validate_loadable(defs)
        with pytest.raises(dg.DagsterInvalidConfigError, match=KEY_VARIABLE):
            dg.materialize([first_bar], resources={"jquants": resource})
        assert server.requests == []
        monkeypatch.setenv(KEY_VARIABLE, KEY)
        assert dg.materialize([first_bar], resources={"jquants": resource}).success
        assert server.requests[0].headers["x-api-key"] == KEY


def test_the_key_shows_in_no_repr_schema_snapshot_or_event(monkeypatch, caplog, capfd):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with scripted(Answer({"data": [BAR]})) as server:
        resource = jquants_resource(settings(base_url=server.base_url, plan=Plan.PREMIUM))
        with dg.instance_for_test() as instance:
            result = dg.materialize([first_bar], resources={"jquants": resource}, instance=instance)
            events = str(result.all_events) + str(instance.all_logs(result.run_id)) + str(instance.get_runs())
    given = JQuantsResource(api_key=KEY, base_url="http://127.0.0.1:9")
    assert KEY not in events + caplog.text + "".join(capfd.readouterr())
    assert KEY not in f"{resource} {resource!r} {given} {given!r}"
    (field,) = [
        field for name, field in JQuantsResource.to_config_schema().as_field().config_type.fields.items()
        if name == "api_key"
    ]  # fmt: skip
    assert field.is_secret
    defs = dg.Definitions(assets=[first_bar], resources={"jquants": resource})
    snapshot = defs.get_repository_def().get_top_level_resources()["jquants"]
    assert KEY not in json.dumps(str(vars(snapshot)))


def test_the_client_exists_only_in_a_run():
    with pytest.raises(RuntimeError, match="only while a run"):
        _ = JQuantsResource(base_url="http://127.0.0.1:9").client


def test_the_present():
    assert JQuantsResource(base_url="x", now="2024-01-05T16:30").present() == datetime(2024, 1, 5, 16, 30, tzinfo=TOKYO)
    utc = JQuantsResource(base_url="x", now="2024-01-05T16:30+00:00").present()
    assert utc == datetime(2024, 1, 6, 1, 30, tzinfo=TOKYO) and utc.date() == date(2024, 1, 6)
    assert jquants_resource(settings(end=date(2024, 1, 31))).present().date() == date(2024, 1, 31)
    assert abs((JQuantsResource(base_url="x").present() - datetime.now(TOKYO)).total_seconds()) < 5


def test_the_sandbox_is_started_for_the_run_and_stopped_after_it(monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    seen = {}

    @dg.asset
    def bars(jquants: JQuantsResource) -> None:
        seen["client"], seen["url"] = jquants.client, jquants.client.base_url
        seen["records"] = jquants.client.fetch(TOPIX, {"from": "2024-01-04", "to": "2024-01-31"})

    resource = jquants_resource(settings(end=date(2024, 1, 31)))
    assert resource.embedded
    assert dg.materialize([bars], resources={"jquants": resource}).success
    assert len(seen["records"]) == 19
    with pytest.raises(Exception, match="connection failed"), seen["client"] as client:
        client.patience = type(client.patience)(attempts=1)
        client.fetch(TOPIX)


def origin_in_a_run(resource: JQuantsResource) -> str:
    """Servers on this machine are asked, and only a run has a client to ask with."""
    seen = []

    @dg.asset
    def asks(jquants: JQuantsResource) -> None:
        seen.append(jquants.origin)

    assert dg.materialize([asks], resources={"jquants": resource}).success
    return seen[0]


def test_the_origin_is_the_host_or_the_market_whatever_its_port():
    assert JQuantsResource(base_url="https://api.jquants.com/v2").origin == "api.jquants.com"
    with scripted(Answer({"data": []})) as server:
        assert origin_in_a_run(JQuantsResource(base_url=server.base_url)) == "a server on this machine"
        assert server.requests == []  # asked for headers alone

    embedded = jquants_resource(settings(end=date(2024, 1, 31))).origin
    assert embedded != jquants_resource(settings(start=date(2023, 1, 4), end=date(2024, 1, 31))).origin
    assert embedded == jquants_resource(settings(end=date(2024, 3, 29))).origin  # the same market, longer
    for n_names, same in ((200, True), (60, False)):
        market = simulate(MarketConfig(n_names=n_names, start=date(2024, 1, 4), end=date(2024, 1, 31)))
        with serve(market) as one, serve(market) as another:  # two ports
            found = {origin_in_a_run(JQuantsResource(base_url=server.base_url)) for server in (one, another)}
        assert len(found) == 1 and (embedded in found) is same
    whole = replace(demo_config(), seed=8)
    assert whole.fingerprint != demo_config().fingerprint


def test_a_key_is_cleaned_and_a_bad_one_refused_without_being_shown(monkeypatch, capfd):
    with scripted(Answer({"data": [BAR]})) as server:
        resource = jquants_resource(settings(base_url=server.base_url, plan=Plan.PREMIUM))
        monkeypatch.setenv(KEY_VARIABLE, f" {KEY}\r\n")
        assert dg.materialize([first_bar], resources={"jquants": resource}).success
        assert server.requests[0].headers["x-api-key"] == KEY
        for bad in (f"{KEY}\r\nX: y", f"{KEY} {KEY}", f"{KEY}é"):
            monkeypatch.setenv(KEY_VARIABLE, bad)
            with pytest.raises(dg.DagsterError) as caught, dg.instance_for_test() as instance:
                dg.materialize([first_bar], resources={"jquants": resource}, instance=instance)
            said = "".join(traceback.format_exception(caught.value)) + "".join(capfd.readouterr())
            assert "JQUANTS_API_KEY has a" in said and KEY not in said
        assert len(server.requests) == 1


def test_an_empty_key_is_told_loudly(monkeypatch, capfd):
    given = Settings.from_env({KEY_VARIABLE: " ", "ATFT_START": "2024-01-04", "ATFT_END": "2024-01-05"})
    assert given.sandbox and given.empty_key and not given.has_key
    assert not Settings.from_env({}).empty_key
    origin_in_a_run(jquants_resource(given))
    assert "JQUANTS_API_KEY is set but empty: this run takes the SIMULATED market" in "".join(capfd.readouterr())
