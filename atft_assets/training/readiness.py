"""Is a training ready to start? Findings about machine, panel, graph and labels; pure, over what was read before.

`preflight` refuses what could not be trusted or traced; here stands what would fail, be slow, or be learned from wrong
numbers. Each finding is a sentence with what to do.
"""

import math
from collections.abc import Iterator

import numpy as np

from atft_assets.findings import Finding, fail, ok, warn
from atft_assets.training.machine import Machine
from atft_assets.training.protocol import Share
from atft_model.interchange.config import Preset, Switches
from atft_model.interchange.errors import PanelError
from atft_model.interchange.fold import Fold
from atft_model.interchange.footprint import Footprint, axes_of, footprint
from atft_model.interchange.panel import Panel, checked_panel

TIGHT = 0.8  # of what is free: an estimate above it may be too much after all
GRAPH_LEAST, GRAPH_GOOD = 0.1, 0.8  # shares of the eligible (day, name) pairs that have a neighbour
LABELS_LEAST = 0.5  # share of the eligible names of the last training days whose labels are known
GB = 1e9
SMALLER = "choose a smaller preset, or fewer names, chunk_days or chunks_per_step in the config `training`"
FEWER = "let fewer trainings run at a time (ATFT_TRAININGS)"


def estimate(panel: Panel, fold: Fold, config: Preset, on: Switches, device: str, mode: str, members: int) -> Footprint:
    """The memory and disk of a training on a panel.

    Args:
        device: cpu or cuda.
    """
    eligible = int(panel.valid.sum(1).max())
    axes = axes_of(panel.description, panel.tensors.shapes, eligible)
    days = len(fold.places(panel.dates, "validation"))
    return footprint(
        axes, config, on, device="cuda" if device == "cuda" else "cpu", mode=mode, members=members, validation_days=days
    )


def device_of(asked: str, machine: Machine) -> str:
    """The device that a training will take: cpu or cuda."""
    return "cuda" if asked != "cpu" and machine.gpus else "cpu"


def device_finding(asked: str, machine: Machine, need: Footprint, share: Share) -> Iterator[Finding]:
    """The GPU, and its free memory against the estimate for all that share it."""
    if asked == "cuda" and not machine.gpus:
        why = machine.why_unread or "the driver shows none"
        yield fail("device", f"the config asks for cuda, and there is no GPU ({why})", "set device: auto or cpu")
        return
    if not machine.gpus:
        if machine.why_unread and asked != "cpu":
            found = f"a GPU may be there and cannot be read ({machine.why_unread})"
            yield warn("device", found, "see that nvidia-smi works")
        else:
            yield ok("device", "the processor" + ("" if asked == "cpu" else "; the driver shows no GPU"))
        return
    if asked == "cpu":
        yield ok("device", "the processor, as the config says")
        return
    free = [gpu.memory_free for gpu in machine.gpus if gpu.memory_free is not None]
    names = ", ".join(gpu.name for gpu in machine.gpus)
    if not free:
        yield warn("device", f"{names}: its free memory is not told", "install the extra gpu; watch the first epoch")
        return
    # CUDA's order need not be the driver's: the fullest card is the one that must do
    holder = f"end what holds the GPU (nvidia-smi names it), or {SMALLER}"
    on_each = math.ceil(share.at_a_time / len(machine.gpus))  # they take the cards in turn
    yield room("device", f"memory of {names}", min(free), need.device, holder, on_each)


def machine_findings(
    asked: str, machine: Machine, need: Footprint, share: Share, trainings: int = 1
) -> Iterator[Finding]:
    """Device, memory, disk, quota and threads of this machine.

    Args:
        asked: device of the config: auto, cpu or cuda.
        need: of one training.
        share: how many run at a time, and with how many threads each.
        trainings: of the step, all of which leave a run directory.
    """
    yield from device_finding(asked, machine, need, share)
    others = f"end other programs, or {SMALLER}"
    yield room("memory", "main memory", machine.ram_free, need.host, others, share.at_a_time)
    retention = "see what may go: python -m atft_assets.tools.retention"
    yield room("disk", "the volume of the runs", machine.disk_free, trainings * need.disk, retention)
    if machine.quota_free is not None:
        more = f"{retention}; or ask for more"
        yield room("quota", "your quota there", machine.quota_free, trainings * need.disk, more)
    threads = share.at_a_time * share.threads
    if threads > machine.cores:
        yield warn(
            "threads",
            f"the trainer would compute with {threads} threads on {machine.cores} cores, which take turns",
            f"set the launcher's threads to {max(1, machine.cores // share.at_a_time)} or 0"
            + (f", or {FEWER}" if share.at_a_time > 1 else ""),
        )
    elif machine.load > machine.cores:
        yield warn(
            "threads",
            f"{machine.load:.1f} processes want the {machine.cores} cores already; {threads} threads more will be slow",
            "wait, or end what runs beside it",
        )
    else:
        yield ok("threads", f"{threads} of {machine.cores} cores; load {machine.load:.1f}")


