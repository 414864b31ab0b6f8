from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.builders.running import Run
from tests.builders.samples import DATA, EXAMPLE, context_bytes
from tools import rules_doc


def test_accept(run: Run) -> None:
    status, said = run("restore", EXAMPLE, "--release", "4.17")
    assert (status, said.out) == (0, "accept: Xen 4.17 would restore this image\n")


def test_refuse(run: Run, tmp_path: Path) -> None:
    context = bytearray(context_bytes())
    context[40 + 656] = 0  # cr0 without ET
    path = tmp_path / "context"
    path.write_bytes(context)
    status, said = run("restore", path, "--release", "4.17", "--policy", EXAMPLE)
    assert status == 1
    assert said.out == (
        "refuse: Xen 4.17: EINVAL: context: offset 0x20: CPU/0: cr0 has an unknown bit, or no ET, "
        f"or PG without PE: cr0 is {int.from_bytes(context[696:704], 'little'):#x} [cpu-cr0]\n"
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
    assert status == 1 and "convert it first" in said.err
    status, said = run("restore", DATA / "images" / "hvm1.hvmctx.bin", "--policy", "/no/such/image")
    assert status == 1 and "No such file" in said.err


def test_the_document_is_current() -> None:
    assert Path(rules_doc.DOCUMENT).read_text() == rules_doc.document(), "run make generate"
