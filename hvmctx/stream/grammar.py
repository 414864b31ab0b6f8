"""The order of headers and records, as one table: what may come in each state, and which
state follows. `StreamReader` and `StreamWriter` run on it; `docs/formats/streams.md` is
drawn from it.

An xl file and a save file of libvirt hold a libxl stream, and that a libxc stream; after the
libxc END the libxl records go on. A suspend image of XAPI has records of its own around the
libxc stream. In a checkpointed libxl stream (Remus, COLO) a libxc CHECKPOINT hands over to
libxl records, and CHECKPOINT_END hands back. A libxc stream may also stand alone; its
checkpoints then stay libxc's.

Source: tools/libs/light/libxl_stream_read.c, libxl_stream_write.c, libxl_colo_save.c and
tools/libs/guest/xg_sr_restore.c, 4.6 to c447b730; xen-api's ocaml/xenopsd/xc/domain.ml.
"""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.abi.streams import LIBVIRT, LIBXC, LIBXL, XAPI, XL

__all__ = [
    "AFTER_LIBXC", "ANY", "END", "FIRST", "LEGACY_HEADER", "LEGACY_STREAM", "LENGTHS",
    "SAYS_LEGACY", "STATES", "TABLE", "UNKNOWN_END", "State", "Transition",
]  # fmt: skip

ANY = -1
"""Every record type that has no row of its own in that state."""
END = "end"
LEGACY_STREAM = "legacy stream"
"""The end for this reader: `stream.legacy` reads what follows, which may have a magic of none."""
UNKNOWN_END = "unknown end"
"""The same for what has an end that only its own reader knows: the state of a vGPU."""

_CONTEXT, _CHECKPOINT = streams.LIBXL_LIBXC_CONTEXT, streams.LIBXC_CHECKPOINT
_BACK, _BEGINS = streams.LIBXL_CHECKPOINT_END, streams.LIBXL_CHECKPOINT_STATE
LEGACY_HEADER = "header of a legacy stream"
"""The header of an xl file, or of another wrapper, that says that no stream v2 follows."""
_LEGACY = LEGACY_HEADER
SAYS_LEGACY = {
    XL: ("mandatory_flags", streams.XL_FLAG_STREAM_V2, 0),
    XAPI: ("kind", 0xFFFFFFFF, streams.XAPI_LEGACY),
    LIBVIRT: ("version", 0xFFFFFFFF, streams.LIBVIRT_LEGACY),
}
"""Layer -> how its header says so: a field, a mask, and what the field is under it."""

