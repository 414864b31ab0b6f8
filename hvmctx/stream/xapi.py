"""The bodies of the records of XAPI's suspend images (XenServer, XCP-ng), each declared once: see
`stream.body`; and what the Xenops record says of the guest.

Source: xen-api at e2ee48d6, ocaml/xenopsd/lib/suspend_image.ml and ocaml/xapi-idl/xen.
"""

from __future__ import annotations

import re

from hvmctx.abi import streams
from hvmctx.abi.streams import QEMU_MAGIC, XAPI
from hvmctx.buffers import utf8
from hvmctx.errors import FormatError
from hvmctx.limits import DEFAULT
from hvmctx.stream import sexp
from hvmctx.stream.body import Body, Bytes, Chars

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Annotated

    from hvmctx.limits import Limits
    from hvmctx.stream import qemu
    from hvmctx.stream.places import Place
    from hvmctx.stream.sexp import Tree
    from hvmctx.stream.xlfile import Json

__all__ = ["QemuRecord", "Xenops", "XenopsRecord", "config_of", "emulator_of", "vm_of"]


class XenopsRecord(Body, layer=XAPI, number=streams.XAPI_XENOPS):
    """XENOPS: an S-expression, which `Xenops` takes apart."""

    text: Annotated[bytes | memoryview, Chars()]


class QemuRecord(Body, layer=XAPI, number=streams.XAPI_QEMU_TRAD):
    """QEMU_TRAD: the device model's file. Nowadays it is upstream QEMU's."""

    payload: Annotated[bytes | memoryview, Bytes()]

    index = 0
    """Which of the device models of its kind: there is one."""

    @property
    def emulator_id(self) -> int:
        """As a libxl stream numbers device models."""
        return emulator_of(self.payload)

    @property
    def emulator(self) -> str:
        """The device model's name, as xl calls it."""
        return streams.EMULATORS[self.emulator_id]

    def device_model(self, limits: Limits = DEFAULT) -> qemu.DeviceModelState | None:
        """As that of `libxl.EmulatorContext`."""
        from hvmctx.stream import qemu

        return qemu.recognise(self.payload, limits)


def emulator_of(payload: bytes | memoryview) -> int:
    """The id that a libxl stream has for the device model that saved such a file."""
    return 2 if bytes(payload[: len(QEMU_MAGIC)]) == QEMU_MAGIC else 1


_FIELDS = ("time", "word_size", "vm_str", "xs_subtree")
_NEEDED = _FIELDS[:2]
_INTEGER = re.compile(rb"-?(0[xX][\da-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|0?[uU]?\d[\d_]*)")


