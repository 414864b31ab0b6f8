from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from hvmctx.context.hvm_context import HvmContext
from hvmctx.fuzz import MANIFEST
from hvmctx.restore.guest import Guest
from tests.builders.contexts import put
from tests.builders.running import TOOL, Run
from tests.builders.samples import DATA, EXAMPLE, context_bytes
from tests.builders.streams import hvm, page_data, word
from tools import rules_doc


def test_accept(run: Run) -> None:
    status, said = run("restore", EXAMPLE, "--release", "4.17")
    assert (status, said.out) == (
        0,
        "accept: Xen 4.17 would restore this image\n"
        "  CPU/0: the guest's TSC goes on from 0xf5a8b9285: the time since the save is not in it\n"
        "judged: the streams of the xl image and its HVM context, as restored by Xen 4.17\n",
    )


def test_hazards(run: Run, tmp_path: Path) -> None:
    """Beside the verdict and its exit status, as text, as JSON, of several inputs; and verify
    warns, with one line for all releases that suffer alike."""
    context = HvmContext.from_bytes(context_bytes())
    put("LAPIC/0.timer_divisor", 0, "PIC/0.is_master", 0)(context)
    path = tmp_path / "context"
    path.write_bytes(context.to_bytes())
    status, said = run("restore", path, "--release", "4.17")
    lines = said.out.splitlines()
    assert (status, lines[0]) == (0, "accept, with 2 hazards: Xen 4.17 would load this context")
    assert [line for line in lines if line.startswith("  hazard: ")] == [
        "  hazard: context: offset 0x430: PIC/0: the hypervisor takes other memory for the "
        "domain's and writes there, and can die of it: is_master does not match the instance: "
        "is_master is 0 in PIC/0; the master is PIC/0; safe since 4.19 (69c89dd787) "
        "[pic-wrong-master]",
        "  hazard: context: offset 0x5e8: LAPIC/0: the hypervisor divides by zero when the guest "
        "reads its timer's count: timer_divisor is 0x0; safe in no release [lapic-divisor]",
    ]
    status, said = run("restore", path, path, "--release", "4.17")
    assert (status, said.out.count(f"{path}: accept, with 2 hazards\n")) == (0, 2)
    status, said = run("restore", path, "--release", "4.17", "--format", "json")
    plain = json.loads(said.out)
    assert plain["verdict"] == "accept"
    assert [(one["rule"], one["safe"], one["cve"]) for one in plain["hazards"]] == [
        ("pic-wrong-master", "4.19", None), ("lapic-divisor", None, None),
    ]  # fmt: skip
    status, said = run("verify", path, "--release", "4.18")
    assert status == 0 and "Xen 4.18 loads it all the same; safe since 4.19" in said.out
    assert run("verify", path, "--release", "4.18", "--fail-on", "warning")[0] == 1
    put("PIC/0.is_master", 1)(context)
    path.write_bytes(context.to_bytes())
    status, said = run("verify", path)
    assert status == 0 and said.out.count("[lapic-divisor]\n") == 1
    assert "warning: context: offset 0x5e8: LAPIC/0: " in said.out


def test_refuse(run: Run, tmp_path: Path) -> None:
    context = bytearray(context_bytes())
    context[40 + 656] = 0  # cr0 without ET
    path = tmp_path / "context"
    path.write_bytes(context)
    status, said = run("restore", path, "--release", "4.17", "--policy", EXAMPLE)
    assert status == 1
    assert said.out == (
        "refuse: Xen 4.17: EINVAL: context: offset 0x20: CPU/0: cr0 has no ET (bit 4) [cpu-cr0]\n"
        "judged: the HVM context alone, as restored by Xen 4.17\n"
    )
    image = EXAMPLE.read_bytes()
    at = image.index(context_bytes()[:700])
    path.write_bytes(image[:at] + bytes(context[:700]) + image[at + 700 :])
    status, said = run("restore", path, "--format", "json")
    plain = json.loads(said.out)
    assert (status, plain["rule"], plain["offset"]) == (1, "cpu-cr0", at + 32)


def test_json(run: Run) -> None:
    status, said = run(
        "restore", DATA / "images" / "hvm1.hvmctx.bin", "--format", "json", "--vcpus", "1"
    )
    plain = json.loads(said.out)
    assert list(plain) == [
        "verdict", "errno", "rule", "layer", "record", "instance", "offset", "text", "applied",
        "hazards",
    ]  # fmt: skip
    assert status == 0 and plain["verdict"] == "accept" and plain["errno"] is None
    status, said = run(
        "restore", DATA / "images" / "hvm2x420.hvmctx.bin", "--format", "json", "--vcpus", "1"
    )
    plain = json.loads(said.out)
    assert (status, plain["rule"], plain["record"], plain["instance"]) == (
        1,
        "lapic-vcpu",
        "LAPIC",
        1,
    )


