"""Hypothesis strategies over what Xen saves, for your own tests:

    from hvmctx.fuzz import strategies as xen

    @given(xen.contexts(release="4.17", valid=False))
    def test_my_loader(data: bytes) -> None: ...

All are made from the declared layouts and the rules' bounds. They need hypothesis (`pip
install hvmctx[fuzz]`).

A failing example shrinks by what it is made of: to fewer records, fewer fields that are not as
after a reset, fewer keys, shorter ones. What is drawn first is what is odd about an input; all
that would surround it in a whole one is added only if a later draw says so.
"""

from __future__ import annotations

from functools import cache

from hypothesis import strategies as st

from hvmctx.abi import x86
from hvmctx.abi.declare import RecordType
from hvmctx.abi.fields import Slot
from hvmctx.abi.registry import by_name
from hvmctx.abi.releases import NEWEST, Release
from hvmctx.abi.streams import HVM_PARAM_CONSOLE_PFN, HVM_PARAM_STORE_PFN
from hvmctx.abi.vmport import PROTO_RPCI, PROTO_TCLO, VmportProfile, used
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import Buffer, Channel, VmportState, descriptor
from hvmctx.fuzz.contexts import (
    AIMS,
    FREE,
    INSTANCES,
    MAKERS,
    STRUCTURAL,
    lengths,
    loaded,
    mutate_context,
)
from hvmctx.fuzz.streams import KINDS, PARAMS, make_stream, mutate_stream
from hvmctx.fuzz.target_json import mutate_document
from hvmctx.fuzz.values import of_width
from hvmctx.fuzz.vmport import damaged, key_counts, most_in_buffers, mutate_record
from hvmctx.save.build import build
from hvmctx.save.guests import StillGuest
from hvmctx.save.reset import reset_context

__all__ = [
    "contexts", "documents", "images", "libxc_streams", "mutations", "records", "vmport_records",
    "vmport_states",
]  # fmt: skip

_choices = st.randoms(use_true_random=False)
"""For the edits of `mutate_...`: each of their choices is one of hypothesis, and shrinks to
the first alternative."""
_MOST_VCPUS = 3
Change = tuple[Slot, int | bytes]
"""A place in a record, and what is put there."""


# Fields and records ------------------------------------------------------------------------


@cache
def _values(known: RecordType, path: str) -> st.SearchStrategy[int | bytes]:
    """A value for a field, on a bound in most cases."""
    slot = known.layout.locate(path)
    if slot.is_bytes:
        place = st.tuples(st.integers(0, slot.size - 1), st.integers(0, 255))
        return st.lists(place, max_size=3).map(lambda places: _sparse(slot.size, places))
    bounds = (*AIMS.get(known.name, {}).get(path, ()), *of_width(slot.width))
    found = st.one_of(st.sampled_from(bounds), st.integers(0, (1 << slot.width) - 1))
    if not slot.signed:
        return found
    return found.map(lambda value: value - (value >> slot.width - 1 << slot.width))


def _sparse(size: int, places: list[tuple[int, int]]) -> bytes:
    made = bytearray(size)
    for at, value in places:
        made[at] = value
    return bytes(made)


@cache
def _path(known: RecordType) -> st.SearchStrategy[str]:
    """A field, half of the time one that a rule looks at."""
    anything = st.sampled_from(tuple(known.layout.paths()))
    aims = AIMS.get(known.name)
    return st.one_of(st.sampled_from(tuple(aims)), anything) if aims else anything


@st.composite
def _field(draw: st.DrawFn, known: RecordType, path: st.SearchStrategy[str]) -> Change:
    name = draw(path)
    return known.layout.locate(name), draw(_values(known, name))


@cache
def _fields(known: RecordType, path: st.SearchStrategy[str]) -> st.SearchStrategy[list[Change]]:
    """A few fields of a record, and what they become."""
    return st.lists(_field(known, path), max_size=4) if known.size else st.just([])


def _put(body: bytes, fields: list[Change]) -> bytes:
    made = bytearray(body)
    for slot, value in fields:
        if slot.offset + slot.size <= len(made):
            slot.put(made, value)
    return bytes(made)


@st.composite
def _record(draw: st.DrawFn, known: RecordType, body: bytes, *, valid: bool = False) -> Record:
    """A record with this body but for a few fields; if it need not be valid, some with another
    length or instance."""
    fields = draw(_fields(known, _path(known)))
    if valid:
        return Record(known, 0, _put(body, fields))
    instance = draw(st.sampled_from((0, 0, 0, *INSTANCES)))
    if known.name in MAKERS:
        return MAKERS[known.name](draw(_choices), instance)
    bounds = [size + more for size in lengths(known) for more in (0, -1, 1, 8)]
    size = max(0, draw(st.sampled_from((*[len(body)] * len(bounds), *bounds))))
    return Record(known, instance, _put(body, fields)[:size].ljust(size, b"\0"))


