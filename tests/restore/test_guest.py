"""The guest that a context is loaded into."""

from __future__ import annotations

import struct

import pytest

from hvmctx.abi.cpuid import FEATURES
from hvmctx.errors import FormatError
from hvmctx.image.image import open_image
from hvmctx.restore.guest import DEVICES, MOST_VCPUS, PVH_DEVICES, Guest
from tests.builders.samples import DATA, EXAMPLE, context_bytes
from tests.builders.streams import (
    hvm,
    libxc_stream,
    libxl_head,
    page_data,
    record,
    word,
    xl_head,
)

ALL_ONES = 0xFFFFFFFF
Row = tuple[int, int, int, int, int, int]


def row(leaf: int, subleaf: int | None = None, **registers: int) -> Row:
    values = (registers.get(name, 0) for name in ("eax", "ebx", "ecx", "edx"))
    return (leaf, ALL_ONES if subleaf is None else subleaf, *values)  # type: ignore[return-value]


def without(place: Row, register: int, bit: int) -> Row:
    made = list(place)
    made[register] &= ~(1 << bit)
    return tuple(made)  # type: ignore[return-value]


def test_every_feature_is_one_bit_of_the_policy() -> None:
    assert not Guest(leaves=[row(0x77)]).has("FPU"), "no such leaf"
    assert all(map(Guest().has, FEATURES)), "no policy: nothing is refused for it"
    for name, (leaf, subleaf, register, bit) in FEATURES.items():
        everything = row(leaf, subleaf, eax=ALL_ONES, ebx=ALL_ONES, ecx=ALL_ONES, edx=ALL_ONES)
        assert Guest(leaves=[everything]).has(name)
        assert not Guest(leaves=[without(everything, register, bit)]).has(name)
        others = [0, 0, 0, 0, 0, 0]
        others[:2], others[register] = everything[:2], 1 << bit
        only = Guest(leaves=[tuple(others)])  # type: ignore[list-item]
        assert [other for other in FEATURES if only.has(other)] == [name]


@pytest.mark.parametrize(
    ("name", "vendor"),
    [(b"AuthenticAMD", "amd"), (b"HygonGenuine", "amd"), (b"GenuineIntel", "intel"),
     (b"CentaurHauls", None)],
)  # fmt: skip
def test_vendors(name: bytes, vendor: str | None) -> None:
    ebx, edx, ecx = struct.unpack("<3I", name)
    assert Guest(leaves=[row(0, ebx=ebx, ecx=ecx, edx=edx)]).vendor == vendor
    assert Guest().vendor is None


def test_what_memory_a_guest_has() -> None:
    """Asked of the image: data pages and those that are only allocated, not absent ones."""
    words = [word(5), word(6, 0x7), word(7, 0xE), word(8, 0xF)]
    with open_image(hvm(page_data(*words))) as image:
        has_page = Guest.of_image(image).has_page
        assert has_page is not None
        assert [has_page(pfn) for pfn in range(4, 10)] == [False, True, False, True, False, False]
    with open_image(EXAMPLE) as image:
        has_page = Guest.of_image(image).has_page
        assert has_page is not None
    assert has_page(1 << 40), "closed before anything was asked"
    with open_image(context_bytes()) as image:
        assert Guest.of_image(image).has_page is None
    assert Guest().has_page is None


def test_widths_of_addresses() -> None:
    assert Guest(leaves=[row(0x80000008, eax=0x3028)]).maxphysaddr == 40
    assert Guest(leaves=[row(1)]).maxphysaddr == 36, "as a CPU without the leaf"
    assert Guest().maxphysaddr == 52


def test_xsave() -> None:
    leaves = [
        row(0xD, 0, eax=0x207, edx=1),
        row(0xD, 2, eax=256, ebx=576),
        row(0xD, 9, eax=8, ebx=832),
    ]
    guest = Guest(leaves=leaves)
    assert guest.xcr0_max == 0x1_0000_0207
    sizes = {0: 0, 1: 576, 3: 576, 7: 832, 0x200: 840, 0x207: 840, 0xF: 832}
    assert {states: guest.xsave_size(states) for states in sizes} == sizes
    usual = {3: 576, 7: 832, 0x1F: 1088, 0xE7: 2688, 0x2FF: 2696}
    assert {states: Guest().xsave_size(states) for states in usual} == usual
    assert Guest().xcr0_max == 0x2FF


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
        guest = Guest.of_image(image)
        assert Guest.of_image(image, 7).vcpus == 7
    assert (guest.vcpus, guest.devices) == (vcpus, PVH_DEVICES if pvh else DEVICES)
    assert not guest.nested


def test_hap_and_viridian() -> None:
    assert Guest().hap and Guest().viridian
    for created, hap in (("", True), (', "hap": "False"', False), (', "hap": "True"', True)):
        with open_image(image_of(f'{{"c_info": {{"type": "hvm"{created}}}}}')) as image:
            assert Guest.of_image(image).hap == hap
    with open_image(EXAMPLE) as image:
        assert not Guest.of_image(image).viridian
    with open_image(DATA / "images" / "hvm2x420.save") as image:
        assert Guest.of_image(image).viridian


def test_of_parameters_and_policies() -> None:
    nested = record(10, struct.pack("<II2Q", 1, 0, 24, 1))
    policy = record(17, struct.pack("<6I", *row(1, edx=1 << 6)))
    with open_image(image_of("{}", nested, policy)) as image:
        guest = Guest.of_image(image)
    assert guest.nested and guest.has("PAE") and not guest.has("PGE")
    with open_image(context_bytes()) as image:
        bare = Guest.of_image(image)
    assert (bare.vcpus, bare.leaves, bare.devices) == (128, {}, DEVICES)


def test_of_genuine_images() -> None:
    with open_image(EXAMPLE) as image:
        guest = Guest.of_image(image)
    assert (guest.vendor, guest.vcpus, guest.maxphysaddr, guest.devices) == ("amd", 1, 40, DEVICES)
    with open_image(DATA / "images" / "pvhx.save") as image:
        assert Guest.of_image(image).devices == PVH_DEVICES


def test_what_is_no_policy_is_an_error() -> None:
    with open_image(image_of("{}", record(17, bytes(25)))) as image, pytest.raises(FormatError):
        Guest.of_image(image)
    with open_image(image_of("{")) as image, pytest.raises(FormatError, match="not JSON"):
        Guest.of_image(image)


def test_repr() -> None:
    assert repr(Guest()) == f"<guest, {MOST_VCPUS} vcpus, 7 devices, no CPUID policy>"
    guest = Guest(vcpus=2, devices=PVH_DEVICES, leaves=[row(1)])
    assert repr(guest) == "<guest, 2 vcpus, 1 devices, 1 CPUID leaves>"