def room(subject: str, what: str, free: float, each: float, todo: str, at_a_time: int = 1) -> Finding:
    """What is free against what is estimated to be needed.

    Args:
        each: bytes of one training.
        at_a_time: trainings that want it at the same time.
    """
    need = at_a_time * each
    text = f"{what}: {free / GB:.1f} GB free, about {need / GB:.2f} GB needed"
    if at_a_time > 1:
        text, todo = f"{text} by {at_a_time} trainings at a time", f"{FEWER}, {todo}"
    if need > free:
        return fail(subject, f"{text}: too little", todo)
    if need > TIGHT * free:
        return warn(subject, f"{text}: it may just not do", todo)
    return ok(subject, text)


def panel_findings(panel: Panel) -> Iterator[Finding]:
    """Whether every tensor is the one that was written, and whose features it holds."""
    description = panel.description
    try:
        checked_panel(panel.folder)
    except PanelError as error:
        yield fail("panel", str(error), "run: python -m atft_assets.tools.mend, then training_panel")
        return
    yield ok(
        "panel",
        f"{panel.panel_id}: {len(description.hashes)} tensors are as they were written; {len(description.features)} "
        f"features of the set {description.feature_set or '-'}, hash {description.catalogue_hash}, as the code has it",
    )


def graph_findings(panel: Panel, fold: Fold, on: Switches) -> Iterator[Finding]:
    """The share of eligible (day, name) pairs of training and validation that have a neighbour beside themselves."""
    if not on.gat:
        yield ok("graph", "this phase reads none")
        return
    linked = np.asarray(panel.tensors["neighbour_mask"][:, :, 1:].any(axis=-1))  # [P,N]
    period = panel.tensors["graph_period"]
    shares = {}
    for block in ("train", "validation"):
        days = fold.places(panel.dates, block)
        rows = slice(days.start, days.stop)
        eligible = panel.valid[rows]
        shares[block] = float(linked[period[rows]][eligible].mean()) if eligible.any() else 0.0
    text = ", ".join(f"{share:.0%} of the {block} block" for block, share in shares.items())
    text = f"names with a neighbour: {text}"
    todo = "build the graph of the months that lack it: dagster asset materialize --select correlation_graph"
    if min(shares.values()) < GRAPH_LEAST:
        yield fail("graph", f"{text}: next to none, so graph attention would learn nothing", todo)
    elif min(shares.values()) < GRAPH_GOOD:
        yield warn("graph", f"{text}: many have none", todo)
    else:
        yield ok("graph", text)


def label_findings(panel: Panel, fold: Fold) -> Iterator[Finding]:
    """No label of the training days ends after the data or in the validation block, and the last ones are there."""
    longest, days = max(panel.horizons), fold.places(panel.dates, "train")
    last, data_end = days.stop - 1, len(panel.dates) - 1
    lag = int("oo" in panel.description.label or "oo" in panel.description.target)  # from the next open on
    ends, first = last + lag + longest, fold.places(panel.dates, "validation").start
    cut_anew = "cut the folds anew: dagster asset materialize --select folds"
    begin = f"the labels of {longest} days of the last training day, {panel.dates[last]},"
    if ends > data_end:
        late = f"{begin} end {ends - data_end} trading day(s) after the data, which end on {panel.dates[data_end]}"
        yield fail("labels", late, cut_anew)
        return
    if first > last and ends >= first:
        inside = f"{begin} end on {panel.dates[ends]}, in the validation block, which begins on {panel.dates[first]}"
        yield fail("labels", inside, cut_anew)
        return
    rows = slice(max(days.start, days.stop - longest), days.stop)
    known = np.isfinite(panel.target[:, rows])[:, panel.valid[rows]]  # [H, pairs]
    share = float(known.mean(1).min()) if known.size else 0.0
    text = f"{begin} end on {panel.dates[ends]}, the data on {panel.dates[data_end]}; {share:.0%} of the last are known"
    if share < LABELS_LEAST:
        again = "the table labels is older than the data: dagster asset materialize --select labels,training_panel"
        yield fail("labels", f"{text}: too few", again)
    else:
        yield ok("labels", text)
