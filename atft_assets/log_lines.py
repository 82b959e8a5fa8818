"""What our own services write to the log: text, or a JSON object a line with the fields that Dagster's services have.

Dagster's take `--log-format json`; the guarded webserver and the metrics are ours and follow the same variable,
ATFT_LOG_FORMAT.
"""

import json
import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime

VARIABLE = "ATFT_LOG_FORMAT"
JSON = "json"
TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"


class JsonLines(logging.Formatter):
    """A record as one line: event, logger, level, timestamp, and where there is one exception."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        fields = {
            "event": record.getMessage(),
            "logger": record.name,
            "level": record.levelname.lower(),
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def set_up_logs(environ: Mapping[str, str] | None = None, level: int = logging.WARNING) -> None:
    """Have everything that this process logs, warnings too, written to stderr in the format of ATFT_LOG_FORMAT."""
    told = (os.environ if environ is None else environ).get(VARIABLE, "")
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if told == JSON else logging.Formatter(TEXT))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
