"""Which machine works on a run: the tag that a worker writes and the reaper reads, where several share a database.

Dagster's events name a process, but no machine. A process of that number that does not exist here may work elsewhere.
"""

import os
import socket
from collections.abc import Mapping

import dagster as dg

HOST_TAG = "atft/host"
VARIABLE = "ATFT_HOST"


def this_host(environ: Mapping[str, str] | None = None) -> str:
    """The name of this machine or container: ATFT_HOST, else what the kernel calls it.

    It must outlive a restart, and no two sets of processes may share it: a container, which sees its own processes
    alone and is called otherwise each time, is given a name.
    """
    exported = (os.environ if environ is None else environ).get(VARIABLE, "").strip()
    return exported or socket.gethostname()


def named_process(entry: dg.EventLogEntry) -> int | None:
    """The process that an event names as working on a run as a whole; None for other events, those of steps too."""
    event = entry.dagster_event
    if event is None or event.event_type is not dg.DagsterEventType.ENGINE_EVENT or event.step_key is not None:
        return None
    named = event.engine_event_data.metadata.get("pid")
    return int(str(named.value)) if named is not None and str(named.value).isdigit() else None
