"""replace as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvmctx.context.hvm_context import HvmContext
from hvmctx.image.image import open_image
from tests.builders.running import Run, bare
from tests.builders.samples import DATA, EXAMPLE, context_bytes

WHATS = [
    "hvm-context",
    "emulator",
    "record:CPU/0",
    "record:X86_TSC_INFO",
    "record:EMULATOR_CONTEXT",
]


@pytest.mark.parametrize("what", WHATS)
def test_replace_with_itself(what: str, run: Run, tmp_path: Path) -> None:
    payload, out = tmp_path / "payload", tmp_path / "out"
    assert run("extract", EXAMPLE, "-o", payload, "--what", what)[0] == 0
    assert run("replace", EXAMPLE, payload, "-o", out, "--what", what)[0] == 0
    assert out.read_bytes() == EXAMPLE.read_bytes()


@pytest.mark.parametrize("what", WHATS)
def test_replace_with_another_length(what: str, run: Run, tmp_path: Path) -> None:
    payload, out, back = tmp_path / "payload", tmp_path / "out", tmp_path / "back"
    payload.write_bytes(b"other payload")
    assert run("replace", EXAMPLE, payload, "-o", out, "--what", what)[0] == 0
    with open_image(out) as image:
        assert image.complete and not image.notes
    assert run("extract", out, "-o", back, "--what", what)[0] in (0, 1)
    assert back.read_bytes() == b"other payload"


def test_replace_in_a_bare_context(run: Run, tmp_path: Path) -> None:
    payload, out = tmp_path / "payload", tmp_path / "out"
    payload.write_bytes(bytes(8))
    context = DATA / "images" / "hvm1.hvmctx.bin"
    assert run("replace", context, payload, "-o", out, "--what", "record:TSC_ADJUST")[0] == 0
    assert len(out.read_bytes()) == len(context_bytes())
    status, said = run("replace", context, tmp_path / "absent", "-o", out, "--force")
    assert status == 1 and "No such file" in said.err


def test_one_record_of_several(run: Run, tmp_path: Path) -> None:
    context, payload, out = DATA / "images" / "hvm1.hvmctx.bin", tmp_path / "in", tmp_path / "out"
    payload.write_bytes(b"12345678")
    assert run("replace", context, payload, "-o", out, "--what", "record:PIC/1") == (0, ("", ""))
    before, after = (
        HvmContext.from_bytes(context.read_bytes()),
        HvmContext.from_bytes(out.read_bytes()),
    )
    assert [bytes(r.body) for r in after.records("PIC")] == [
        bytes(before.records("PIC")[0].body), b"12345678",
    ]  # fmt: skip
    changed = [a != b for a, b in zip(context.read_bytes(), out.read_bytes())]
    assert 0 < sum(changed) <= 8


@pytest.mark.parametrize(
    ("what", "status", "reason"),
    [
        (
            "bogus",
            2,
            "memory, a path, or record:TYPE/INSTANCE",
        ),
        ("record:CPU/7", 1, "no CPU/7 record"),
        ("record:HVM_PARAMS/1", 1, "no HVM_PARAMS/1 record; it has 1"),
    ],
)
def test_what_is_not_there(what: str, status: int, reason: str, run: Run, tmp_path: Path) -> None:
    payload, out = tmp_path / "payload", tmp_path / "out"
    payload.write_bytes(b"x")
    result = run("replace", EXAMPLE, payload, "-o", out, "--what", what)
    assert result.status == status and reason in result.err and result.err.count("\n") == 1
    assert not out.exists()


def test_a_payload_from_standard_input(tmp_path: Path) -> None:
    done = bare(
        "replace", DATA / "images" / "hvm1.hvmctx.bin", "-", "-o", "-", "--what",
        "record:TSC_ADJUST", stdin=b"\7" + bytes(7),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert HvmContext.from_bytes(done.stdout).vcpus[0].tsc_adjust.tsc_adjust == 7


def test_the_configuration_and_values_by_their_paths(run: Run, tmp_path: Path) -> None:
    """extract gives what replace takes."""
    part, out = tmp_path / "part", tmp_path / "out"
    for what in (
        "config", "config.c_info.name", "CPU/0", "CPU/0.fpu_regs[0:+24]", "CPU/0.rip",
        "CPUID[7,0]", "HVM_PARAMS.STORE_PFN", "X86_TSC_INFO/0", "HVM_CONTEXT",
    ):  # fmt: skip
        result = run("extract", EXAMPLE, "--what", what, "-o", part, "--force")
        assert result == (0, ("", "")), what
        result = run("replace", EXAMPLE, part, "--what", what, "-o", out, "--force")
        assert result == (0, ("", "")) and out.read_bytes() == EXAMPLE.read_bytes(), what
    part.write_bytes(b'{"c_info": {"name": "other"}}')
    run("replace", EXAMPLE, part, "--what", "config", "-o", out, "--force")
    assert run("get", out, "config.c_info.name").out == "other\n"
    part.write_text("renamed\n")
    run("replace", EXAMPLE, part, "--what", "config.c_info.name", "-o", out, "--force")
    assert run("diff", EXAMPLE, out).out == 'config.c_info.name: "hvm1" -> "renamed"\n'
    result = run("replace", EXAMPLE, part, "--what", "memory", "-o", out, "--force")
    assert result == (2, ("", "hvmctx: memory: it is extracted, and never replaced\n"))
