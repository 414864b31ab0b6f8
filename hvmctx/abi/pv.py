"""What the records of a PV guest hold, for 64- and 32-bit guests: little-endian, natural
alignment, padding declared. Sizes and offsets are those of the guest's own ABI, whatever
the toolstack's.

Source: Xen's public headers `xen.h`, `arch-x86/xen.h`, `arch-x86/xen-x86_64.h` and
`xen-x86_32.h`, and `domctl.h` (`xen_domctl_ext_vcpucontext`), 4.6 to c447b730.
"""

from __future__ import annotations

from ctypes import c_uint8 as u8
from ctypes import c_uint16 as u16
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64

from hvmctx.abi.declare import SaveStructure

__all__ = [
    "EVENT_CHANNELS", "SHARED_INFOS", "VCPU_CONTEXTS", "cpu_user_regs_x86_32",
    "cpu_user_regs_x86_64", "shared_info_x86_32", "shared_info_x86_64", "trap_info_x86_32",
    "trap_info_x86_64", "vcpu_guest_context_x86_32", "vcpu_guest_context_x86_64",
    "xen_domctl_ext_vcpucontext",
]  # fmt: skip


class trap_info_x86_64(SaveStructure):
    """An entry of the guest's trap table. `flags`: DPL, and bit 2 clears events."""

    _fields_ = [
        ("vector", u8),
        ("flags", u8),
        ("cs", u16),
        ("_pad0", u8 * 4),
        ("address", u64),
    ]


class cpu_user_regs_x86_64(SaveStructure):
    """General registers and selectors, 200 bytes."""

    _fields_ = [
        *((name, u64) for name in ("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10")),
        *((name, u64) for name in ("r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi")),
        ("error_code", u32),
        ("entry_vector", u32),
        ("rip", u64),
        ("cs", u16),
        ("_pad0", u8 * 2),
        ("saved_upcall_mask", u8),
        ("_pad1", u8 * 3),
        ("rflags", u64),
        ("rsp", u64),
        ("ss", u16),
        ("_pad2", u8 * 6),
        ("es", u16),
        ("_pad3", u8 * 6),
        ("ds", u16),
        ("_pad4", u8 * 6),
        ("fs", u16),
        ("_pad5", u8 * 6),
        ("gs", u16),
        ("_pad6", u8 * 6),
    ]


class vcpu_guest_context_x86_64(SaveStructure):
    """X86_PV_VCPU_BASIC of a 64-bit guest. In a stream `user_regs.rdx` of vcpu 0 (its
    start_info), the GDT frames and the page table bases are pfns where mfns were."""

    _fields_ = [
        ("fpu_ctxt", u8 * 512),
        ("flags", u64),
        ("user_regs", cpu_user_regs_x86_64),
        ("trap_ctxt", trap_info_x86_64 * 256),
        ("ldt_base", u64),
        ("ldt_ents", u64),
        ("gdt_frames", u64 * 16),
        ("gdt_ents", u64),
        ("kernel_ss", u64),
        ("kernel_sp", u64),
        ("ctrlreg", u64 * 8),
        ("debugreg", u64 * 8),
        ("event_callback_eip", u64),
        ("failsafe_callback_eip", u64),
        ("syscall_callback_eip", u64),
        ("vm_assist", u64),
        ("fs_base", u64),
        ("gs_base_kernel", u64),
        ("gs_base_user", u64),
    ]


class trap_info_x86_32(SaveStructure):
    """As the other."""

    _fields_ = [("vector", u8), ("flags", u8), ("cs", u16), ("address", u32)]


class cpu_user_regs_x86_32(SaveStructure):
    """General registers and selectors, 68 bytes."""

    _fields_ = [
        *((name, u32) for name in ("ebx", "ecx", "edx", "esi", "edi", "ebp", "eax")),
        ("error_code", u16),
        ("entry_vector", u16),
        ("eip", u32),
        ("cs", u16),
        ("saved_upcall_mask", u8),
        ("_pad0", u8),
        ("eflags", u32),
        ("esp", u32),
        ("ss", u16),
        ("_pad1", u16),
        ("es", u16),
        ("_pad2", u16),
        ("ds", u16),
        ("_pad3", u16),
        ("fs", u16),
        ("_pad4", u16),
        ("gs", u16),
        ("_pad5", u16),
    ]


class vcpu_guest_context_x86_32(SaveStructure):
    """X86_PV_VCPU_BASIC of a 32-bit guest; pfns for mfns as in the other."""

    _fields_ = [
        ("fpu_ctxt", u8 * 512),
        ("flags", u32),
        ("user_regs", cpu_user_regs_x86_32),
        ("trap_ctxt", trap_info_x86_32 * 256),
        ("ldt_base", u32),
        ("ldt_ents", u32),
        ("gdt_frames", u32 * 16),
        ("gdt_ents", u32),
        ("kernel_ss", u32),
        ("kernel_sp", u32),
        ("ctrlreg", u32 * 8),
        ("debugreg", u32 * 8),
        ("event_callback_cs", u32),
        ("event_callback_eip", u32),
        ("failsafe_callback_cs", u32),
        ("failsafe_callback_eip", u32),
        ("vm_assist", u32),
    ]


class xen_domctl_ext_vcpucontext(SaveStructure):
    """X86_PV_VCPU_EXTENDED, for guests of both widths; earlier releases wrote more."""

    _fields_ = [
        ("vcpu", u32),
        ("size", u32),
        ("syscall32_callback_eip", u64),
        ("sysenter_callback_eip", u64),
        ("syscall32_callback_cs", u16),
        ("sysenter_callback_cs", u16),
        ("syscall32_disables_events", u8),
        ("sysenter_disables_events", u8),
        ("_pad0", u8 * 2),
        ("vmce", u64 * 4),
    ]


class shared_info_x86_64(SaveStructure):
    """The head of the page; the rest of its 4096 bytes is not Xen's."""

    _fields_ = [
        ("vcpu_info", u8 * 2048),
        ("evtchn_pending", u64 * 64),
        ("evtchn_mask", u64 * 64),
        ("wc_version", u32),
        ("wc_sec", u32),
        ("wc_nsec", u32),
        ("wc_sec_hi", u32),
        ("max_pfn", u64),
        ("pfn_to_mfn_frame_list_list", u64),
        ("nmi_reason", u64),
        ("p2m_cr3", u64),
        ("p2m_vaddr", u64),
        ("p2m_generation", u64),
    ]


class shared_info_x86_32(SaveStructure):
    """As the other."""

    _fields_ = [
        ("vcpu_info", u8 * 2048),
        ("evtchn_pending", u32 * 32),
        ("evtchn_mask", u32 * 32),
        ("wc_version", u32),
        ("wc_sec", u32),
        ("wc_nsec", u32),
        ("max_pfn", u32),
        ("pfn_to_mfn_frame_list_list", u32),
        ("nmi_reason", u32),
        ("p2m_cr3", u32),
        ("p2m_vaddr", u32),
        ("p2m_generation", u32),
        ("wc_sec_hi", u32),
    ]


VCPU_CONTEXTS: dict[int, type[vcpu_guest_context_x86_64 | vcpu_guest_context_x86_32]] = {
    8: vcpu_guest_context_x86_64,
    4: vcpu_guest_context_x86_32,
}
"""By the bytes of the guest's word, as X86_PV_INFO says it."""
SHARED_INFOS: dict[int, type[shared_info_x86_64 | shared_info_x86_32]] = {
    8: shared_info_x86_64,
    4: shared_info_x86_32,
}
EVENT_CHANNELS = {8: 4096, 4: 1024}