@st.composite
def records(draw: st.DrawFn, name: str, *, valid: bool = False) -> bytes:
    """A record of that type, descriptor and body. `valid`: of the right length."""
    known = by_name(name)
    if valid and known.name in MAKERS:
        made = MAKERS[known.name](draw(_choices), 0)
        made.body = bytes(made.body).ljust(known.size, b"\0")
    else:
        made = draw(_record(known, bytes(known.size), valid=valid))
    return made.to_bytes()


# Contexts ----------------------------------------------------------------------------------


@cache
def _reset(vcpus: int, release: Release) -> bytes:
    return reset_context(vcpus, release).to_bytes()


@cache
def _plain(release: Release) -> dict[str, bytes]:
    """The body of a record of each type in a context of a guest after a reset, or zeros."""
    bodies = {name: bytes(size) for name, size in release.sizes().items()}
    for record in reset_context(1, release).entries:
        bodies[record.name] = bytes(record.body)
    return bodies


@st.composite
def _vmport(draw: st.DrawFn) -> Record:
    data = draw(vmport_records())
    if len(data) < x86.DESCRIPTOR.size:
        return Record("VMPORT", 0)
    code, instance, length = x86.DESCRIPTOR.unpack_from(data)
    return Record(code, instance, data[x86.DESCRIPTOR.size :], length=length)


@cache
def _records(release: Release) -> st.SearchStrategy[list[Record]]:
    """A few records that a loader may meet, VMPORT among them."""
    plain = _plain(release)
    made = {
        known.name: _record(known, plain.get(known.name, bytes(known.size)))
        for known in (*loaded()[0], by_name("HEADER"))
    }
    made["VMPORT"] = _vmport()
    weights = [*loaded()[1], 1, 1]
    names = [name for name, weight in zip(made, weights) for _ in range(weight)]
    return st.lists(st.sampled_from(names).flatmap(made.__getitem__), max_size=4)


def _among(rest: list[Record], made: list[Record]) -> list[Record]:
    """All of both, but where there is one of the same type and instance only what was made."""
    keys = {(record.typecode, record.instance) for record in made}
    others = [record for record in rest if (record.typecode, record.instance) not in keys]
    return sorted([*others, *made], key=_order)


def _order(record: Record) -> tuple[bool, int]:
    """Xen's: HEADER, the others by type, END."""
    return record.name == "END", -1 if record.name == "HEADER" else record.typecode


@cache
def _free(release: Release) -> st.SearchStrategy[list[tuple[str, list[Change]]]]:
    """The names of a few records, and what their fields become that may have any value."""
    known = {name: by_name(name) for name in FREE if name in _plain(release)}
    made = {
        name: st.tuples(st.just(name), _fields(kind, st.sampled_from(FREE[name])))
        for name, kind in known.items()
    }
    return st.lists(st.sampled_from(list(made)).flatmap(made.__getitem__), max_size=6)


@st.composite
def _valid(draw: st.DrawFn, release: Release) -> bytes:
    changes = draw(_free(release))
    context = HvmContext.from_bytes(_reset(draw(st.integers(1, _MOST_VCPUS)), release))
    for name, fields in changes:
        for record in context.records(name)[-1:]:
            record.body = _put(bytes(record.body), fields)
    if not draw(st.booleans()):
        kept = {"HEADER", "CPU", "END", *(name for name, _ in changes)}
        context.entries = [record for record in context.entries if record.name in kept]
    return context.to_bytes()


@st.composite
def contexts(draw: st.DrawFn, release: str = NEWEST, *, valid: bool = True) -> bytes:
    """An HVM context of a release. `valid`: one that it loads, with HEADER, CPU and END at
    least; otherwise any records, damaged or not."""
    into = Release(release)
    if valid:
        return draw(_valid(into))
    made = draw(_records(into))
    rest = draw(st.sampled_from((("END",), ("HEADER", "END"), (), ())))
    whole = HvmContext.from_bytes(_reset(draw(st.integers(1, _MOST_VCPUS)), into)).entries
    context = HvmContext(_among([r for r in whole if not rest or r.name in rest], made))
    for edit in draw(st.lists(st.sampled_from(STRUCTURAL), max_size=1)):
        edit(draw(_choices), context)
    data = context.to_bytes()
    kept = draw(st.one_of(st.none(), st.none(), st.none(), st.integers(0, len(data))))
    return data[:kept]


# VMPORT ------------------------------------------------------------------------------------


@st.composite
def _sized(draw: st.DrawFn, least: int, most: int) -> bytes:
    """So many bytes, of which the first ones matter."""
    size = draw(st.integers(least, most))
    return (draw(st.binary(max_size=4)) + b"a" * size)[:size]