@pytest.mark.parametrize("rule", ["cpu-cr0", "tsc-length", "context-end", "vmport-count"])
def test_explain(rule: str, run: Run) -> None:
    status, said = run("restore", "--explain", rule)
    assert status == 0 and said.out.startswith(f"{rule}: ")
    assert f"| {rule} |" in rules_doc.document()


@pytest.mark.parametrize(
    "arguments",
    [(), ("--explain", "nope"), (EXAMPLE, "--release", "9.9"), (EXAMPLE, "--vcpus", "0"),
     (EXAMPLE, "--vcpus", "x"), (EXAMPLE, "--vmport-profile", "nope")],
)  # fmt: skip
def test_usage(arguments: tuple[object, ...], run: Run) -> None:
    status, said = run("restore", *arguments)
    assert status == 2 and said.err.count("\n") == 1 and not said.out


def test_no_context(run: Run) -> None:
    status, said = run("restore", DATA / "streams" / "handbuilt" / "libxc_v3_pv_ok.bin")
    assert (status, said.out[:7]) == (0, "accept:")
    status, said = run("restore", DATA / "streams" / "legacy_hvm_w64.in.bin")
    assert status == 2 and "convert it first" in said.err
    status, said = run("restore", DATA / "images" / "hvm1.hvmctx.bin", "--policy", "/no/such/image")
    assert status == 2 and "No such file" in said.err


def test_the_document_is_current() -> None:
    assert Path(rules_doc.DOCUMENT).read_text() == rules_doc.document(), "run make generate"


MEMBERS = [
    "input", "verdict", "errno", "rule", "layer", "record", "instance", "offset", "text", "applied",
    "hazards",
]  # fmt: skip


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def contexts(tmp_path: Path) -> Path:
    """A directory with one context that is accepted, one that is refused, and what does not
    count."""
    directory = tmp_path / "contexts"
    (directory / "a directory").mkdir(parents=True)
    (directory / "a directory" / "deep.bin").write_bytes(b"")
    (directory / "b.bin").write_bytes(context_bytes())
    (directory / "a.bin").write_bytes(no_cr0())
    (directory / MANIFEST).write_text("{}\n")
    (directory / ".hvmctx-12-0.tmp").write_bytes(b"half")
    os.mkfifo(directory / "fifo")
    return directory


def no_cr0() -> bytes:
    context = bytearray(context_bytes())
    context[40 + 656] = 0
    return bytes(context)


def test_many(run: Run, contexts: Path) -> None:
    arguments = (contexts / "a.bin", EXAMPLE, "--release", "4.17", "--policy", EXAMPLE)
    status, said = run("restore", *arguments, "--format", "ndjson")
    lines = objects(said.out)
    assert status == 1 and not said.err
    assert [list(line) for line in lines] == [MEMBERS, MEMBERS]
    assert [line["input"] for line in lines] == [str(contexts / "a.bin"), str(EXAMPLE)]
    assert [(line["verdict"], line["errno"], line["rule"]) for line in lines] == [
        ("refuse", "EINVAL", "cpu-cr0"),
        ("accept", None, ""),
    ]
    status, said = run("restore", *arguments)
    first, second, last = said.out.splitlines()
    assert last == "judged: 2 inputs, as restored by Xen 4.17: 1 refused, 1 accepted"
    assert status == 1 and second == f"{EXAMPLE}: accept"
    assert first.startswith(f"{contexts / 'a.bin'}: refuse: EINVAL: context: offset 0x20: CPU/0: ")


def test_what_each_says_alone_and_among_many(run: Run, contexts: Path) -> None:
    paths = [contexts / "a.bin", contexts / "b.bin", EXAMPLE, DATA / "images" / "pvhx.save"]
    among = objects(run("restore", *paths, "--format", "ndjson").out)
    for path, line in zip(paths, among):
        alone = json.loads(run("restore", path, "--format", "json").out)
        assert line == {"input": str(path), **alone}
        assert objects(run("restore", path, "--format", "ndjson").out) == [line]


def test_a_directory(run: Run, contexts: Path) -> None:
    status, said = run("restore", contexts, "--release", "4.17", "--format", "ndjson")
    assert (status, said.err) == (1, "")
    names = [str(contexts / name) for name in ("a.bin", "b.bin")]
    assert [line["input"] for line in objects(said.out)] == names
    status, said = run("restore", contexts / "b.bin", contexts / "b.bin", "--release", "4.17")
    assert status == 0 and said.out.count(": accept\n") == 2


