"""What a load depends on besides the bytes."""

from __future__ import annotations

import struct

import pytest

from hvmctx.abi.releases import RELEASES, Release
from hvmctx.abi.vmport import XEN_4_5_V6
from hvmctx.errors import FormatError
from hvmctx.image.image import open_image
from hvmctx.restore.host import DEVICES, EAX, EBX, ECX, EDX, FEATURES, PVH_DEVICES, Host
from tests.builders.samples import DATA, EXAMPLE, context_bytes
from tests.builders.streams import libxc_stream, libxl_head, record, xl_head

ALL_ONES = 0xFFFFFFFF
Row = tuple[int, int, int, int, int, int]


def row(leaf: int, subleaf: int | None = None, **registers: int) -> Row:
    values = (registers.get(name, 0) for name in ("eax", "ebx", "ecx", "edx"))
    return (leaf, ALL_ONES if subleaf is None else subleaf, *values)  # type: ignore[return-value]


def without(place: Row, register: int, bit: int) -> Row:
    made = list(place)
    made[register] &= ~(1 << bit)
    return tuple(made)  # type: ignore[return-value]


@pytest.mark.parametrize("name", FEATURES)
def test_every_feature_is_one_bit_of_the_policy(name: str) -> None:
    leaf, subleaf, register, bit = FEATURES[name]
    everything = row(leaf, subleaf, eax=ALL_ONES, ebx=ALL_ONES, ecx=ALL_ONES, edx=ALL_ONES)
    assert Host(leaves=[everything]).has(name)
    assert not Host(leaves=[without(everything, register, bit)]).has(name)
    others = [0, 0, 0, 0, 0, 0]
    others[:2], others[register] = everything[:2], 1 << bit
    only = Host(leaves=[tuple(others)])  # type: ignore[list-item]
    assert {other for other in FEATURES if only.has(other)} == {name}
    assert not Host(leaves=[row(0x77)]).has(name), "no such leaf"
    assert Host().has(name), "no policy: nothing is refused for it"


def test_bits_of_the_manuals() -> None:
    """A few, as Intel's and AMD's manuals have them."""
    assert FEATURES["PAE"] == (1, None, EDX, 6) and FEATURES["VMX"] == (1, None, ECX, 5)
    assert FEATURES["SMEP"] == (7, 0, EBX, 7) and FEATURES["LASS"] == (7, 1, EAX, 6)
    assert FEATURES["SVM"] == (0x80000001, None, ECX, 2)
    assert FEATURES["NX"] == (0x80000001, None, EDX, 20)
    assert {name: place[2:] for name, place in FEATURES.items() if place[:2] == (7, 0)} == {
        "FSGSBASE": (EBX, 0), "SMEP": (EBX, 7), "MPX": (EBX, 14), "SMAP": (EBX, 20),
        "UMIP": (ECX, 2), "PKU": (ECX, 3), "CET_SS": (ECX, 7), "PKS": (ECX, 31),
        "CET_IBT": (EDX, 20), "IBRSB": (EDX, 26),
    }  # fmt: skip
    assert len(set(FEATURES.values())) == len(FEATURES)


@pytest.mark.parametrize(
    ("name", "vendor"),
    [(b"AuthenticAMD", "amd"), (b"HygonGenuine", "amd"), (b"GenuineIntel", "intel"),
     (b"CentaurHauls", "intel")],
)  # fmt: skip
def test_vendors(name: bytes, vendor: str) -> None:
    ebx, edx, ecx = struct.unpack("<3I", name)
    assert Host(leaves=[row(0, ebx=ebx, ecx=ecx, edx=edx)]).vendor == vendor
    assert Host(leaves=[row(0, ebx=ebx, ecx=ecx, edx=edx)], vendor="amd").vendor == "amd"
    assert Host().vendor == "intel"


def test_widths_of_addresses() -> None:
    assert Host(leaves=[row(0x80000008, eax=0x3028)]).maxphysaddr == 40
    assert Host(leaves=[row(1)]).maxphysaddr == 36, "as a CPU without the leaf"
    assert Host().maxphysaddr == 52


