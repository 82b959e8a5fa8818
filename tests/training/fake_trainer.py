"""A trainer with the files of `atft_model`, without a network; its behaviour comes from FAKE_TRAINER.

It imports nothing but the interchange: it starts in half a second. It reads the panel with the safetensors library, as
a stranger would.

Words of FAKE_TRAINER, or of the file that it names after an @, separated by commas: `hang` (train for ever), `deaf`
(ignore SIGINT and SIGTERM), `exit=N` (fail with N after a message), `frail` (fails at learning rates above .003),
`starved`, `degenerate` (guards that fail without saying so), `wrong_ic`, `tampered`, `meet` (wait until another
training of the phase has begun as well), `seed=N` (the others count for these seeds alone).
"""

import argparse
import ctypes
import fcntl
import hashlib
import json
import math
import os
import platform
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors import safe_open

from atft_model.interchange import run
from atft_model.interchange.exits import Exit
from atft_model.interchange.hashes import file_sha256, write_sidecar
from atft_model.interchange.horizons import HORIZONS, horizon_weights
from atft_model.interchange.panel import read_description
from atft_model.interchange.phases import PHASES
from atft_model.interchange.request import TrainRequest, predict_request, read_document, train_request
from atft_model.interchange.run import RunRecord, held, read_finished, write_record

RATE = 1e-3  # the learning rate that the fake likes best
FRAIL_ABOVE = 3e-3
TOLD = os.environ.get("FAKE_TRAINER", "")
WORDS: list[str] = []  # for this seed
SAID: list[str] = []  # for anybody


