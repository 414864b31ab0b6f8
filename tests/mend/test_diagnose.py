"""What logs say: genuine ones, those of older releases, of several restores, and hostile ones."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi.releases import Release
from hvmctx.edit.editor import edit
from hvmctx.errors import UsageError
from hvmctx.image.image import open_image
from hvmctx.limits import Limits
from hvmctx.mend.diagnose import Diagnosis, diagnose, lines_of
from tests.builders.samples import EXAMPLE, ROOT

LOGS = sorted((ROOT / "examples" / "logs").glob("*.log"))
EXPECTED = {
    "cpu-policy": "cpuid-policy-basic", "cr0": "cpu-cr0", "device-model": "", "hpet-length": "hpet-length",
    "lapic-base": "lapic-base", "libxl-record": "libxl-unknown", "mca-caps": "vmce-vcpu-caps",
    "msrs-too-long": "cpu-msr-cut", "no-end": "context-end", "parameter": "hvm-params-index",
    "pci-link": "pci-link-route", "pending-event": "cpu-event", "pic-elcr": "pic-state",
    "pit-range": "pit-range", "spec-ctrl": "cpu-msr-index", "stream-cut": "stream-damaged",
    "tsc-aux": "cpu-tsc-aux", "type-21": "context-type", "unknown-record": "libxc-unknown",
    "wrong-magic": "stream-damaged", "xsave-excess": "cpu-xsave-excess",
}  # fmt: skip
"""What was changed -> the rule that refused it."""


def of(*lines: str, release: str | None = None) -> Diagnosis:
    return diagnose(lines, release=release)


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_genuine_logs(path: Path) -> None:
    release, _, change = path.stem.partition("-")
    found = diagnose(lines_of(path.read_bytes()))
    assert release in [str(each) for each in found.releases]
    assert found.refused
    if path.stem == "4.20-msrs-too-long":  # of which the hypervisor writes nothing
        (line,) = (line for line in found.said if line.rules)
        assert [rule.id for rule in line.rules] == ["context-bounds"] and not found.reasons
        return
    (reason,) = found.reasons
    ids = [rule.id for rule in reason.rules]
    assert EXPECTED[change] in ids or (not EXPECTED[change] and reason.words), ids
    assert len(ids) < 3 or change == "pending-event"


def test_a_record_that_failed_to_load_and_what_its_loader_said_before() -> None:
    said = "(XEN) HVM2 restore: bad CR4 0x800"
    found = of(said, "(XEN) HVM2 restore: failed to load entry 2/1 rc -22")
    (reason,) = found.reasons
    assert (reason.path, reason.errno, [r.id for r in reason.rules]) == (
        "CPU/1.cr4",
        "EINVAL",
        ["cpu-cr4"],
    )
    assert [str(r) for r in found.releases] == ["4.13", "4.14", "4.15", "4.16", "4.17"]
    newer = of("(XEN) HVM2 restore: bad CR4 0x800 (valid 0x6f0, rejected 0x800)",
               "(XEN) HVM restore d2: failed to load CPU:1 rc -22")  # fmt: skip
    assert newer.releases[0] == Release("4.19") and newer.reasons[0].path == "CPU/1.cr4"
    assert of(said).reasons[0].path == "CPU.cr4"  # the line that names it is missing


def test_silent_refusals_go_by_record_and_errno() -> None:
    found = of("(XEN) HVM restore d24: failed to check PIT:0 rc -33")
    assert [rule.id for rule in found.reasons[0].rules] == ["pit-range"]
    found = of("(XEN) HVM restore d24: failed to check PIT:0 rc -22")
    assert [rule.id for rule in found.reasons[0].rules] == ["pit-gate"]
    found = of("(XEN) HVM8 restore: failed to load entry 2/0 rc -22", release="4.17")
    ids = [rule.id for rule in found.reasons[0].rules]
    assert "cpu-event" in ids and not {"cpu-cr0", "cpu-cr4", "cpu-length", "cpu-dr"} & set(ids)


def test_eperm_of_older_releases_is_explained() -> None:
    """As in 96e5ad4c47; since then EPERM is of a VMCE_VCPU record of a wrong length alone."""
    lines = (
        "xc: error: Unable to restore HVM context (1 = Operation not permitted): Internal error",
        "(XEN) HVM10.0 restore: inconsistent xsave state (feat=0x2ff accum=0x21f xcr0=0x7 bv=0x3 "
        "err=-22)",
        "(XEN) HVM10 restore: failed to load entry 16/0",
    )
    found = of(*lines)
    toolstack, reason = found.said[:2]
    assert "nothing to do with permissions" in toolstack.words and "see line 2" in toolstack.words
    assert (reason.path, reason.errno) == ("CPU_XSAVE/0.xcr0_accum", "EINVAL")
    assert [rule.id for rule in reason.rules] == ["cpu-xsave-states"]
    assert str(found.releases[-1]) == "4.15.0" and found.release == Release("4.15.0")
    new = of(lines[0], release="4.20").said[0]
    assert "permissions" not in new.words


@pytest.mark.parametrize(
    ("line", "release"),
    [("(XEN) Xen version 4.17.4-pre (Debian 4.17.3+10-g091466ba55-1~deb12u1) (x)", "4.17.4"),
     ("xen_version            : 4.20.2", "4.20.2"), ("Xen version nonsense", None),
     ("(XEN)  Xen version 4.14-unstable (root@host)", "4.14"), ("Xen version ", None)],
)  # fmt: skip
def test_the_release_that_a_log_names(line: str, release: str | None) -> None:
    found = of(line, "(XEN) HVM1 restore: bad CR0 0x10")
    assert [str(r) for r in found.releases] == [release] if release else len(found.releases) > 9
    assert of(line, release="4.5").release == Release("4.5")
    with pytest.raises(UsageError):
        of(line, release="5.0")


def test_several_restores_in_one_log() -> None:
    """What has no line that names its record is not taken for another's."""
    found = of(
        "(XEN) HVM1 restore: save did not end with a null entry",
        "(XEN) HVM2 restore: bad CR0 0x0",
        "(XEN) HVM2 restore: failed to load entry 2/0 rc -22",
        "(XEN) HVM3 restore: failed to load entry 9/0 rc -22",
    )
    assert [(r.path, [x.id for x in r.rules][:1]) for r in found.reasons] == [
        ("", ["context-end"]),
        ("CPU/0.cr0", ["cpu-cr0"]),
        ("PCI_LINK/0", ["pci-link-length"]),
    ] or [r.path for r in found.reasons] == ["", "CPU/0.cr0", "PCI_LINK/0"]


