"""What a machine offers: its JSON, and the text of Xen's tools."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.errors import FormatError
from hvmctx.restore.host import POLICIES, Host
from hvmctx.restore.machine import AMD
from tests.builders.hosts import CPUID, INFO


def test_text_of_the_tools() -> None:
    host = Host.from_text(CPUID, INFO)
    assert list(host.policies) == ["raw", "host", "hvm_max"]
    assert (host.vendor, host.hvm, host.hap, host.nested) == (AMD, True, True, True)
    assert (host.khz, host.cpus) == (2596128, 2)
    assert host.xen["command_line"] == "console=com1 a:b" and not host.xen["changeset"]
    assert host.policies["raw"][1] == [(0xCE, 0, 1 << 31)]
    plain = host.as_dict()
    assert plain["cpu"] == {
        "vendor": "amd", "model": "QEMU TCG CPU ver", "cpus": 2, "physical_address_bits": 40
    }  # fmt: skip
    assert repr(host.machine()) == "<machine, amd>"


def test_json_and_back() -> None:
    host = Host.from_text(CPUID, INFO)
    plain = json.loads(json.dumps(host.as_dict()))
    assert Host.from_dict(plain).as_dict() == plain
    assert plain["hvmctx_host"] == 1
    plain["something"] = plain["cpu"]["more"] = 1  # of a version to come
    assert Host.from_dict(plain).as_dict() == host.as_dict()


def test_without_xl_info() -> None:
    host = Host.from_text(CPUID)
    assert (host.hvm, host.hap, host.khz, host.xen["version"]) == (None, None, 0, "")
    assert host.nested  # as far as is known


def test_a_xen_that_does_not_tell_of_hap() -> None:
    assert Host.from_text(CPUID, b"virt_caps : hvm hvm_directio\n").hap is None


def test_policies_of_the_hypervisor() -> None:
    host = Host.from_bytes(
        {"raw": (bytes(24), bytes(16))}, xen={"version": "4.17.7"}, hvm=False, hap=None, khz=1, cpus=1
    )  # fmt: skip
    assert host.policies == {"raw": ([(0,) * 6], [(0, 0, 0)])}
    assert host.vendor is None and host.nested is None and host.policy("host") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "no CPU policy"),
        (b"  00000000:ffffffff -> 0000000d:68747541:444d4163:69746e65\n", "no CPU policy"),
        (CPUID + CPUID, "a policy comes twice"),
        (CPUID * 2000, "too long for the output of xen-cpuid -p"),
        (b"Raw policy: 1 leaves, 0 MSRs\n" + b"000000ce -> 0000000000000000\n" * 5000,
         "a policy is too long"),
    ],
)  # fmt: skip
def test_texts_that_are_not_it(text: bytes, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        Host.from_text(text)


@pytest.mark.parametrize(
    "change",
    [
        {"hvmctx_host": 2}, {"hvmctx_host": "1"}, {"policies": []}, {"xen": 1}, {"cpu": None},
        {"policies": {"raw": {"cpuid": 1}}}, {"policies": {"raw": {"cpuid": ["x"]}}},
        {"policies": {"raw": {"msr": [1]}}}, {"policies": {"raw": {"msr": ["0"] * 5000}}},
    ],
)  # fmt: skip
def test_documents_that_are_not_it(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        Host.from_dict({**Host.from_text(CPUID).as_dict(), **change})
    with pytest.raises(FormatError):
        Host.from_dict([change])


def test_values_of_other_types_count_as_unknown() -> None:
    plain = {"hvmctx_host": 1, "hvm": {"hvm": 1}, "tsc": {"khz": -1}, "cpu": {"cpus": 1 << 80}}
    host = Host.from_dict({**plain, "xen": {"version": 1}, "policies": {"raw": 1, "other": {}}})
    assert (host.hvm, host.khz, host.cpus, host.policies) == (None, 0, 0, {})
    assert host.machine().vendor is None


LINES = st.sampled_from([*CPUID.splitlines(), *INFO.splitlines(), b"Raw policy: 9999999999"])


@given(st.lists(st.one_of(LINES, st.binary(max_size=60)), max_size=30), st.binary(max_size=200))
def test_any_text(lines: list[bytes], info: bytes) -> None:
    try:
        host = Host.from_text(b"\n".join(lines), info)
    except FormatError:
        return
    plain = json.loads(json.dumps(host.as_dict()))
    assert Host.from_dict(plain).as_dict() == plain
    assert set(host.policies) <= set(POLICIES)
