from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.abi.releases import Release
from hvmctx.layouts.conditions import (
    in_c,
    leading,
    of_bodies,
    of_header,
    of_others,
    of_saved,
    size_of_body,
)
from hvmctx.layouts.declarations import Declarations
from hvmctx.stream.grammar import STATES

DECLARED = Declarations()


def test_in_c() -> None:
    assert in_c("not (a == 1 or b == 2) and not (c)") == "!(a == 1 || b == 2) && !(c)"


def test_of_save_records() -> None:
    """The old CPU record is told by its length; the others by the least that a release writes."""
    found = of_saved(DECLARED)
    typecode = "descriptor.typecode == 2 and descriptor.length"
    assert found[1:3] == [
        (f"{typecode} == 1016", "hvm_hw_cpu_compat"),
        (f"{typecode} >= 1024", "hvm_hw_cpu"),
    ]
    assert not any("compat" in name for _, name in of_saved(Declarations(Release("4.1.0"))))


def test_of_bodies() -> None:
    """As long as they must be where nothing follows the head, else at least so long."""
    found = {name: condition for condition, name in of_bodies(DECLARED, streams.LIBXC)}
    assert found["libxc_x86_tsc_info"] == "header.type == 0x8 and header.length == 24"
    assert found["libxc_x86_pv_info"] == "header.type == 0x2 and header.length >= 8"
    assert found["hvm_context"] == "header.type == 0x9"
    assert size_of_body(streams.LIBXL) == "header.length"
    assert "header.type == 0xffff ? 0" in size_of_body(streams.XAPI)


def test_where_states_lead() -> None:
    assert leading(STATES["libxl records"], "_.") == {
        "image header": "_.header.type == 0x1", "end": "_.header.type == 0x0",
    }  # fmt: skip
    begins = "(header.type == 0x5 and header.length == 4)"
    others = f"{begins} or header.type == 0x0 or header.type == 0xe"
    assert leading(STATES["next checkpoint"], "")["libxc records"] == f"not ({others})"


def test_records_of_another_layer() -> None:
    found = {name: of_others(state) for name, state in STATES.items() if of_others(state)}
    condition = "(header.type == 0x5 and header.length == 4)"
    assert found == {"next checkpoint": [(condition, "libxl_checkpoint_state", "libxl")]}


def test_where_headers_lead() -> None:
    assert of_header(STATES["libxl header"]) == {"libxl records": ""}
    assert of_header(STATES["xl header"]) == {
        "libxl header": "not ((header.mandatory_flags & 0x2) == 0x0)",
        "legacy stream": "(header.mandatory_flags & 0x2) == 0x0",
    }