def heed(seed: int) -> None:
    """Read the words; forget them if they are meant for another seed."""
    SAID[:] = WORDS[:] = (Path(TOLD[1:]).read_text() if TOLD.startswith("@") else TOLD).split(",")
    seeds = [word for word in WORDS if word.startswith("seed=")]
    if seeds and f"seed={seed}" not in seeds:
        WORDS.clear()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=("train", "predict"))
    parser.add_argument("request", type=Path)
    parser.add_argument("--lock", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--die-with-parent", action="store_true")
    return parser.parse_args()


class Block:
    """Valid cells of some days of a panel and their returns."""

    def __init__(self, panel: Path, first: date | None, last: date | None):
        self.description = read_description(panel)
        days = self.description.places(first, last)
        self.dates = self.description.dates[days.start : days.stop]
        rows = slice(days.start, days.stop)
        with safe_open(panel / "panel.safetensors", framework="np") as file:
            self.valid, self.y = file.get_slice("valid")[rows], file.get_slice("y_cc")[:, rows]

    def scores(self, phase: int, rate: float = RATE) -> np.ndarray:
        """The better the later the phase, and the nearer the learning rate is to .001: returns in less noise."""
        noise = np.random.default_rng(phase).normal(size=self.y.shape) * (1 + abs(math.log10(rate / RATE)))
        return (np.nan_to_num(self.y) + noise * 0.3 / (1 + phase)).astype(np.float32)

    def write(self, scores: np.ndarray, path: Path) -> None:
        d, n = np.nonzero(self.valid)
        columns = {f"score_{h}d": scores[i, d, n] for i, h in enumerate(HORIZONS)}
        keys = {"date": np.array(self.dates, "datetime64[D]")[d], "code": np.array(self.description.codes)[n]}
        pl.DataFrame({**keys, **columns}).with_columns(pl.col("date").cast(pl.Date)).write_parquet(path)

    def rank_ic(self, scores: np.ndarray) -> dict[str, float]:
        means = {}
        for i, h in enumerate(HORIZONS):
            daily = []
            for s, y, valid in zip(scores[i], self.y[i], self.valid, strict=True):
                rows = valid & np.isfinite(y)
                daily.append(np.corrcoef(s[rows].argsort().argsort(), y[rows].argsort().argsort())[0, 1])
            means[str(h)] = float(np.mean(daily))
        return means


def record_of(request: TrainRequest, block: Block) -> RunRecord:
    """The record of a run that has just begun."""
    description = block.description
    parent = None
    if request.init:
        theirs = read_finished(request.init)
        parent = run.Parent(theirs.run_id, str(request.init), str(theirs.checkpoint_sha256), theirs.phase)
    return RunRecord(
        format=run.FORMAT,
        status="running",
        run_id=request.out.name,
        phase=request.phase,
        name=PHASES[request.phase].name,
        fold=request.fold,
        panel_id=description.panel_id,
        catalogue_hash=description.catalogue_hash,
        features=tuple(feature.name for feature in description.features),
        horizons=description.horizons,
        label=description.label,
        target=description.target,
        config={"model": dict(request.network), "train": dict(request.training)},
        curriculum={},
        switches={},
        parent=parent,
        code_version="fake",
        seed=request.seed,
        n_seeds=request.n_seeds,
        mode=request.mode,
        controls={},
        hardware={},
        versions={},
    )


def train(request: TrainRequest, pipes: Any, stack: ExitStack) -> None:
    heed(request.seed)
    out = request.out
    out.mkdir(parents=True, exist_ok=True)
    (out / "pid").write_text(str(os.getpid()))
    (out / "host").write_text(platform.node())
    (out / "environ").write_text(json.dumps(dict(os.environ)))
    block = Block(request.panel, *request.fold.validation)
    record = record_of(request, block)
    for number in (signal.SIGINT, signal.SIGTERM):

        def stop(number: int, frame: object) -> None:
            with (out / "signals").open("a") as file:
                file.write(signal.Signals(number).name + "\n")
            if "deaf" not in WORDS:
                write_record(out, replace(record, status="interrupted"))
                sys.exit(Exit.INTERRUPTED)

        signal.signal(number, stop)
    stack.enter_context(held(out))
    write_record(out, record)
    epochs = []
    for epoch in range(1, 4):
        row = {"event": "epoch", "epoch": epoch, "loss": 1 / epoch, "rank_ic": 0.01 * epoch, "rank_ic_1d": 0.02 * epoch}
        epochs.append(row)
        print(f"epoch {epoch}", flush=True)
        if pipes:
            pipes.log.info(f"epoch {epoch} of 3")
            pipes.report_custom_message(row)
    if {"hang", "exit=130", "exit=74"} & set(WORDS):
        (out / run.STATE).write_text("an epoch is done")
    if request.resume and (out / run.STATE).exists():
        (out / "resumed").write_text((out / run.STATE).read_text())
    (out / "ready").write_text("")
    wait(out, request.seed)
    for word in WORDS:
        if word.startswith("exit="):
            print("Warning: something harmless", file=sys.stderr)
            print("atft_model: the reason\n  and its second line", file=sys.stderr)
            if word == "exit=3":
                write_record(out, replace(record, status="failed", guards=guards(True)))
            sys.exit(int(word[5:]))
    rate = float(request.training.get("learning_rate", RATE))
    if "frail" in WORDS and rate > FRAIL_ABOVE:
        print("atft_model: the loss is not finite", file=sys.stderr)
        write_record(out, replace(record, status="failed", guards=guards(True)))
        sys.exit(Exit.GUARD)
    scores = block.scores(request.phase, rate)
    block.write(scores, out / run.SCORES)
    pl.DataFrame(epochs).drop("event").write_parquet(out / run.METRICS)
    checkpoint = out / run.CHECKPOINT
    checkpoint.write_bytes(b"weights %d %d" % (request.phase, request.seed))
    sha256 = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    if "tampered" in WORDS:
        checkpoint.write_bytes(b"other weights")
    by_horizon = block.rank_ic(scores)
    rank_ic = float(np.array(list(by_horizon.values())) @ horizon_weights(HORIZONS))
    finished = replace(
        record,
        status="finished",
        epochs=3,
        kept_epoch=3,
        seconds=1.5,
        stock_days_per_s=1e4,
        validation={
            "rank_ic": rank_ic + (0.001 if "wrong_ic" in WORDS else 0),
            "rank_ic_by_horizon": by_horizon,
            "t_newey_west_by_horizon": dict.fromkeys(by_horizon, 2.5),
            "p_by_horizon": dict.fromkeys(by_horizon, 0.02),
            "ic_by_horizon": by_horizon,
            "icir_by_horizon": dict.fromkeys(by_horizon, 0.5),
            "days": len(block.dates),
        },
        guards=guards("degenerate" in WORDS),
        checkpoint_sha256=sha256,
        scores_sha256=file_sha256(out / run.SCORES),
        metrics_sha256=file_sha256(out / run.METRICS),
    )
    write_record(out, finished)
    (out / run.STATE).unlink(missing_ok=True)


def wait(out: Path, seed: int) -> None:
    """For another training to have begun, or for ever."""
    if "meet" in SAID:  # a file that stays, so that whoever looks late sees it, too
        (out.parents[2] / f".begun-{out.name}").write_text("")
    while "meet" in WORDS and len(list(out.parents[2].glob(".begun-*"))) < 2:
        time.sleep(0.02)
    while "hang" in WORDS:
        time.sleep(0.05)
        if TOLD.startswith("@"):  # whoever told it may take it back
            heed(seed)


def guards(degenerate: bool) -> dict[str, Any]:
    return {
        "grad_norm": {"vsn": 0.1, "lstm": 1e-9 if "starved" in WORDS else 0.2},
        "alpha": 0.5,
        "attention_entropy": None,
        "score_spread": 0.0 if degenerate else 0.4,
        "distinct_share": 1.0,
        "newest_day_sensitivity": 0.5,
        "passed": not degenerate,
        "messages": ["scores have almost no spread"] if degenerate else [],
    }


def main() -> None:
    args = arguments()
    if args.die_with_parent:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    lock = args.lock.open("a") if args.lock else None
    try:
        if lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("atft_model: the lock is taken", file=sys.stderr)
        sys.exit(Exit.LOCK_BUSY)
    document = read_document(args.request, [])
    if args.command == "predict":
        wanted = predict_request(document)
        block = Block(wanted.panel, wanted.first, wanted.last)
        for one in wanted.scorings:
            block.write(block.scores(read_finished(one.run).phase), one.out)
            write_sidecar(one.out, file_sha256(one.out))
        return
    request = train_request(document)
    with ExitStack() as stack:
        pipes = None
        if "DAGSTER_PIPES_CONTEXT" in os.environ:
            from dagster_pipes import open_dagster_pipes

            pipes = stack.enter_context(open_dagster_pipes())
        train(request, pipes, stack)


if __name__ == "__main__":
    main()
