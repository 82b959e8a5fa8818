"""The command line of Ray, for a machine that has much else to do: `patient_ray.py start ...`.

`ray start` gives its raylet 30 seconds to register, and the raylet ends where its agents have not written down after 15
on which ports they listen; no variable changes either, and on a crowded machine the agents take longer to import what
they need. Here it is asked for five minutes, and the one port that an option does not tell it is written down before.
"""

import inspect
import sys
import time
from typing import Any

PATIENCE = 300.0  # seconds


def main() -> None:
    from ray._private import services
    from ray._raylet import DASHBOARD_AGENT_LISTEN_PORT_NAME, persist_port
    from ray.scripts.scripts import main as ray

    asked, start = services.get_node, services.start_raylet

    def patient(*given: Any, **named: Any) -> Any:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return asked(*given, **named)
            except RuntimeError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)

    def told(*given: Any, **named: Any) -> Any:
        known = inspect.signature(start).bind(*given, **named).arguments
        port = known["dashboard_agent_listen_port"]
        persist_port(known["session_dir"], known["node_id"], DASHBOARD_AGENT_LISTEN_PORT_NAME, port)
        return start(*given, **named)

    services.get_node, services.start_raylet = patient, told
    sys.argv[0] = "ray"
    ray()


if __name__ == "__main__":
    main()
