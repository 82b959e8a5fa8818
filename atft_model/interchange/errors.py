"""What can be wrong with something that passes over the wall. Each text is a sentence that says what to do."""

MEND = "python -m atft_assets.tools.mend"  # the command that mends damaged files, as the texts name it


def damaged(path: object, why: object) -> str:
    """The sentence about a damaged file."""
    return f"{path} is damaged ({why}); run: {MEND}"


class InterchangeError(ValueError):
    """Something that passes over the wall cannot be used."""


class PanelError(InterchangeError):
    """There is no panel, it is not whole, or it does not suit what is asked of it."""


class OldPanel(PanelError):
    """A panel of an older version: whole, but not to be read any more."""


class FoldError(InterchangeError):
    """The days do not suffice for the blocks that were asked for, or the blocks lie too close together."""


class ConfigError(InterchangeError):
    """A configuration that cannot be built: the message says which field and what is allowed."""


class RequestError(InterchangeError):
    """A combination of arguments that cannot be carried out."""


class RunError(InterchangeError):
    """There is no such run, or it is not whole."""


class OldRun(RunError):
    """A run of an older version: whole, but not to be read any more."""