class Xenops:
    """What a Xenops record says.

    `time` is when the guest was suspended (as text, in UTC), `word_size` the bits of a word of
    the toolstack, `vm_str` the guest as xenopsd describes it, an S-expression in turn (None where
    it is left out), `xs_subtree` what was in xenstore below the guest's node (empty nowadays).

    >>> record = Xenops("20261129T00:00:00Z", vm_str=b"((name web)(vcpus 2))")
    >>> record.to_text()
    b'((time 20261129T00:00:00Z)(word_size 64)(vm_str "((name web)(vcpus 2))")(xs_subtree()))'
    >>> Xenops.from_text(record.to_text()).vm()
    [[b'name', b'web'], [b'vcpus', b'2']]
    """

    __slots__ = ("time", "vm_str", "word_size", "xs_subtree")

    def __init__(
        self,
        time: str,
        *,
        word_size: int = 64,
        vm_str: bytes | None = None,
        xs_subtree: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        self.time = time
        self.word_size = word_size
        self.vm_str = vm_str
        self.xs_subtree = [] if xs_subtree is None else xs_subtree

    def __repr__(self) -> str:
        return f"<Xenops record of {self.time}, {len(self.vm_str or b'')} bytes of description>"

    @classmethod
    def from_text(cls, text: bytes | memoryview, limits: Limits = DEFAULT) -> Xenops:
        """Raises FormatError for what xenopsd refuses, whose offset counts from the start of the
        text, and LimitError."""
        _fits(text, limits)
        fields: dict[str, Tree] = {}
        tree = sexp.parse(bytes(text), limits)
        for part in tree if isinstance(tree, list) else [tree]:
            key = part[0] if isinstance(part, list) and len(part) == 2 else b""
            name = key.decode("latin-1") if isinstance(key, bytes) else ""
            if name not in _FIELDS or name in fields:
                found = "twice" if name in fields else sexp.to_bytes(part)[:40].decode("latin-1")
                raise _wrong("unexpected field", repr(name or found), f"{', '.join(_FIELDS)}")
            fields[name] = part[1]  # type: ignore[assignment]  # it is a list of two
        for name in _NEEDED:
            if name not in fields:
                raise _wrong("missing field", f"no {name}", f"{', '.join(_NEEDED)}")
        for name, value in fields.items():
            if name != "xs_subtree" and not isinstance(value, bytes):
                raise _wrong("a field has the wrong type", f"a list as {name}", "an atom")
        word_size = fields["word_size"]
        if not isinstance(word_size, bytes) or not _INTEGER.fullmatch(word_size):
            raise _wrong(
                "a field has the wrong type", repr(word_size)[:40], "a number as word_size"
            )
        vm_str = fields.get("vm_str")
        return cls(
            bytes(fields["time"]).decode("utf-8", "surrogateescape"),  # type: ignore[arg-type]
            word_size=_number(word_size),
            vm_str=vm_str if isinstance(vm_str, bytes) else None,
            xs_subtree=_pairs(fields.get("xs_subtree", [])),
        )

    def to_text(self) -> bytes:
        """As xenopsd writes it."""
        fields: list[list[sexp.Sexp]] = [
            [b"time", self.time.encode("utf-8", "surrogateescape")],
            [b"word_size", b"%d" % self.word_size],
        ]
        if self.vm_str is not None:
            fields.append([b"vm_str", self.vm_str])
        return sexp.to_bytes([*fields, [b"xs_subtree", self.xs_subtree]])

    def vm(self, limits: Limits = DEFAULT) -> Tree | None:
        """The guest's description, taken apart. Raises FormatError and LimitError."""
        return None if self.vm_str is None else sexp.parse(self.vm_str, limits, "vm_str")


def _fits(text: bytes | memoryview, limits: Limits) -> None:
    if len(text) > limits.config:
        raise limits.over("config", "bytes", layer=XAPI, offset=0, record="XENOPS")


def _number(text: bytes) -> int:
    digits = text.replace(b"_", b"").lower().replace(b"0u", b"")
    return int(digits, 0 if digits.lstrip(b"-")[1:2] in (b"x", b"o", b"b") else 10)


def _pairs(tree: Tree) -> list[tuple[bytes, bytes]]:
    found = []
    for part in tree if isinstance(tree, list) else [tree]:
        if not isinstance(part, list) or len(part) != 2 or any(isinstance(s, list) for s in part):
            raise _wrong("a field has the wrong type", "something else", "pairs as xs_subtree")
        found.append((bytes(part[0]), bytes(part[1])))  # type: ignore[arg-type]
    return found


def _wrong(problem: str, found: str, expected: str) -> FormatError:
    return FormatError(
        f"not a Xenops record: {problem}", layer=XAPI, offset=0, record="XENOPS", found=found,
        expected=expected,
    )  # fmt: skip


_TYPES = {"HVM": "hvm", "PV": "pv", "PVinPVH": "pvh", "PVH": "pvh"}


def config_of(places: list[Place]) -> dict[str, Json]:
    """What a guest's description (`sexp.places` of `Xenops.vm`) says, in the words of xl's
    configuration, as far as anybody asks: its name, uuid, type, vcpus, memory in KiB."""
    said = {place.path: place.value for place in places}
    created: dict[str, Json] = {
        "type": _TYPES.get(said.get("ty[0]", "")), "name": said.get("name"), "uuid": said.get("id"),
    }  # fmt: skip
    if said.get("ty[1].hap") == "false":
        created["hap"] = False
    online = _count(said.get("vcpus"))
    built: dict[str, Json] = {
        "max_vcpus": _count(said.get("vcpu_max")),
        "avail_vcpus": None if online is None else list(range(min(online, _MOST_VCPUS))),
        "max_memkb": _kib(said.get("memory_static_max")),
        "target_memkb": _kib(said.get("memory_dynamic_max")),
    }
    if said.get("platformdata.nested-virt") == "true":
        built["nested_hvm"] = True
    return {"c_info": created, "b_info": built}


def vm_of(config: Json) -> sexp.Sexp:
    """The guest's description out of what a configuration in xl's words says: the inverse of
    `config_of`. xenopsd does not read it in an image, people do."""
    both = [
        part if isinstance(config, dict) and isinstance(part := config.get(name), dict) else {}
        for name in ("c_info", "b_info")
    ]
    said = {key: value for part in both for key, value in part.items()}
    kinds = {kind: name for name, kind in reversed(_TYPES.items())}
    online = said.get("avail_vcpus")
    values = {
        "id": said.get("uuid"), "name": said.get("name"),
        "memory_static_max": _bytes(said.get("max_memkb")),
        "memory_dynamic_max": _bytes(said.get("target_memkb")),
        "vcpu_max": said.get("max_vcpus"),
        "vcpus": len(online) if isinstance(online, list) else None,
    }  # fmt: skip
    kind = kinds.get(str(said.get("type")))
    fields: list[sexp.Sexp] = [[b"ty", [kind.encode(), []]]] if kind else []
    fields += [
        [key.encode(), utf8(str(value))]
        for key, value in values.items()
        if isinstance(value, (int, str))
    ]
    return fields


def _bytes(kib: Json) -> int | None:
    return kib << 10 if isinstance(kib, int) and 0 <= kib < 1 << 53 else None


_MOST_VCPUS = 4096


def _count(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 20 else None


def _kib(text: str | None) -> int | None:
    count = _count(text)
    return None if count is None else count >> 10
