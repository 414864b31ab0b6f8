"""Every command that takes an image, on altered ones: an exit status and at most one line
of error for each problem, and never a traceback."""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvmctx.cli import COMMANDS as ALL
from hvmctx.cli import EXAMPLES, _Words, command_of, main
from hvmctx.image.image import open_image
from tests.builders import altered
from tests.builders.documents import make_files, shorter
from tests.builders.hosts import CPUID, INFO
from tests.builders.running import TOOL, Run, Said
from tests.builders.samples import DATA, EXAMPLE
from tests.builders.standin import PAUSED


@settings(max_examples=8)
@given(st.integers(0, 1 << 32))
def test_altered_images(seed: int) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        for command in altered.COMMANDS:
            assert altered.attack(command, rng, Path(place)) == ""


def test_every_command_is_told_of(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    overview = capfd.readouterr().out
    for name in ALL:
        assert f"  {name} " in overview
        assert main([name, "--help"]) == 0 and capfd.readouterr().out.startswith("usage: hvmctx")


EXAMPLES_OF: dict[str, tuple[str, ...]] = {
    name: import_module(f"hvmctx.commands.{name.replace('-', '_')}").EXAMPLES for name in ALL
}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the files that examples speak of, and a command `hvmctx`."""
    place = tmp_path_factory.mktemp("workshop")
    data = EXAMPLE.read_bytes()
    (place / "guest.save").write_bytes(data)
    with open_image(data) as image:
        (place / "guest.hvm").write_bytes(image.context.to_bytes())
    for name, sample in (("save", "legacy_hvm_w64_xl.in.bin"), ("stream", "legacy_hvm_w64.in.bin")):
        (place / f"legacy.{name}").write_bytes((DATA / "streams" / sample).read_bytes())
    (place / "guest.xc").write_bytes((DATA / "streams" / "13-one-page.xc").read_bytes())
    command = place / "bin" / "hvmctx"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{TOOL}" "$@"\n')
    command.chmod(0o755)
    (place / "xen-cpuid.txt").write_bytes(CPUID)
    (place / "xl-info.txt").write_bytes(INFO)
    xl = place / "bin" / "xl"
    xl.write_text(
        "#!/bin/sh\n[ $1 = domid ] && exec echo 7\n"
        "printf '[\\n    {\\n        \"config\": {\\n        }\\n    }\\n]\\n'\n"
    )
    xl.chmod(0o755)
    return place


LIVE = ("save", "load", "host", "fuzz")
"""Commands whose examples need a running Xen."""


_OTHERS = ["host.json", "hosts", "other.save", "other.pol"]
NEEDED = {
    **dict.fromkeys(("place", "policy", "report", "restore", "verify", "fuzz"), _OTHERS),
    "convert": ["suspend.img", "guest.xml"],
    "diagnose": ["restore.log"],
    "x": ["kernel.save"],
    "stack": ["kernel.save", "System.map"],
}
"""What the examples of a command need besides what all do."""


@pytest.mark.parametrize("name", ["hvmctx", *ALL])
def test_examples_run(
    name: str,
    workshop: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One after the other, as some use what an earlier one makes, and in a shell what needs
    one. Exit status 1 is an answer that is no; a usage error is 2, and a complaint on stderr
    would come with it."""
    for file in workshop.glob("*.*"):
        (tmp_path / file.name).symlink_to(file)
    make_files(NEEDED.get(name, []), tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{workshop / 'bin'}{os.pathsep}{os.environ['PATH']}")
    if name in LIVE:
        request.getfixturevalue("stand_in").state.flags |= PAUSED
    for example in EXAMPLES if name == "hvmctx" else EXAMPLES_OF[name]:
        line = shorter(example)
        if "c-reference" in line and shutil.which("gcc") is None:
            continue
        if re.search("[|<>]", line):
            shell = ["sh", "-c", line]
            done = subprocess.run(
                shell, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
            status, said = done.returncode, Said(done.stdout, done.stderr)
        else:
            status, said = run(*shlex.split(line, comments=True)[1:])
        assert status in (0, 1), (line, said.err)
        assert status == 0 or said.out or "-o " in line, (line, said.err)
        assert name not in LIVE[:3] or status == 0, (line, said.err)


def test_every_help_ends_with_examples(run: Run) -> None:
    for name in ALL:
        assert run(name, "--help").out.endswith("".join(f"  {x}\n" for x in EXAMPLES_OF[name]))
    for action in ("run", "campaign", "diff", "generate"):
        text = run("fuzz", action, "--help").out
        examples = text.partition("\nexamples:\n")[2].splitlines()
        assert len(examples) == (3 if action == "diff" else 2) and all(
            f"hvmctx fuzz {action} " in line for line in examples
        )
    assert run("--help").out.endswith("".join(f"  {line}\n" for line in EXAMPLES))


@pytest.mark.parametrize("count", range(5))
def test_words_are_parsed_as_argparse_does(count: int) -> None:
    """A command line without options does without argparse: the same must come out."""
    without = set()
    for name in ALL:
        command = command_of(name)
        words = [f"word{number}" for number in range(count)]
        found = _Words().parse(command, list(words))
        if found is not None:
            without.add(name)
            parser = ArgumentParser()
            command.add_arguments(parser)
            assert found == vars(parser.parse_args(words))
    least = [set(), {"dump", "info", "verify", "restore"}, {"get", "diff"}, {"get"}, {"get"}]
    assert least[count] <= without
    assert not {"set", "fuzz", "build", "save"} & without