@st.composite
def _channel(draw: st.DrawFn, profile: VmportProfile) -> tuple[int, Channel]:
    """The number of an open channel, and what is in its buffers."""
    send, recv, jumbo = most_in_buffers(profile)
    number = draw(st.integers(0, profile.MAX_CHANS - 1))
    channel = VmportState.empty(profile).channels[number]
    channel.proto_num = draw(st.sampled_from((PROTO_RPCI, PROTO_TCLO)))
    channel.send = Buffer(draw(_sized(0, send)))
    bucket = st.tuples(st.integers(0, profile.MAX_BKTS - 1), _sized(0, recv))
    for at, data in draw(st.lists(bucket, max_size=3)):
        channel.recv[at].data = data
    channel.jumbo_recv = Buffer(draw(st.one_of(st.just(b""), _sized(0, jumbo))))
    return number, channel


@st.composite
def _state(
    draw: st.DrawFn, profile: VmportProfile, longest_key: int, longest_value: int
) -> VmportState:
    state = VmportState.empty(profile)
    state.ping_time = draw(st.integers(0, (1 << 64) - 1))
    state.open_cookie = draw(st.integers(0, (1 << 32) - 1))
    for number, channel in draw(st.lists(_channel(profile), max_size=3)):
        state.channels[number] = channel
    for slots, longest, most in (
        (state.guestinfo, longest_value, profile.MAX_NUM_KEY),
        (state.guestinfo_jumbo, profile.MAX_VAL_JUMBO_LEN, profile.MAX_NUM_JUMBO_KEY - 1),
    ):
        entry = st.tuples(_sized(1, longest_key), _sized(0, longest))
        for key, value in draw(st.lists(entry, max_size=min(4, most))):
            slots[key] = value
    for number in range(draw(st.sampled_from(key_counts(profile))) - len(state.guestinfo)):
        state.guestinfo[f"k{number}".encode()[:longest_key]] = b""
    return state


@st.composite
def vmport_states(draw: st.DrawFn, profile: VmportProfile | None = None) -> VmportState:
    """A state that the patch's writer could save."""
    profile = profile or used()
    return draw(_state(profile, profile.MAX_KEY_LEN, min(profile.MAX_VAL_LEN, 0xFF)))


@st.composite
def vmport_records(
    draw: st.DrawFn, profile: VmportProfile | None = None, *, valid: bool = False
) -> bytes:
    """A VMPORT record, descriptor included. `valid`: what the patch's writer writes;
    otherwise mostly with lengths and counts around the loader's bounds."""
    profile = profile or used()
    if valid:
        body = draw(vmport_states(profile)).to_bytes(profile)
        return descriptor(body) + body
    body = draw(_state(profile, 0xFF, 0xFF)).to_bytes(profile)
    if draw(st.booleans()):
        return damaged(body, draw(_choices), profile)
    return descriptor(body) + body


# Streams, images, documents ----------------------------------------------------------------


@st.composite
def libxc_streams(draw: st.DrawFn, version: int = 3, *, valid: bool = True) -> bytes:
    """A libxc stream of a small HVM guest. `valid`: one that a restore takes."""
    kinds = st.lists(st.sampled_from(KINDS), min_size=1, max_size=4)
    batches = draw(st.lists(kinds, min_size=1, max_size=3))
    params = draw(
        st.dictionaries(st.sampled_from(PARAMS), st.integers(0, sum(map(len, batches)) - 1))
    )
    data = make_stream(
        version, draw(st.integers(14, 22)), draw(st.tuples(st.booleans(), st.booleans())),
        batches, draw(contexts("4.17")), list(params.items()),
    )  # fmt: skip
    return data if valid else mutate_stream(data, draw(_choices), "libxc")[0]


@st.composite
def images(draw: st.DrawFn, layer: str = "xl", *, valid: bool = True) -> bytes:
    """An image with that outer layer, of a guest whose only memory is its special pages."""
    import io

    params = [(HVM_PARAM_STORE_PFN, draw(st.integers(1, 63))), (HVM_PARAM_CONSOLE_PFN, 3)]
    guest = StillGuest(context=draw(contexts("4.17")), params=params)
    out = io.BytesIO()
    build(guest, out, layer=layer)
    data = out.getvalue()
    return data if valid else mutate_stream(data, draw(_choices), layer)[0]


@st.composite
def documents(draw: st.DrawFn, kind: str = "context", *, valid: bool = True) -> str:
    """The lossless JSON of a `context`, or of a `libxc` stream. `valid`: what `to-json` writes;
    otherwise with an odd value somewhere, or no JSON at all."""
    from hvmctx.json_form.document import Document

    data = draw(contexts() if kind == "context" else libxc_streams())
    text = Document.of_input(data, kind).to_text()
    if valid:
        return text
    return mutate_document(text.encode(), draw(_choices)).decode("utf-8", "replace")


@st.composite
def mutations(draw: st.DrawFn, of: bytes, kind: str = "context") -> bytes:
    """These bytes with an edit or two in terms of their format: `context`, `vmport` (a
    record), or a layer of a stream, `libxc`, `libxl`, `xl`, `xapi` or `libvirt`."""
    rng = draw(_choices)
    if kind == "context":
        return mutate_context(of, rng)[0]
    if kind == "vmport":
        return mutate_record(of, rng, used())
    return mutate_stream(of, rng, kind)[0]
