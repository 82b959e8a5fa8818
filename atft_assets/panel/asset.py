"""The asset `training_panel`: planned, built, judged, and only then published."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import dagster as dg

from atft_assets.contracts import CONTRACT_CHECK, ContractViolation, Event, contract_check, judged
from atft_assets.features.old_roots import refuse_old_root
from atft_assets.groups import TRAINING
from atft_assets.panel.build import build_panel
from atft_assets.panel.config import PanelConfig, with_defaults
from atft_assets.panel.contract import audit_panel
from atft_assets.panel.sources import CODE_VERSION, SOURCES, FeatureRow, PanelPlan, plan_panel, read_frames
from atft_assets.reports.shown import rounded
from atft_assets.settings import Plan, Settings
from atft_assets.store import Store
from atft_model.interchange.errors import PanelError
from atft_model.interchange.panel import (
    Panel,
    checked_panel,
    open_panel,
    point_latest,
    publish_panel,
    staged_panel,
    write_panel,
)

NAME = "training_panel"

FeaturesOf = Callable[[str], tuple[Sequence[FeatureRow], str]]


@dataclass(frozen=True)
class PublishedPanel:
    """A published panel and whether it was there already."""

    panel: Panel
    reused: bool


def catalogued(feature_set: str, plan: Plan = Plan.PREMIUM) -> tuple[Sequence[FeatureRow], str]:
    """The features of a named set on a plan, and the hash of what the catalogue says of them."""
    from atft_assets.features import catalogue
    from atft_assets.features.registry import served

    features = catalogue.feature_set(feature_set, served(plan))
    return features, catalogue.catalogue_hash(features)


def catalogued_on(plan: Plan) -> FeaturesOf:
    """What `catalogued` says on a plan."""
    return partial(catalogued, plan=plan)


def build_audit_publish(store: Store, plan: PanelPlan) -> PublishedPanel:
    """Build the panel of a plan, judge it, and publish it if it passed; `latest` is not moved.

    A panel that stands is used again.

    Raises:
        ContractViolation: it is not fit to be read.
        MissingTable, MissingColumns, PanelRefused: it cannot be built.
    """
    panels = store.local("panel")
    try:
        return PublishedPanel(checked_panel(panels / plan.panel_id), reused=True)
    except PanelError:
        pass  # not there, or damaged: build it
    built = build_panel(plan, read_frames(store, plan))
    verdict = audit_panel(built.tensors, built.description, built.sums, plan.config.min_names)
    if not verdict.passed:
        raise ContractViolation(verdict)
    description = replace(built.description, min_history=plan.config.min_history, most_liquid=plan.config.most_liquid)
    with staged_panel(panels) as folder:
        write_panel(folder, built.tensors, description)
        return PublishedPanel(open_panel(publish_panel(folder, panels, plan.panel_id)), reused=False)


def panel_asset(settings: Settings, features_of: FeaturesOf | None = None) -> dg.AssetsDefinition:
    """The asset.

    Args:
        features_of: the features of a named set, and their catalogue hash; default: those of the settings' plan.
    """
    features_of = features_of or catalogued_on(settings.plan)

    @dg.asset(
        name=NAME,
        group_name=TRAINING,
        deps=[name for _, name in SOURCES],
        check_specs=[contract_check(NAME)],
        code_version=CODE_VERSION,
        kinds={"numpy", "safetensors"},
        tags={"atft/kind": "panel"},
        description="All that a training reads, in one dense file. Features, labels and graph on one calendar and one "
        "list of names.",
    )
    def training_panel(context: dg.AssetExecutionContext, config: PanelConfig, store: Store) -> Iterator[Event]:
        config = with_defaults(config, settings)
        features, catalogue_hash = features_of(str(config.feature_set))

        def publish() -> PublishedPanel:
            refuse_old_root(store)
            plan = plan_panel(
                store, features, feature_set=str(config.feature_set), catalogue_hash=catalogue_hash, config=config
            )
            published = build_audit_publish(store, plan)
            point_latest(store.local("panel"), plan.panel_id)
            store.push("panel")
            return published

        published = yield from judged(NAME, publish, untouched="the pointer `latest` is as it was")
        yield from _recorded(context, published)

    return training_panel


def _recorded(context: dg.AssetExecutionContext, published: PublishedPanel) -> Iterator[Event]:
    panel, description = published.panel, published.panel.description
    context.log.info(
        f"panel {panel.panel_id}: {len(panel.dates)} days × {len(panel.codes)} names × {len(panel.features)} "
        f"features{', as it stood' if published.reused else ''}"
    )
    yield dg.MaterializeResult(
        asset_key=NAME,
        data_version=dg.DataVersion(panel.panel_id),
        metadata={
            "panel_id": panel.panel_id,
            "path": dg.MetadataValue.path(str(panel.folder)),
            "days": len(panel.dates),
            "first_date": str(panel.dates[0]),
            "through_date": str(panel.dates[-1]),
            "names": len(panel.codes),
            "features": len(panel.features),
            "feature_set": description.feature_set,
            "target": description.target,
            "turnover_floor": description.turnover_floor,
            "valid_share": rounded(float(panel.valid.mean())),
            "names_a_day": rounded(float(panel.valid.sum(axis=1).mean())),
            "graph_slots": int(panel.tensors["neighbours"].shape[2]),
            "megabytes": rounded(description.bytes / 1e6),
            "catalogue_hash": description.catalogue_hash,
        },
    )
    yield dg.AssetCheckResult(
        passed=True,
        asset_key=NAME,
        check_name=CONTRACT_CHECK,
        metadata={"valid_share": rounded(float(panel.valid.mean())), "features": len(panel.features)},
    )
