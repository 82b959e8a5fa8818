"""What of a run is done, and the file from which an interrupted one goes on.

`state.safetensors` holds the finished members, the state of the one under way and the record that the run opened with:
it is continued only by a request that would open the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from atft_model import checkpoint as files
from atft_model.fit import Fit
from atft_model.interchange.errors import RequestError
from atft_model.interchange.records import to_plain
from atft_model.interchange.run import CHECKPOINT, RUN_JSON, STATE, RunRecord, read_record
from atft_model.record import Trained

SAME = (
    "phase", "fold", "config", "curriculum", "parent", "panel_id", "catalogue_hash", "seed", "n_seeds", "mode",
    "controls",
)  # fmt: skip
"""Fields of the record in which a run and the request that resumes it must agree."""


class Progress:
    """The members of a run that are trained, and what is stored of the one that is not."""

    def __init__(self, out: Path, record: RunRecord) -> None:
        self.out, self.record = out, record
        self.members: list[dict[str, Tensor]] = []
        self.rows: list[dict[str, Any]] = []
        self.accounts: list[dict[str, Any]] = []
        self._stored: tuple[Mapping[str, Tensor], Mapping[str, Any]] | None = None

    @classmethod
    def resumed(cls, out: Path, record: RunRecord) -> Progress:
        """What the state file of an unfinished run says.

        Raises:
            Mismatch: another request made it; the message lists the differences.
            RunError: it is damaged.
        """
        values, now = files.read_values(out / STATE), to_plain(record)
        then = values["record"]
        changed = [f"{k}: then {then.get(k)}, now {now[k]}" for k in SAME if now[k] != then.get(k)]
        if changed:
            raise files.Mismatch(
                "`resume` continues the same request, but this one differs:\n  " + "\n  ".join(changed)
            )
        tensors = files.read_tensors(out / STATE)
        progress = cls(out, record)
        done = {k.removeprefix("done/"): v for k, v in tensors.items() if k.startswith("done/")}
        progress.members = files.split_members(done)
        progress.rows, progress.accounts = values["rows"], values["accounts"]
        progress._stored = tensors, values["fit"]
        return progress

    @property
    def epoch(self) -> int:
        """The epoch that comes next, of the member under way."""
        return 1 if self._stored is None else int(self._stored[1]["epoch"])

    def restore(self, fit: Fit) -> None:
        """Bring a new Fit to where the state file left its member, if it is the one that was under way."""
        if self._stored is not None and self._stored[1]["member"] == fit.member:
            fit.restore(*self._stored)

    def save(self, fit: Fit, *, keeps: bool) -> None:
        """Write the state, and the checkpoint if the epoch's weights are kept so far; DiskFull if there is no room."""
        if keeps:
            files.write_tensors(self.out / CHECKPOINT, files.join_members([*self.members, fit.kept]))
        tensors, values = fit.state()
        tensors |= {f"done/{k}": v for k, v in files.join_members(self.members).items()}
        stored = {"record": self.record, "fit": values, "rows": self.rows, "accounts": self.accounts}
        files.write_tensors(self.out / STATE, tensors, stored)

    def close_member(self, fit: Fit) -> None:
        """Count a member that is trained to its end."""
        self.members.append({k: v.detach().cpu() for k, v in fit.kept.items()})
        self.rows += fit.rows
        self.accounts.append(
            {"kept_epoch": fit.kept_epoch, "epochs": len(fit.rows), "seconds": fit.seconds, "stopped_by": fit.stopped}
        )

    def trained(self) -> Trained:
        """All that the members gave."""
        return Trained(self.members, self.rows, self.accounts)


def refuse_taken(out: Path, *, resume: bool) -> None:
    """Refuse a run directory that may not be written.

    Raises:
        RequestError: it holds a finished run, or an unfinished one that is not to be resumed.
    """
    if not (out / RUN_JSON).exists():
        return
    if read_record(out).status == "finished":
        raise RequestError(f"out: {out} holds a finished run, which is immutable: choose another directory")
    if not resume:
        raise RequestError(f"out: {out} holds an unfinished run: set resume=true, or choose another directory")
