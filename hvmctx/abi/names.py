"""Names of the values of fields that have few, for whoever shows or sets such a field.

Source: Xen's public header arch-x86/hvm/save.h and asm-x86/hvm/hvm.h, the datasheets of the
82093AA and the 8254, the VMPORT patch.
"""

from __future__ import annotations

import re

__all__ = ["NAMES", "PROTOCOLS", "PROTO_CLOSED", "PROTO_RPCI", "PROTO_TCLO", "names_of"]

PROTO_CLOSED, PROTO_RPCI, PROTO_TCLO = 0, 0x49435052, 0x4F4C4354
PROTOCOLS = {PROTO_CLOSED: "closed", PROTO_RPCI: "RPCI", PROTO_TCLO: "TCLO"}
"""Of a VMPORT channel. RPCI carries requests from the guest, TCLO to the guest."""

_DELIVERY = {0: "FIXED", 1: "LOWEST", 2: "SMI", 4: "NMI", 5: "INIT", 7: "EXTINT"}

NAMES: dict[str, dict[int, str]] = {
    "CPU.pending_type": {
        0: "EXT_INTR", 2: "NMI", 3: "HW_EXCEPTION", 4: "SW_INTERRUPT", 5: "PRIV_SW_EXCEPTION",
        6: "SW_EXCEPTION",
    },
    "IOAPIC.redirtbl.fields.delivery_mode": _DELIVERY,
    "IOAPIC.redirtbl.fields.dest_mode": {0: "PHYSICAL", 1: "LOGICAL"},
    "IOAPIC.redirtbl.fields.polarity": {0: "HIGH", 1: "LOW"},
    "IOAPIC.redirtbl.fields.trig_mode": {0: "EDGE", 1: "LEVEL"},
    "PIT.channels.rw_mode": {1: "LSB", 2: "MSB", 3: "WORD"},
    "VMPORT.chans.proto_num": PROTOCOLS,
}  # fmt: skip
"""Record and field, without instance and indices -> value -> name of the value."""


def names_of(path: str) -> dict[int, str]:
    """The names of the values of the field at a path such as `CPU/0.pending_type`; empty for
    most fields."""
    record, _, field = path.partition(".")
    bare = re.sub(r"\[[^]]*\]", "", field)
    return NAMES.get(f"{record.partition('/')[0].upper()}.{bare}", {})
