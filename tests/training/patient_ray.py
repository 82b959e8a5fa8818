"""The command line of Ray, for a machine that has much else to do: `patient_ray.py start ...`.

`ray start` gives its raylet 30 seconds to register, which no variable changes; on a crowded machine the raylet's own
agents take longer to import Python. Here it is asked for five minutes.
"""

import sys
import time
from typing import Any

PATIENCE = 300.0  # seconds


def main() -> None:
    from ray._private import services
    from ray.scripts.scripts import main as ray

    asked = services.get_node

    def patient(*given: Any, **named: Any) -> Any:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return asked(*given, **named)
            except RuntimeError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)

    services.get_node = patient
    sys.argv[0] = "ray"
    ray()


if __name__ == "__main__":
    main()
