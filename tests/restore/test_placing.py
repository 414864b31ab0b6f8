"""Images placed on hosts: whether they are taken, and what their guests lose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hvmctx.abi.cpuid import EAX, EBX, ECX, EDX, FEATURES, NO_SUBLEAF
from hvmctx.abi.releases import Release
from hvmctx.edit.editor import edit
from hvmctx.errors import FormatError
from hvmctx.image.image import open_image
from hvmctx.restore.guest import Guest
from hvmctx.restore.host import Host
from hvmctx.restore.placing import CREATION, EFFECTS, Placement, place
from hvmctx.restore.policy import CpuPolicy
from tests.builders.loads import having
from tests.builders.samples import EXAMPLE
from tests.builders.streams import pv
from tools.policies import held

HOSTS = {one.name: one.host for one in held()}
AMD = HOSTS["amd 4.17 samples"]
AMD.khz = 2599997  # as of the boot in which the example was made
XEN = Release("4.17")


def without(*names: str, host: Host = AMD, **changes: Any) -> Host:
    """The host without some features for its guests."""
    plain = {name: (list(rows[0]), list(rows[1])) for name, rows in host.policies.items()}
    for name in names:
        leaf, subleaf, register, bit = FEATURES[name]
        for which in ("hvm_max", "hvm_default"):
            rows = [list(row) for row in plain[which][0]]
            for row in rows:
                if row[0] == leaf and row[1] == (NO_SUBLEAF if subleaf is None else subleaf):
                    row[register] &= ~(1 << bit)
            plain[which] = ([tuple(row) for row in rows], plain[which][1])  # type: ignore[misc]
    given = {"xen": host.xen, "hvm": host.hvm, "hap": host.hap, "khz": host.khz, **changes}
    return Host(policies=plain, **given)


def placed(host: Host, release: str = "4.17", image: Path = EXAMPLE, **more: Any) -> Placement:
    with open_image(image) as opened:
        return place(opened, host, Release(release), **more)


def with_policy(**changed: Any) -> Any:
    """The guest of an image with other attributes."""

    def guest_of(image: Any) -> Guest:
        guest = Guest.of_image(image)
        for name, value in changed.items():
            setattr(guest, name, value)
        return guest

    return guest_of


def found(placement: Placement) -> dict[str, str]:
    return {finding.rule: finding.text for finding in placement.findings}


def test_a_host_that_has_everything() -> None:
    placement = placed(AMD)
    assert placement.verdict.accepted and not placement.lost and not placement.findings
    assert repr(placement) == "<accept, 0 features lost>" and not placement.in_short
    assert placement.outcome is not None and placement.outcome.errno is None


def test_domains_that_are_not_made() -> None:
    assert {rule.id for rule in CREATION} == {"host-hvm", "host-hap", "host-nested"}
    assert placed(without(hvm=False)).verdict.rule == "host-hvm"
    nested = with_policy(nested=True)
    assert placed(without(hap=False), guest_of=nested).verdict.rule == "host-nested"
    assert placed(AMD, guest_of=nested).verdict.accepted
    bare = without("SVM")
    assert placed(bare, "4.18", guest_of=nested).verdict.accepted
    assert placed(bare, "4.19", guest_of=nested).verdict.rule == "host-nested"
    # a guest that asks for it, and one that takes what there is
    assert placed(without(hap=False)).verdict.accepted
    assert placed(without(hap=False)).lost
    refused = placed(without(hvm=False)).as_dict()
    assert refused["errno"] == "EINVAL" and refused["lost"] == refused["findings"] == []


def test_hap_that_is_asked_for(tmp_path: Path) -> None:
    data = EXAMPLE.read_bytes()
    line = b'"run_hotplug_scripts": "True"'
    asked = data.replace(line, b'"hap": "True"'.ljust(len(line)), 1)
    assert len(asked) == len(data) and asked != data
    (tmp_path / "hap.save").write_bytes(asked)
    assert placed(without(hap=False), image=tmp_path / "hap.save").verdict.rule == "host-hap"
    assert placed(AMD, image=tmp_path / "hap.save").verdict.accepted


def test_a_policy_that_is_refused() -> None:
    plain = AMD.as_dict()
    rows = plain["policies"]["hvm_max"]["cpuid"]  # type: ignore[call-overload,index]
    rows[:] = [row.replace("-> 80000021", "-> 80000008") for row in rows]  # type: ignore
    placement = placed(Host.from_dict(plain))
    verdict = placement.verdict
    assert (verdict.rule, verdict.errno) == ("cpuid-policy-extended", "EINVAL")
    assert verdict.record == "X86_CPUID_POLICY" and verdict.layer == "libxc"
    with open_image(EXAMPLE) as image:
        assert verdict.offset in [one.offset for one in image.records if one.name == verdict.record]


@pytest.mark.parametrize(
    ("feature", "path", "value", "words", "rule"),
    [
        ("UMIP", "CPU/0.cr4", 0x6F0 | 1 << 11, "CR4 has UMIP", "cpu-cr4"),
        ("SMEP", "CPU/0.cr4", 1 << 20, "CR4 has SMEP", "cpu-cr4"),
        ("NX", "CPU/0.msr_efer", 1 << 11, "EFER has NXE", "cpu-efer"),
        ("SYSCALL", "CPU/0.msr_efer", 1, "EFER has SCE", "cpu-efer"),
    ],
)
def test_a_feature_in_use(
    feature: str, path: str, value: int, words: str, rule: str, tmp_path: Path
) -> None:
    with open_image(EXAMPLE) as image:
        editor = edit(image)
        editor.set(path, value)
        editor.write(tmp_path / "used.save")
    assert placed(AMD, image=tmp_path / "used.save").verdict.accepted
    placement = placed(without(feature), image=tmp_path / "used.save")
    assert placement.verdict.rule == rule and placement.blocking == [feature]
    text = found(placement)["host-feature-used"]
    assert text.endswith(f": {feature}: guest has it, host offers it not; {words}")
    assert placement.in_short.startswith(f"needs {feature}")
    (finding,) = (one for one in placement.findings if one.rule == "host-feature-used")
    assert finding.record == "CPU/0" and finding.offset == placement.verdict.offset


def test_what_becomes_of_the_guest() -> None:
    assert len(EFFECTS) == 7
    placement = placed(without("PKU", "AVX", "VAES"))
    assert placement.verdict.accepted and {"PKU", "AVX", "AVX2"} <= {*placement.lost}
    texts = found(placement)
    assert "AVX2" in texts["host-feature-lost"] and "host-feature-used" not in texts
    assert "2696 bytes in the image, 576 on this host" in texts["host-xstate"]
    assert placement.in_short.startswith("loses ") and " more" in placement.in_short


def test_address_bits() -> None:
    plain = AMD.as_dict()
    rows = plain["policies"]["hvm_max"]["cpuid"]  # type: ignore[call-overload,index]
    rows[:] = [row.replace("00003028:", "00003025:") for row in rows]  # type: ignore
    texts = found(placed(Host.from_dict(plain)))
    assert texts == {
        "host-address-bits": "fewer physical address bits: 40 bits in the image, 37 on this host"
    }


def test_another_vendor() -> None:
    rows = {name: (list(leaves), msrs) for name, (leaves, msrs) in AMD.policies.items()}
    for leaves, _ in rows.values():
        first = list(leaves[0])
        first[EBX], first[EDX], first[ECX] = 0x756E6547, 0x49656E69, 0x6C65746E
        leaves[0] = tuple(first)  # type: ignore[assignment]  # of six
    intel = Host(policies=rows, xen=AMD.xen, hvm=True, hap=True, khz=AMD.khz)
    assert "amd in the image, intel here" in found(placed(intel))["host-vendor"]
    assert placed(intel, "4.22").verdict.rule == "cpuid-policy-vendor"


@pytest.mark.parametrize(
    ("mode", "khz", "scaling", "words"),
    [
        (0, 2599997, False, ""), (0, 5, False, "emulated, and slow"), (0, 5, True, ""),
        (1, 5, False, ""), (2, 5, False, "its clock goes wrong"), (0, 0, False, ""),
    ],
)  # fmt: skip
def test_tsc(mode: int, khz: int, scaling: bool, words: str, tmp_path: Path) -> None:
    host = without(khz=khz)
    if scaling:
        rows = host.policies["raw"][0]
        at = [row[0] for row in rows].index(0x8000000A)
        leaf, subleaf, a, b, c, d = rows[at]
        rows[at] = leaf, subleaf, a, b, c, d | 1 << 4
    with open_image(EXAMPLE) as image:
        (at,) = (one.body_offset for one in image.records if one.name == "X86_TSC_INFO")
    data = bytearray(EXAMPLE.read_bytes())
    data[at : at + 4] = mode.to_bytes(4, "little")
    (tmp_path / "tsc.save").write_bytes(data)
    text = found(placed(host, image=tmp_path / "tsc.save")).get("host-tsc", "")
    assert (words in text) if words else not text


def test_images_without_a_policy() -> None:
    """libxl makes one up for a stream of 4.13; a bare context goes into a new guest."""
    with open_image(EXAMPLE) as image:
        context = bytes(image.context_bytes())
    with open_image(context) as image:
        placement = place(image, AMD, XEN)
    assert placement.verdict.accepted and [*found(placement)] == ["host-no-policy"]
    nothing = with_policy(leaves={}, msrs={}, vendor=None)
    placement = placed(AMD, guest_of=nothing)
    assert placement.verdict.accepted and placement.outcome is not None
    assert placement.outcome.policy.register(0x80000000, None, EAX) == 0x8000001C
    newer = placed(AMD, "4.20", guest_of=nothing).outcome
    assert newer is not None and newer.policy.register(0x80000000, None, EAX) == 0x80000021


def test_a_policy_of_another_guest() -> None:
    other = having("FPU", rows=[(0, NO_SUBLEAF, 1, 0x68747541, 0x444D4163, 0x69746E65)])
    placement = placed(AMD, guest_of=lambda _: other)
    assert placement.outcome is not None and placement.outcome.policy.has("FPU")
    assert placement.outcome.policy.register(0, None, EAX) == 1


def test_what_is_not_judged() -> None:
    """Policies of PV guests, and by releases without any: streams and context are."""
    placement = placed(AMD, "4.13")
    assert "host-unjudged" not in found(placement)
    old = placed(AMD, "4.12")
    assert found(old) == {"host-unjudged": "the CPU policy is not judged: Xen 4.12 keeps none"}
    assert old.verdict.rule == "libxc-version"
    with open_image(pv()) as image:
        placement = place(image, AMD, XEN)
    assert placement.verdict.accepted
    assert found(placement)["host-unjudged"].endswith(": the guest is PV")
    with pytest.raises(FormatError, match="the most that HVM guests"):
        placed(Host(policies={"host": AMD.policies["host"]}))


def test_the_context_is_judged_with_what_is_left() -> None:
    """Whatever the guest had, its CR4 may only have what the clamped policy allows."""
    guests = [Guest(leaves=AMD.policies["hvm_max"][0]), Guest(leaves=[(1, NO_SUBLEAF, 0, 0, 0, 0)])]
    assert placed(AMD, guest_of=lambda _: guests[0]).verdict.accepted
    assert CpuPolicy(AMD.policies["hvm_max"][0]).has("SMEP")


def test_a_host_that_an_image_stands_in_for() -> None:
    with open_image(EXAMPLE) as image:
        host = Host.of_image(image)
    assert host.release == Release("4.17") and host.vendor == "amd" and host.khz
    placement = placed(host)
    assert placement.verdict.accepted and not placement.findings
    with open_image(pv()) as image, pytest.raises(FormatError, match="cannot stand in"):
        Host.of_image(image)