def test_xsave() -> None:
    leaves = [
        row(0xD, 0, eax=0x207, edx=1),
        row(0xD, 2, eax=256, ebx=576),
        row(0xD, 9, eax=8, ebx=832),
    ]
    host = Host(leaves=leaves)
    assert host.xcr0_max == 0x1_0000_0207
    sizes = {0: 0, 1: 576, 3: 576, 7: 832, 0x200: 840, 0x207: 840, 0xF: 832}
    assert {states: host.xsave_size(states) for states in sizes} == sizes
    usual = {3: 576, 7: 832, 0x1F: 1088, 0xE7: 2688, 0x2FF: 2696}
    assert {states: Host().xsave_size(states) for states in usual} == usual
    assert Host().xcr0_max == 0x2FF


FIRST = {0x48: "4.10", 0x140: "4.10", 0x6E1: "4.18", 0xDA0: "4.13", 0xC001011F: "4.17"}


@pytest.mark.parametrize("index", [*FIRST, 0xD90, 0xC0011027, 0xC0011019, 0xC001101A, 0xC001101B])
def test_msrs_that_a_release_takes(index: int) -> None:
    takes = [name for name in RELEASES if Host(name).takes_msr(index)]
    since = FIRST.get(index, "4.5")
    assert takes == [name for name in RELEASES if Release(name).since(since)]


def test_msrs_that_none_takes() -> None:
    assert not any(Host(name).takes_msr(index) for name in RELEASES for index in (0, 0x10, 0x49))


def image_of(config: str, *records: bytes) -> bytes:
    data = config.encode() + b"\0"
    head = xl_head(struct.pack("<I", len(data)) + data)
    return head + libxl_head() + record(1) + libxc_stream(record(16), *records) + record(0)


@pytest.mark.parametrize(
    ("config", "vcpus", "pvh"),
    [
        ('{"c_info": {"type": "hvm"}, "b_info": {"max_vcpus": 3}}', 3, False),
        ('{"c_info": {"type": "pvh"}, "b_info": {"max_vcpus": 3}}', 3, True),
        ('{"b_info": {"max_vcpus": "3"}}', 128, False),
        ('{"c_info": 5, "b_info": []}', 128, False),
        ("[]", 128, False),
    ],
)
def test_of_a_configuration(config: str, vcpus: int, pvh: bool) -> None:
    with open_image(image_of(config)) as image:
        host = Host.of_image(image, "4.17", vmport=XEN_4_5_V6)
        assert Host.of_image(image, "4.17", 7).vcpus == 7
    assert (host.vcpus, host.devices) == (vcpus, PVH_DEVICES if pvh else DEVICES)
    assert str(host.release) == "4.17" and host.vmport is XEN_4_5_V6 and not host.nested


def test_of_parameters_and_policies() -> None:
    nested = record(10, struct.pack("<II2Q", 1, 0, 24, 1))
    policy = record(17, struct.pack("<6I", *row(1, edx=1 << 6)))
    with open_image(image_of("{}", nested, policy)) as image:
        host = Host.of_image(image, Release("4.17"))
    assert host.nested and host.has("PAE") and not host.has("PGE")
    with open_image(context_bytes()) as image:
        bare = Host.of_image(image, "4.17")
    assert (bare.vcpus, bare.leaves, bare.devices) == (128, {}, DEVICES)


def test_of_genuine_images() -> None:
    with open_image(EXAMPLE) as image:
        host = Host.of_image(image, "4.17")
    assert (host.vendor, host.vcpus, host.maxphysaddr, host.devices) == ("amd", 1, 40, DEVICES)
    with open_image(DATA / "images" / "pvhx.save") as image:
        assert Host.of_image(image, "4.17").devices == PVH_DEVICES


def test_what_is_no_policy_is_an_error() -> None:
    with open_image(image_of("{}", record(17, bytes(25)))) as image, pytest.raises(FormatError):
        Host.of_image(image, "4.17")
    with open_image(image_of("{")) as image, pytest.raises(FormatError, match="not JSON"):
        Host.of_image(image, "4.17")