TABLE: tuple[tuple[str, str, str | int, str], ...] = (
    # state             layer  what it accepts    the state that follows
    ("xl header",       XL,    "header",          "libxl header"),
    ("xl header",       XL,    _LEGACY,           LEGACY_STREAM),
    ("libvirt header",  LIBVIRT, "header",        "libxl header"),
    ("libvirt header",  LIBVIRT, _LEGACY,         LEGACY_STREAM),
    ("libxl header",    LIBXL, "header",          "libxl records"),
    ("libxl records",   LIBXL, _CONTEXT,          "image header"),
    ("libxl records",   LIBXL, streams.LIBXL_END, "end"),
    ("libxl records",   LIBXL, ANY,               "libxl records"),
    ("image header",    LIBXC, "image header",    "domain header"),
    ("domain header",   LIBXC, "domain header",   "libxc records"),
    ("libxc records",   LIBXC, streams.LIBXC_END, "libxl records"),
    ("libxc records",   LIBXC, _CHECKPOINT,       "checkpoint"),
    ("libxc records",   LIBXC, ANY,               "libxc records"),
    ("checkpoint",      LIBXL, _BACK,             "next checkpoint"),
    ("checkpoint",      LIBXL, _CONTEXT,          "image header"),
    ("checkpoint",      LIBXL, streams.LIBXL_END, "end"),
    ("checkpoint",      LIBXL, ANY,               "checkpoint"),
    ("next checkpoint", LIBXL, _BEGINS,           "next checkpoint"),
    ("next checkpoint", LIBXC, streams.LIBXC_END, "libxl records"),
    ("next checkpoint", LIBXC, _CHECKPOINT,       "checkpoint"),
    ("next checkpoint", LIBXC, ANY,               "libxc records"),
    # a suspend image of XAPI's
    ("xapi header",     XAPI,  "header",          "xapi records"),
    ("xapi header",     XAPI,  _LEGACY,           LEGACY_STREAM),
    ("xapi records",    XAPI,  streams.XAPI_LIBXC, "image in xapi"),
    ("xapi records",    XAPI,  streams.XAPI_LIBXC_LEGACY, LEGACY_STREAM),
    ("xapi records",    XAPI,  streams.XAPI_LIBXL, UNKNOWN_END),
    ("xapi records",    XAPI,  streams.XAPI_DEMU, UNKNOWN_END),
    ("xapi records",    XAPI,  streams.XAPI_END_OF_IMAGE, "end"),
    ("xapi records",    XAPI,  ANY,               "xapi records"),
    ("image in xapi",   LIBXC, "image header",    "domain in xapi"),
    ("domain in xapi",  LIBXC, "domain header",   "libxc in xapi"),
    ("libxc in xapi",   LIBXC, streams.LIBXC_END, "xapi records"),
    ("libxc in xapi",   LIBXC, ANY,               "libxc in xapi"),
    # a libxc stream that stands alone
    ("image alone",     LIBXC, "image header",    "domain alone"),
    ("domain alone",    LIBXC, "domain header",   "libxc alone"),
    ("libxc alone",     LIBXC, streams.LIBXC_END, "end"),
    ("libxc alone",     LIBXC, ANY,               "libxc alone"),
)  # fmt: skip
FIRST = {
    XL: "xl header", XAPI: "xapi header", LIBVIRT: "libvirt header", LIBXL: "libxl header",
    LIBXC: "image alone",
}  # fmt: skip
"""What a stream starts with -> its first state."""
LENGTHS = {("next checkpoint", LIBXL): 4}
"""(state, layer) whose rows hold for bodies of this length only. Between checkpoints a COLO
primary says in libxl's words that a new one begins; all else is libxc's. The number is that of
libxc's X86_PV_VCPU_EXTENDED, too, whose body has a head of 8 bytes."""


class Transition:
    """A row: a header by its name, or a record by its number (`ANY`), of a layer."""

    __slots__ = ("following", "item", "layer", "length")

    def __init__(self, layer: str, item: str | int, following: str, length: int | None) -> None:
        self.layer = layer
        self.item = item
        self.following = following
        self.length = length

    def __repr__(self) -> str:
        return f"<{self} -> {self.following}>"

    def __str__(self) -> str:
        """In words: "xl header", "libxl END", "any other libxc record"."""
        if isinstance(self.item, str):
            return f"{self.layer} {self.item}" if self.item.startswith("header") else self.item
        if self.item == ANY:
            return f"any other {self.layer} record"
        return f"{self.layer} {streams.record_name(self.layer, self.item)}"


class State:
    """A state: its rows, and what may come next in words (`expecting`). `need` are the bytes
    of what comes: of a header, or of a record's header; 0 at the end."""

    __slots__ = ("by_item", "expecting", "layer", "name", "need", "other", "rows")

    def __init__(self, name: str, rows: list[Transition]) -> None:
        self.name = name
        self.rows = rows
        self.by_item = {row.item: row for row in rows}
        self.other = self.by_item.get(ANY)
        self.layer = rows[-1].layer if rows else ""
        self.expecting = END
        self.need = 0
        if self.other is not None:
            self.expecting = f"{self.layer} record"
            self.need = streams.RECORD_HEADERS[self.layer].size
        elif rows:
            header = str(rows[0].item)
            magic = len(streams.MAGICS.get(self.layer, b""))
            self.need = magic + streams.HEADERS[self.layer, header].size
            self.expecting = str(rows[0])

    def __repr__(self) -> str:
        return f"<state {self.name}>"

    def record(self, number: int, length: int) -> Transition | None:
        """The row for a record of that type and length of body; None where none may come."""
        row = self.by_item.get(number, self.other)
        if row is not None and row.length is not None and row.length != length:
            return self.other
        return row


def _states() -> dict[str, State]:
    rows: dict[str, list[Transition]] = {END: [], LEGACY_STREAM: [], UNKNOWN_END: []}
    for state, layer, item, following in TABLE:
        length = LENGTHS.get((state, layer))
        rows.setdefault(state, []).append(Transition(layer, item, following, length))
    return {name: State(name, found) for name, found in rows.items()}


STATES = _states()
"""Name -> state."""
AFTER_LIBXC = STATES["libxl records"]
"""Where a whole libxc stream within libxl's leads."""
