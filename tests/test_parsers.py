"""The commands' parsers: every argument says what it is."""

from __future__ import annotations

import os
from argparse import Action, ArgumentParser, _SubParsersAction
from collections.abc import Iterator

import pytest

from hvmctx import parsers
from hvmctx.cli import COMMANDS, command_of
from hvmctx.errors import UsageError
from tests.builders.running import Run
from tests.builders.samples import DATA


def arguments(parser: ArgumentParser) -> Iterator[Action]:
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for inner in action.choices.values():
                yield from arguments(inner)
        else:
            yield action


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_says_what_it_is(name: str) -> None:
    for action in arguments(parsers.parser_of(command_of(name), name)):
        assert action.help and not action.help.endswith("."), action
        assert action.nargs == 0 or action.metavar or action.choices, action


def test_mistakes_are_ours() -> None:
    with pytest.raises(UsageError, match="fuzz run: the following arguments are required: FILE"):
        parsers.parser_of(command_of("fuzz"), "fuzz").parse_args(["run", "vmport"])


def test_the_width_is_the_terminals(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = run("dump", "--help").out.partition("\nexamples:")[0]
    assert 50 < max(map(len, text.splitlines())) <= 60


BAD = DATA / "streams" / "handbuilt" / "bad_marker.bin"


def test_color(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    before = dict(os.environ)
    assert run("verify", "--color", "always", BAD).out.startswith("\x1b[31merror\x1b[0m: libxc: ")
    many = run("restore", BAD, BAD, "--color", "always").out
    assert many.count("bad_marker.bin: \x1b[31mrefuse\x1b[0m: ") == 2
    assert os.environ == before and "\x1b" not in run("verify", BAD).out
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert (
        "\x1b" in run("verify", BAD).out
        and "\x1b" not in run("verify", BAD, "--color", "never").out
    )
    assert os.environ["FORCE_COLOR"] == "1" and "NO_COLOR" not in os.environ


def test_color_before_and_after_an_action() -> None:
    parser = parsers.parser_of(command_of("fuzz"), "fuzz")
    for words in (["--color", "never", "run", "x", "y"], ["run", "x", "y", "--color", "never"]):
        assert parser.parse_args(words).color == "never"
