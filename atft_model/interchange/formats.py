"""Renders docs/formats.md from the definitions: `python -m atft_model.interchange.formats > docs/formats.md`."""

from dataclasses import MISSING, Field, fields
from typing import Any, get_type_hints

from atft_model.interchange import __doc__ as package
from atft_model.interchange import fold, panel, phases, request, run, telemetry
from atft_model.interchange.config import PRESETS, LossWeights, ModelConfig, PhaseChanges, Switches, TrainConfig
from atft_model.interchange.exits import MEANING, Exit
from atft_model.interchange.horizons import HORIZON_WEIGHTS, MIN_NAMES
from atft_model.interchange.records import choices_of, doc_of

INTRODUCTION = """# Formats

Rendered from the definitions in code (`python -m atft_model.interchange.formats > docs/formats.md`); a test keeps the
two equal. What passes over the wall between `atft_assets` and `atft_model` is these files, and nothing else.
"""


def render() -> str:
    """docs/formats.md."""
    assert package
    legend = package[package.index("    T ") :].rstrip()
    horizons = ", ".join(f"{h} ({w:g})" for h, w in HORIZON_WEIGHTS.items())
    parts = [
        INTRODUCTION,
        f"## Letters\n\n```text\n{legend}\n```\n",
        f"## Horizons\n\nTrading days, with their weight in the headline before normalisation: {horizons}. A day with "
        f"fewer than {MIN_NAMES} names has no figure; a day without a figure of every horizon has no headline.\n",
        _section("Panel", panel.__doc__, [("panel.json", panel.PanelDescription), ("features", panel.PanelFeature)]),
        "\n".join(
            [
                "| tensor | dtype | axes | what |",
                "|---|---|---|---|",
                *(
                    f"| `{s.name}`{' (optional)' if s.optional else ''} | {s.dtype} | {s.axes} | {s.doc} |"
                    for s in panel.SPECS
                ),
                "",
            ]
        ),
        _section("Fold", fold.__doc__, [("fold.json", fold.Fold)]),
        _section(
            "Request",
            request.__doc__,
            [
                ("train", request.TrainRequest),
                ("predict", request.PredictRequest),
                ("also: Scoring", request.Scoring),
                ("network: ModelConfig", ModelConfig),
                ("training: TrainConfig", TrainConfig),
                ("curriculum: PhaseChanges", PhaseChanges),
                ("losses: LossWeights", LossWeights),
                ("switches", Switches),
            ],
        ),
        _presets(),
        _section("Run", run.__doc__, [("run.json", run.RunRecord), ("parent", run.Parent)]),
        _section(
            "Telemetry",
            telemetry.__doc__,
            [
                ("meter", telemetry.Meter),
                ("reading", telemetry.Reading),
                ("telemetry: Summary", telemetry.Summary),
            ],
        ),
        "## Phases\n\n| phase | path | name | what is on |\n|---|---|---|---|\n"
        + "\n".join(f"| {p.index} | `{p.key}` | {p.name} | {p.what_is_on} |" for p in phases.PHASES)
        + "\n",
        "## Exit codes\n\n| code | meaning |\n|---|---|\n"
        + "\n".join(f"| {code.value} | {MEANING[code]} |" for code in Exit)
        + "\n",
    ]
    return "\n".join(parts)


def _section(title: str, doc: str | None, records: list[tuple[str, type]]) -> str:
    lines = [f"## {title}", "", (doc or "").strip(), ""]
    for name, record in records:
        hints = get_type_hints(record)
        lines += [f"### {name}", "", "| field | type | default | what |", "|---|---|---|---|"]
        for field in fields(record):
            what = doc_of(field).replace("|", "\\|")
            lines.append(f"| `{field.name}` | {_type(hints[field.name])} | {_default(field)} | {what} |")
        lines.append("")
    return "\n".join(lines)


def _type(hint: Any) -> str:
    if choices := choices_of(hint):
        return " ".join(f"`{value}`" for value in choices)
    text = (
        getattr(hint, "__name__", str(hint)) if isinstance(hint, type) and not hasattr(hint, "__args__") else str(hint)
    )
    for prefix in ("typing.", "collections.abc.", "datetime.", "pathlib._local.", "pathlib."):
        text = text.replace(prefix, "")
    text = text.replace("atft_model.interchange.fold.", "").replace("atft_model.interchange.config.", "")
    text = text.replace("atft_model.interchange.run.", "").replace("atft_model.interchange.panel.", "")
    return text.replace("|", "or")


def _default(field: Field[Any]) -> str:
    if field.default is not MISSING:
        return "null" if field.default is None else f"`{field.default}`"
    return "empty" if field.default_factory is not MISSING else ""


def _presets() -> str:
    rows = []
    for part, record in (("model", ModelConfig), ("train", TrainConfig)):
        for field in fields(record):
            values = [getattr(getattr(preset, part), field.name) for preset in PRESETS.values()]
            if len(set(values)) > 1:
                rows.append(f"| `{field.name}` | " + " | ".join(str(value) for value in values) + " |")
    head = "| | " + " | ".join(PRESETS) + " |\n|---" + "|---" * len(PRESETS) + "|"
    return (
        "### Presets\n\nWhat differs between them; everything else is as above.\n\n" + "\n".join([head, *rows]) + "\n"
    )


if __name__ == "__main__":
    print(render(), end="")
