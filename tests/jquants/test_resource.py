"""The Dagster resource: where the key comes from, where it does not show, and the embedded sandbox."""

import json
from datetime import date, datetime

import dagster as dg
import pytest

from atft_assets.calendar import TOKYO
from atft_assets.jquants.endpoints import TOPIX
from atft_assets.jquants.resource import KEY_VARIABLE, JQuantsResource, jquants_resource
from atft_assets.settings import Plan, Settings

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


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.jquants.com/v2", "api.jquants.com"),
        ("http://127.0.0.1:8089/v2", "a server on this machine"),
        ("", "a server on this machine"),
    ],
)
def test_origin(url, origin):
    assert JQuantsResource(base_url=url).origin == origin