@pytest.mark.parametrize(
    ("place", "errno", "ids"),
    [
        ("leaf 00000000, subleaf ffffffff, msr ffffffff", "22 = Invalid", ["cpuid-policy-basic"]),
        ("leaf 00000007, subleaf 00000000, msr ffffffff", "22 = Invalid", ["cpuid-policy-subleaf"]),
        ("leaf 80000000, subleaf ffffffff, msr ffffffff", "22 = Invalid", ["cpuid-policy-extended"]),
        ("leaf 00000024, subleaf 00000000, msr ffffffff", "34 = Range", ["cpuid-policy-place"]),
        ("leaf ffffffff, subleaf ffffffff, msr ffffffff", "7 = Too big", ["cpuid-policy-count"]),
        ("leaf ffffffff, subleaf ffffffff, msr 000000ce", "22 = Invalid", ["msr-policy-flags", "msr-policy-platform"]),
        ("leaf ffffffff, subleaf ffffffff, msr c0010015", "34 = Range", ["msr-policy-index"]),
    ],
)  # fmt: skip
def test_refused_policies(place: str, errno: str, ids: list[str]) -> None:
    found = of(f"xc: error: Failed to set CPUID policy: {place} ({errno}): x", release="4.20")
    assert [rule.id for rule in found.reasons[0].rules] == ids


def test_xenopsd_and_what_refuses_nothing() -> None:
    line = (
        'xapi: [error||12||xenops] xenopsd internal error: Domain.Emu_manager_failure("Received '
        'error from emu-manager: xenguest Invalid argument")'
    )
    found = of(line, "(XEN) HVM1 restore: VM saved on one CPU (0x1) and restored on another (0x2).")
    assert [said.kind for said in found.said] == ["consequence", "note"]
    assert "daemon.log" in found.said[0].words and found.refused
    assert not of("(XEN) HVM1 restore: CPU 0", "unrelated").refused


def test_the_image_tells_which_and_what_mends_it() -> None:
    out = io.BytesIO()
    with open_image(EXAMPLE) as image:
        editor = edit(image)
        editor.set("CPU/0.pending_event", 1 << 31 | 1 << 8)
        editor.set("PCI_LINK/0.route[1]", 77)
        editor.write(out)
    lines = ("(XEN) HVM8 restore: failed to load entry 2/0 rc -22",)
    with open_image(out.getvalue()) as image:
        found = diagnose(lines, image)
    (reason,) = found.reasons
    assert [rule.id for rule in reason.rules] == ["cpu-event"] and found.release == Release("4.17")
    assert found.verdict is not None and found.verdict.rule == "cpu-event"
    assert found.repair is not None and found.repair.verdict.accepted
    assert [str(each) for each in found.repair] == [
        "CPU/0.pending_event=0x0", "PCI_LINK/0.route[1]=0x0"
    ]  # fmt: skip
    with open_image(EXAMPLE) as image:
        found = diagnose(["HVM restore: PCI-ISA link 2 out of range (77)",
                          "HVM28 restore: failed to load entry 9/0 rc -22"], image)  # fmt: skip
    assert found.reasons[0].value == "0xb" and found.repair == []


def test_bounded() -> None:
    lines = [f"(XEN) HVM{n} restore: bad CR0 0x0" for n in range(200)]
    found = diagnose(lines, limits=Limits(rule_findings=50))
    assert len(found.said) == 50 and found.full and not diagnose(lines).full
    assert list(lines_of(b"a" * 100_000 + b"\r\nb\n\n\xff\x00")) == [
        "a" * 2000,
        "b",
        "",
        "\\xff\x00",
    ]


NUMBERS = st.sampled_from(["0", "00012", "99999", "0x", "0xffffffffffffffff", "-3", "1" * 30])


@given(st.lists(st.tuples(NUMBERS, NUMBERS, st.text(max_size=20)), max_size=5))
def test_hostile_numbers_and_names(parts: list[tuple[str, str, str]]) -> None:
    lines = [
        line
        for a, b, text in parts
        for line in (
            f"restore: failed to load entry {a}/{b} rc -{a}",
            f"HVM restore d1: failed to load {text}:{a} rc -{b}",
            f"restore: PCI-ISA link {a} out of range ({b})",
            f"restore: unknown entry typecode {a}",
            f"Failed to set CPUID policy: leaf {b}, subleaf {a}, msr {b} ({a} = {text})",
        )
    ]
    found = diagnose(lines)
    for said in found.said:
        said.as_dict(), repr(said), said.path
    with open_image(EXAMPLE) as image:
        diagnose(lines, image)
