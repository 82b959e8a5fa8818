"""A trainer with the command line and files of `atft_model`, without a network; its behaviour comes from FAKE_TRAINER.

It imports nothing of the platform: it starts in half a second, and reads the panel as a stranger would.

Words of FAKE_TRAINER, separated by commas: `hang` (train for ever), `deaf` (ignore SIGINT and SIGTERM), `exit=N` (fail
with N after a message), `starved`, `degenerate` (guards that fail without saying so), `wrong_ic`, `tampered`.
"""

import argparse
import ctypes
import fcntl
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
from safetensors import safe_open

HORIZONS = (1, 5, 10, 20)

WORDS = os.environ.get("FAKE_TRAINER", "").split(",")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train")
    for name in ("--panel", "--out", "--init"):
        train.add_argument(name, type=Path)
    for name in ("--phase", "--seed", "--n-seeds", "--epochs"):
        train.add_argument(name, type=int)
    for name in ("--preset", "--device", "--mode"):
        train.add_argument(name)
    train.add_argument("--max-seconds", type=float)
    train.add_argument("--resume", action="store_true")
    predict = commands.add_parser("predict")
    for name in ("--panel", "--run", "--out"):
        predict.add_argument(name, type=Path)
    predict.add_argument("--block")
    for command in (train, predict):
        command.add_argument("--lock", type=Path)
        command.add_argument("--threads", type=int)
        command.add_argument("--die-with-parent", action="store_true")
    return parser.parse_args()


class Block:
    """Valid cells of a block of a panel and their returns."""

    def __init__(self, panel: Path, name: str):
        self.description = json.loads((panel / "panel.json").read_text())
        first, last = self.description["split"][name]
        self.dates = [day for day in self.description["dates"] if first <= day <= last]
        start = self.description["dates"].index(self.dates[0])
        rows = slice(start, start + len(self.dates))
        with safe_open(panel / "panel.safetensors", framework="np") as file:
            self.valid, self.y = file.get_slice("valid")[rows], file.get_slice("y_cc")[:, rows]

    def scores(self, phase: int) -> np.ndarray:
        """The better the later the phase: the realised returns in less and less noise."""
        noise = np.random.default_rng(phase).normal(size=self.y.shape)
        return (np.nan_to_num(self.y) + noise * 0.3 / (1 + phase)).astype(np.float32)

    def write(self, scores: np.ndarray, path: Path) -> None:
        d, n = np.nonzero(self.valid)
        columns = {f"score_{h}d": scores[i, d, n] for i, h in enumerate(HORIZONS)}
        keys = {"date": np.array(self.dates)[d], "code": np.array(self.description["codes"])[n]}
        pl.DataFrame({**keys, **columns}).with_columns(pl.col("date").str.to_date()).write_parquet(path)

    def rank_ic(self, scores: np.ndarray) -> dict[str, float]:
        means = {}
        for i, h in enumerate(HORIZONS):
            daily = []
            for s, y, valid in zip(scores[i], self.y[i], self.valid, strict=True):
                rows = valid & np.isfinite(y)
                daily.append(np.corrcoef(s[rows].argsort().argsort(), y[rows].argsort().argsort())[0, 1])
            means[str(h)] = float(np.mean(daily))
        return means


def train(args: argparse.Namespace, pipes) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "pid").write_text(str(os.getpid()))
    (args.out / "argv").write_text(" ".join(sys.argv[1:]))
    (args.out / "environ").write_text(json.dumps(dict(os.environ)))
    block = Block(args.panel, "validation")
    for number in (signal.SIGINT, signal.SIGTERM):

        def stop(number: int, frame: object) -> None:
            with (args.out / "signals").open("a") as file:
                file.write(signal.Signals(number).name + "\n")
            if "deaf" not in WORDS:
                sys.exit(130)

        signal.signal(number, stop)
    header = {"status": "running", **{k: block.description[k] for k in ("panel_id", "catalogue_hash")}}
    (args.out / "run.json").write_text(json.dumps(header))
    epochs = []
    for epoch in range(1, 4):
        row = {"event": "epoch", "epoch": epoch, "loss": 1 / epoch, "rank_ic": 0.01 * epoch, "rank_ic_1d": 0.02 * epoch}
        epochs.append(row)
        print(f"epoch {epoch}", flush=True)
        if pipes:
            pipes.log.info(f"epoch {epoch} of 3")
            pipes.report_custom_message(row)
    (args.out / "ready").write_text("")
    while "hang" in WORDS:
        time.sleep(0.05)
    for word in WORDS:
        if word.startswith("exit="):
            print("Warning: something harmless", file=sys.stderr)
            print("atft_model: the reason\n  and its second line", file=sys.stderr)
            if word == "exit=3":
                (args.out / "run.json").write_text(json.dumps({**header, "status": "failed", "guards": guards(True)}))
            sys.exit(int(word[5:]))
    scores = block.scores(args.phase)
    block.write(scores, args.out / "scores.parquet")
    pl.DataFrame(epochs).drop("event").write_parquet(args.out / "metrics.parquet")
    checkpoint = args.out / "checkpoint.safetensors"
    checkpoint.write_bytes(b"weights %d" % args.phase)
    sha256 = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    if "tampered" in WORDS:
        checkpoint.write_bytes(b"other weights")
    by_horizon = block.rank_ic(scores)
    rank_ic = float(np.average(list(by_horizon.values()), weights=[1, 0.8, 0.6, 0.4]))
    record = {
        **header,
        "status": "finished",
        "phase": args.phase,
        "seed": args.seed,
        "n_seeds": args.n_seeds,
        "epochs": 3,
        "best_epoch": 3,
        "seconds": 1.5,
        "stock_days_per_s": 1e4,
        "validation": {
            "rank_ic": rank_ic + (0.001 if "wrong_ic" in WORDS else 0),
            "rank_ic_by_horizon": by_horizon,
            "t_newey_west_by_horizon": dict.fromkeys(by_horizon, 2.5),
            "ic_by_horizon": by_horizon,
            "icir_by_horizon": dict.fromkeys(by_horizon, 0.5),
            "days": len(block.dates),
        },
        "guards": guards("degenerate" in WORDS),
        "checkpoint_sha256": sha256,
    }
    (args.out / "run.json").write_text(json.dumps(record))


def guards(degenerate: bool) -> dict:
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
    lock = args.lock.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("atft_model: the lock is taken", file=sys.stderr)
        sys.exit(75)
    if args.command == "predict":
        block = Block(args.panel, args.block)
        phase = json.loads((args.run / "run.json").read_text())["phase"]
        block.write(block.scores(phase), args.out)
    elif "DAGSTER_PIPES_CONTEXT" in os.environ:
        from dagster_pipes import open_dagster_pipes

        with open_dagster_pipes() as pipes:
            train(args, pipes)
    else:
        train(args, None)


if __name__ == "__main__":
    main()
