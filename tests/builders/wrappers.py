"""Suspend images of XAPI's and save files of libvirt's, made by hand: an xl file's streams in
these wrappers, and archives (XVA) around such an image."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile

from hvmctx.abi import streams
from hvmctx.image.image import open_image
from tests.builders.streams import SMALL, STATIC, libxc_head, record

SIGNATURE = b"XenSavedDomv2-\n"
LEGACY_SIGNATURE = b"XenSavedDomain\n"
VM = (
    b'((id 434d1235-c58b-99f4-f652-c79d57e50719)(name "web one")(xsdata((vm-data "")))'
    b"(platformdata((featureset 17cbfbff-f7fa3223)(viridian false)))"
    b"(ty(HVM((hap true)(shadow_multiplier 1)(serial(pty))(boot_order c))))"
    b"(memory_static_max 16777216)(memory_dynamic_max 8388608)(vcpu_max 2)(vcpus 1))"
)
XENOPS = b'((time 20261129T00:00:00Z)(word_size 64)(vm_str "%s")(xs_subtree()))' % VM.replace(
    b'"', b'\\"'
)
XML = b"""\
<domain type='xen' id='7'>
  <name>web one</name>
  <uuid>434d1235-c58b-99f4-f652-c79d57e50719</uuid>
  <memory unit='KiB'>16384</memory>
  <currentMemory unit='MiB'>8</currentMemory>
  <vcpu placement='static' current='1'>2</vcpu>
  <os><type>hvm</type></os>
  <devices>
    <disk type='file'><target dev='xvda'/></disk>
    <disk type='file'><target dev='xvdb' bus="xen"/></disk>
  </devices>
</domain>
"""
CONFIG = (
    b'{"c_info": {"type": "hvm", "name": "web one", '
    b'"uuid": "434d1235-c58b-99f4-f652-c79d57e50719"}, "b_info": {"max_vcpus": 2, '
    b'"avail_vcpus": [0], "max_memkb": 16384, "target_memkb": 8192}}\0'
)
VARSTORED = b"VARS" + bytes(range(60))
SWTPM = b"U1dUUE0gc3RhdGU="


def xapi_record(number: int, body: bytes = b"", *, length: int | None = None) -> bytes:
    """`length` lies about the body on request."""
    return struct.pack("<QQ", number, len(body) if length is None else length) + body


FOOTER = xapi_record(streams.XAPI_END_OF_IMAGE)


def xapi(*parts: bytes, xenops: bytes = XENOPS, end: bytes = FOOTER) -> bytes:
    """An image with these records after the first."""
    return b"".join((SIGNATURE, xapi_record(streams.XAPI_XENOPS, xenops), *parts, end))


def in_xapi(libxc: bytes, *parts: bytes) -> bytes:
    return xapi(xapi_record(streams.XAPI_LIBXC), libxc, *parts)


def libvirt(stream: bytes, xml: bytes = XML + b"\0", version: int = 2) -> bytes:
    return streams.LIBVIRT_MAGIC + struct.pack("<II40x", version, len(xml)) + xml + stream


def libxc_of(xl: bytes) -> bytes:
    """The libxc stream in an image."""
    with open_image(xl) as image:
        start = image.headers[-2].offset
        end = next(r.end for r in image.records_of("libxc", streams.LIBXC_END))
    return xl[start:end]


def emulator_of(xl: bytes) -> bytes:
    """The device model's file in it."""
    with open_image(xl) as image:
        return bytes(image.emulators[-1].payload)


def as_xl(xl: bytes, config: bytes = CONFIG) -> bytes:
    """An xl file with another configuration."""
    data = struct.pack("<I", len(config)) + config
    start = xl.index(streams.LIBXL_IDENT.to_bytes(8, "big"))
    head = streams.XL_HEADER.pack(streams.XL_BYTEORDER, 3, 0, len(data))
    return streams.XL_MAGIC + head + data + xl[start:]


def as_xapi(xl: bytes, *parts: bytes) -> bytes:
    """The same guest in a suspend image, with UEFI variables and TPM state."""
    return in_xapi(
        libxc_of(xl),
        *(parts or (
            xapi_record(streams.XAPI_VARSTORED, VARSTORED),
            xapi_record(streams.XAPI_SWTPM, SWTPM),
            xapi_record(streams.XAPI_QEMU_TRAD, emulator_of(xl)),
        )),
    )  # fmt: skip


def as_libvirt(xl: bytes) -> bytes:
    """The same guest in a libvirt file."""
    return libvirt(xl[xl.index(streams.LIBXL_IDENT.to_bytes(8, "big")) :])


_HEAD = libxc_head()
GUEST = SMALL.replace(_HEAD + record(16), _HEAD + b"".join(STATIC))
"""`SMALL` with CPU policies."""
WRAPPED = {"xl": as_xl(GUEST), "xapi": as_xapi(GUEST), "libvirt": as_libvirt(GUEST)}
"""One small guest in each wrapper, described alike in all."""


def xva(
    disk: bytes, *, ref: str = "Ref:4", other: bytes = bytes(1 << 20), checksum: str = "xxhash",
    block: int = 1 << 20,
) -> bytes:  # fmt: skip
    """An archive with a disk before it, and a checksum beside each block. Blocks of zeros but
    the first and the last are left out."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        _member(archive, "ova.xml", b"<value></value>")
        _member(archive, "Ref:3/00000000", other)
        last = max(0, len(disk) - 1) // block
        for number in range(last + 1):
            data = disk[number * block : (number + 1) * block]
            if any(data) or number in (0, last):
                name = f"{ref}/{number:08}"
                _member(archive, name, data)
                _member(archive, f"{name}.{checksum}", hashlib.sha1(data).hexdigest().encode())
    return out.getvalue()


def _member(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def in_legacy_xapi(stream: bytes) -> bytes:
    """A legacy image around a stream of `builders.legacy` that ends with QEMU's signature and its
    file, or in nothing."""
    head, signature, model = stream.partition(streams.XAPI_QEMU_SIGNATURE[:-1])
    if signature:
        signature += b"\n" + struct.pack(">I", len(model))
    return LEGACY_SIGNATURE + head + signature + model


def among_records(stream: bytes, *parts: bytes) -> bytes:
    """A legacy stream in an image of records."""
    return xapi(xapi_record(streams.XAPI_LIBXC_LEGACY), stream, *parts)
