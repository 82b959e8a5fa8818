"""Variables that no training is given: secrets of other rooms, and addresses that may hold one.

A trainer speaks to no database, no bucket and no service: what it needs lies in a folder, fetched and pushed by the
step that started it. Whoever starts one, on this machine or as a task of a cluster, leaves these out.
"""

from collections.abc import Mapping

WITHHELD = frozenset(
    {
        "JQUANTS_API_KEY", "ATFT_SANDBOX_KEY", "JQUANTS_BASE_URL", "ATFT_ALERT_URLS", "ATFT_PG_URL", "PGPASSWORD",
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "RAY_AUTH_TOKEN",
    }
)  # fmt: skip


def passed_on(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables without those."""
    return {name: value for name, value in variables.items() if name not in WITHHELD}