def test_unreadable(run: Run, contexts: Path, tmp_path: Path) -> None:
    """It has a line, and the others are judged."""
    (contexts / "0.bin").write_bytes(b"nothing of Xen's")
    absent, empty = tmp_path / "absent", tmp_path / "empty"
    empty.mkdir()
    legacy = DATA / "streams" / "legacy_hvm_w64.in.bin"
    status, said = run(
        "restore", absent, contexts, empty, legacy, "--release", "4.17", "--format", "ndjson"
    )
    lines = objects(said.out)
    assert status == 2 and not said.err
    assert [line["verdict"] for line in lines] == [
        "unreadable", "unreadable", "refuse", "accept", "unreadable", "unreadable",
    ]  # fmt: skip
    assert [list(line) for line in lines] == [MEMBERS] * 6
    words = ["No such file", "nothing that Xen saves", "", "", "no files", "convert it first"]
    assert all(part in line["text"] for part, line in zip(words, lines))
    assert lines[5]["layer"] == "legacy" and not lines[0]["layer"]
    status, said = run("restore", absent, empty)
    assert status == 2 and said.out == (
        f"{absent}: unreadable: No such file or directory\n"
        f"{empty}: unreadable: no files in this directory\n"
        "judged: 2 inputs, as restored by Xen newest: 2 unreadable\n"
    )


@pytest.mark.parametrize("arguments", [("-", "-"), ("-", "--policy", "-"), ("-", EXAMPLE, "-")])
def test_standard_input_twice(run: Run, arguments: tuple[object, ...]) -> None:
    """The second would be judged as an empty file."""
    status, said = run("restore", *arguments)
    assert (status, said.out) == (2, "")
    assert said.err == "hvmctx: restore: standard input can be read only once\n"


def test_policy_and_release_of_many_are_read_once(run: Run, contexts: Path) -> None:
    for wrong in (("--policy", "/no/such/image"), ("--policy", "7"), ("--release", "9.9")):
        status, said = run("restore", contexts, *wrong)
        assert (status, said.out, said.err.count("\n")) == (2, "", 1)
    with patch.object(Guest, "of_image", wraps=Guest.of_image) as of_image:
        run("restore", contexts, contexts, "--policy", EXAMPLE)
    assert of_image.call_count == 1
    status, said = run("restore", contexts, "--format", "json")
    assert status == 2 and "ndjson" in said.err and not said.out


def test_hostile_names(run: Run, contexts: Path) -> None:
    names = ["new\nline: accept", "\x1b[31mred", "tab\t", "\udcff", "{}", "-"]
    for name in names:
        (contexts / name).write_bytes(no_cr0())
    status, said = run("restore", contexts)
    assert status == 1 and len(said.out.splitlines()) == len(names) + 3
    assert not re.search("[^\n -~]", said.out) and r"new\nline: accept: refuse" in said.out
    status, said = run("restore", contexts, "--format", "ndjson")
    found = {os.path.basename(line["input"]) for line in objects(said.out)}
    assert found == {*names, "a.bin", "b.bin"} and not re.search("[^\n -~]", said.out)


def test_broken_pipe_is_quiet(contexts: Path) -> None:
    command = [sys.executable, "-I", "-S", TOOL, "restore", *[str(contexts)] * 1000]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith(str(contexts).encode())
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_a_policy_without_a_policy(run: Run) -> None:
    """A raw context has none: nothing would be refused for it."""
    path = DATA / "images" / "hvm1.hvmctx.bin"
    for paths in ((path,), (path, path)):
        status, said = run("restore", *paths, "--policy", path)
        assert (status, said.out) == (2, "")
        assert said.err == f"hvmctx: restore --policy: {path} has no CPU policy\n"


def test_hostile_name_in_an_error(run: Run, tmp_path: Path) -> None:
    status, said = run("restore", tmp_path / "\x1b[31mred\nline")
    assert status == 2 and r"\x1b[31mred\nline" in said.err and said.err.count("\n") == 1


def test_page_words_beyond_what_is_kept(run: Run, tmp_path: Path) -> None:
    """Of a compressed image the page words pass once: what is wrong with those that are not
    kept is found all the same."""
    bad = hvm(page_data(word(1)), page_data(word(2, 0x5)))
    path = tmp_path / "image"
    path.write_bytes(bad)
    packed = tmp_path / "image.gz"
    packed.write_bytes(gzip.compress(bad))
    plain = run("restore", path)
    assert plain.status == 1 and "[page-data-type]" in plain.out
    for limit in ("0", "24", "1M"):
        assert run("restore", packed, "--limits", f"words={limit}") == plain
