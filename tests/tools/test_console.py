"""Sessions in pages are what the commands say."""

from __future__ import annotations

import os

import pytest

from tools import commands_doc, console


def session(*lines: str) -> str:
    return "\n".join(["a page", "", "```console", *lines, "```", "", "its end", ""])


def test_a_session_is_run_in_one_folder() -> None:
    place, environment = os.getcwd(), dict(os.environ)
    lines = (
        "$ hvmctx set guest.save CPU/0.rip=0x1000 -o new.save",
        "$ hvmctx get new.save CPU/0.rip",
    )
    page = session(lines[0], "what it once said", "over two lines", lines[1], "old")
    assert console.refreshed(page) == session(*lines, "0x1000")
    assert (os.getcwd(), dict(os.environ)) == (place, environment)


def test_messages_and_findings_are_part_of_it() -> None:
    line = "$ hvmctx set guest.save CPU/0.cr4=0x80000000 -o bad.save"
    made = console.refreshed(session(line, "$ hvmctx restore bad.save"))
    assert f"{line}\nhvmctx: warning: " in made and "\nrefuse: Xen newest: EINVAL" in made
    assert "\x1b" not in made


def test_a_line_for_a_shell() -> None:
    line = "$ hvmctx get guest.save CPU/0.rip \\\n    | tr x y"
    assert console.refreshed(session(line)) == session(line, "0yb7b9")


def test_lines_are_as_wide_as_a_page_and_not_too_many() -> None:
    made = console.refreshed(session("$ hvmctx info guest.save", "$ hvmctx guest.save"))
    assert max(map(len, made.splitlines())) <= 96
    assert "more lines]\n" in made and made.count("\n") < 100


@pytest.mark.parametrize("line", ["hvmctx get guest.save", "hvmctx info no.save -x | cat; exit 2"])
def test_a_usage_error_is_no_example(line: str) -> None:
    with pytest.raises(AssertionError, match="hvmctx"):
        console.refreshed(session(f"$ {line}"))


def test_a_page_without_a_session_stays() -> None:
    assert console.refreshed("```console\nhvmctx get\n```\n") == "```console\nhvmctx get\n```\n"


def test_a_new_command_gets_a_page_of_its_examples() -> None:
    made = commands_doc.page("get")
    assert made.count(commands_doc.START) == made.count(commands_doc.END) == 2
    assert "$ hvmctx get guest.save CPU/0.rip CPU/0.cr4\n" in made
    assert "\n$ hvmctx get guest.save CPU/0.rip CPU/0.cr4\n0xb7b9\n" in console.refreshed(made)
    assert "| `--vmport-profile NAME\\|FILE` | the constants of VMPORT" in made


def test_what_is_written_by_hand_stays() -> None:
    before = commands_doc.page("load").replace("## Examples", "## By hand\n\nWords.")
    after = commands_doc.page("load", before.replace("| argument |", "| stale |"))
    assert after == before and "    hvmctx load guest.hvm 7\n" in after
