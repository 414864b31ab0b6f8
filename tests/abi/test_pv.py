from __future__ import annotations

from ctypes import sizeof
from typing import Any

import pytest

from hvmctx.abi import pv
from hvmctx.abi.fields import Layout

# (64-bit, 32-bit), as Xen's public headers have them
OFFSETS = {
    "flags": (512, 512), "user_regs": (520, 516), "trap_ctxt": (720, 584),
    "ldt_base": (4816, 2632), "gdt_frames": (4832, 2640), "gdt_ents": (4960, 2704),
    "ctrlreg": (4984, 2716), "debugreg": (5048, 2748),
}  # fmt: skip
SHARED = {
    "evtchn_pending": (2048, 2048), "evtchn_mask": (2560, 2176), "max_pfn": (3088, 2316),
    "pfn_to_mfn_frame_list_list": (3096, 2320), "p2m_cr3": (3112, 2328),
    "p2m_vaddr": (3120, 2332), "p2m_generation": (3128, 2336),
}  # fmt: skip


@pytest.mark.parametrize(
    ("structures", "offsets", "sizes"),
    [(pv.VCPU_CONTEXTS, OFFSETS, (5168, 2800)), (pv.SHARED_INFOS, SHARED, (3136, 2344))],
)
def test_offsets_and_sizes(structures: dict[int, Any], offsets: Any, sizes: Any) -> None:
    for width, place in ((8, 0), (4, 1)):
        struct = structures[width]
        assert sizeof(struct) == sizes[place]
        assert {name: getattr(struct, name).offset for name in offsets} == {
            name: both[place] for name, both in offsets.items()
        }


def test_registers() -> None:
    assert pv.vcpu_guest_context_x86_64.user_regs.offset + pv.cpu_user_regs_x86_64.rdx.offset == 616
    assert pv.vcpu_guest_context_x86_32.user_regs.offset + pv.cpu_user_regs_x86_32.edx.offset == 524
    extended = pv.xen_domctl_ext_vcpucontext
    assert (sizeof(extended), extended.syscall32_callback_cs.offset, extended.vmce.offset) == (
        64, 24, 32
    )  # fmt: skip


@pytest.mark.parametrize(
    "struct",
    [*pv.VCPU_CONTEXTS.values(), *pv.SHARED_INFOS.values(), pv.xen_domctl_ext_vcpucontext],
)
def test_every_byte_is_declared(struct: Any) -> None:
    end = 0
    for field in Layout.of(struct).fields:
        assert field.offset == end
        end += field.size
    assert end == sizeof(struct)
