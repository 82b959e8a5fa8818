"""Every option of every command line says what it is for."""

import argparse
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
MODULES = [
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    for package in ("atft_assets", "atft_model")
    for path in sorted((REPOSITORY / package).rglob("*.py"))
    if "ArgumentParser(" in path.read_text() and "def main(" in path.read_text()
]


class Built(Exception):
    """A parser is complete: its command goes no further."""


def parser_of(module: str, monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """The parser that a module's `main` builds."""

    def parse_args(self: argparse.ArgumentParser, *_: object, **__: object) -> None:
        raise Built(self)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    with pytest.raises(Built) as built:
        import_module(module).main()
    (parser,) = built.value.args
    return parser


def silent_options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Options and arguments without a word of help, commands included, of a parser and those below it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            spoken = {choice.dest for choice in action._choices_actions if choice.help}
            for name, below in action.choices.items():
                if name not in spoken:
                    yield f"{parser.prog} {name}"
                yield from silent_options(below)
        elif not (action.help or "").split("(")[0].strip():
            yield f"{parser.prog} {'/'.join(action.option_strings) or action.dest}"


def test_a_silent_option_is_found() -> None:
    parser = argparse.ArgumentParser(prog="p")
    commands = parser.add_subparsers()
    commands.add_parser("quiet").add_argument("--seed", help="(%(default)s)")
    commands.add_parser("told", help="it is told").add_argument("--epochs", help="at most")
    assert list(silent_options(parser)) == ["p quiet", "p quiet --seed"]


@pytest.mark.parametrize("module", ["atft_model.__main__", *MODULES])
def test_every_option_has_help(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(silent_options(parser_of(module, monkeypatch))) == []


def test_every_tool_with_options_is_seen() -> None:
    assert {"atft_assets.tools.mend", "atft_assets.tools.migrate", "atft_assets.sandbox.__main__"} <= set(MODULES)
