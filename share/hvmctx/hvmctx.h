/* What Xen saves of a guest: the records of HVM contexts, VMPORT's, and the headers and records of
 * the streams and files around them.
 *
 * Made by hvmctx 0.1.0 (hvmctx schema --c) out of its declarations. MIT licence.
 *
 * All is little-endian but for the headers that say otherwise. Structures are packed: what pads
 * them is a member. A record's body may be shorter than its structure where an older release wrote
 * it (HVMCTX_LENGTH_...), and longer where the comment says what follows. */
#ifndef HVMCTX_H
#define HVMCTX_H

#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "these structures are those of a little-endian machine"
#endif

#if defined(__cplusplus)
#define HVMCTX_BYTES(type, size) static_assert(sizeof(type) == (size), #type)
#else
#define HVMCTX_BYTES(type, size) _Static_assert(sizeof(type) == (size), #type)
#endif
#if defined(__GNUC__)
#define HVMCTX_EXTENSION __extension__ /* structures without a name are not in C++ */
#else
#define HVMCTX_EXTENSION
#endif

/* Numbers, and what files start with. */

#define HVMCTX_SAVE_TYPE_END 0x0u
#define HVMCTX_SAVE_TYPE_HEADER 0x1u
#define HVMCTX_SAVE_TYPE_CPU 0x2u
#define HVMCTX_SAVE_TYPE_PIC 0x3u
#define HVMCTX_SAVE_TYPE_IOAPIC 0x4u
#define HVMCTX_SAVE_TYPE_LAPIC 0x5u
#define HVMCTX_SAVE_TYPE_LAPIC_REGS 0x6u
#define HVMCTX_SAVE_TYPE_PCI_IRQ 0x7u
#define HVMCTX_SAVE_TYPE_ISA_IRQ 0x8u
#define HVMCTX_SAVE_TYPE_PCI_LINK 0x9u
#define HVMCTX_SAVE_TYPE_PIT 0xau
#define HVMCTX_SAVE_TYPE_RTC 0xbu
#define HVMCTX_SAVE_TYPE_HPET 0xcu
#define HVMCTX_SAVE_TYPE_PMTIMER 0xdu
#define HVMCTX_SAVE_TYPE_MTRR 0xeu
#define HVMCTX_SAVE_TYPE_VIRIDIAN_DOMAIN 0xfu
#define HVMCTX_SAVE_TYPE_CPU_XSAVE 0x10u
#define HVMCTX_SAVE_TYPE_VIRIDIAN_VCPU 0x11u
#define HVMCTX_SAVE_TYPE_VMCE_VCPU 0x12u
#define HVMCTX_SAVE_TYPE_TSC_ADJUST 0x13u
#define HVMCTX_SAVE_TYPE_CPU_MSR 0x14u
#define HVMCTX_SAVE_TYPE_VMPORT 0x15u

#define HVMCTX_LIBXL_TYPE_END 0x0u
#define HVMCTX_LIBXL_TYPE_LIBXC_CONTEXT 0x1u
#define HVMCTX_LIBXL_TYPE_EMULATOR_XENSTORE_DATA 0x2u
#define HVMCTX_LIBXL_TYPE_EMULATOR_CONTEXT 0x3u
#define HVMCTX_LIBXL_TYPE_CHECKPOINT_END 0x4u
#define HVMCTX_LIBXL_TYPE_CHECKPOINT_STATE 0x5u

#define HVMCTX_LIBXC_TYPE_END 0x0u
#define HVMCTX_LIBXC_TYPE_PAGE_DATA 0x1u
#define HVMCTX_LIBXC_TYPE_X86_PV_INFO 0x2u
#define HVMCTX_LIBXC_TYPE_X86_PV_P2M_FRAMES 0x3u
#define HVMCTX_LIBXC_TYPE_X86_PV_VCPU_BASIC 0x4u
#define HVMCTX_LIBXC_TYPE_X86_PV_VCPU_EXTENDED 0x5u
#define HVMCTX_LIBXC_TYPE_X86_PV_VCPU_XSAVE 0x6u
#define HVMCTX_LIBXC_TYPE_SHARED_INFO 0x7u
#define HVMCTX_LIBXC_TYPE_X86_TSC_INFO 0x8u
#define HVMCTX_LIBXC_TYPE_HVM_CONTEXT 0x9u
#define HVMCTX_LIBXC_TYPE_HVM_PARAMS 0xau
#define HVMCTX_LIBXC_TYPE_TOOLSTACK 0xbu
#define HVMCTX_LIBXC_TYPE_X86_PV_VCPU_MSRS 0xcu
#define HVMCTX_LIBXC_TYPE_VERIFY 0xdu
#define HVMCTX_LIBXC_TYPE_CHECKPOINT 0xeu
#define HVMCTX_LIBXC_TYPE_CHECKPOINT_DIRTY_PFN_LIST 0xfu
#define HVMCTX_LIBXC_TYPE_STATIC_DATA_END 0x10u
#define HVMCTX_LIBXC_TYPE_X86_CPUID_POLICY 0x11u
#define HVMCTX_LIBXC_TYPE_X86_MSR_POLICY 0x12u

#define HVMCTX_XAPI_TYPE_XENOPS 0xfu
#define HVMCTX_XAPI_TYPE_LIBXC 0xf0u
#define HVMCTX_XAPI_TYPE_LIBXL 0xf1u
#define HVMCTX_XAPI_TYPE_LIBXC_LEGACY 0xf2u
#define HVMCTX_XAPI_TYPE_QEMU_TRAD 0xf00u
#define HVMCTX_XAPI_TYPE_QEMU_XEN 0xf01u
#define HVMCTX_XAPI_TYPE_DEMU 0xf10u
#define HVMCTX_XAPI_TYPE_VARSTORED 0xf11u
#define HVMCTX_XAPI_TYPE_SWTPM0 0xf12u
#define HVMCTX_XAPI_TYPE_SWTPM 0xf13u
#define HVMCTX_XAPI_TYPE_END_OF_IMAGE 0xffffu

#define HVMCTX_HVM_PARAM_CALLBACK_IRQ 0x0u
#define HVMCTX_HVM_PARAM_STORE_PFN 0x1u
#define HVMCTX_HVM_PARAM_STORE_EVTCHN 0x2u
#define HVMCTX_HVM_PARAM_PAE_ENABLED 0x4u
#define HVMCTX_HVM_PARAM_IOREQ_PFN 0x5u
#define HVMCTX_HVM_PARAM_BUFIOREQ_PFN 0x6u
#define HVMCTX_HVM_PARAM_VIRIDIAN 0x9u
#define HVMCTX_HVM_PARAM_TIMER_MODE 0xau
#define HVMCTX_HVM_PARAM_HPET_ENABLED 0xbu
#define HVMCTX_HVM_PARAM_IDENT_PT 0xcu
#define HVMCTX_HVM_PARAM_DM_DOMAIN 0xdu
#define HVMCTX_HVM_PARAM_ACPI_S_STATE 0xeu
#define HVMCTX_HVM_PARAM_VM86_TSS 0xfu
#define HVMCTX_HVM_PARAM_VPT_ALIGN 0x10u
#define HVMCTX_HVM_PARAM_CONSOLE_PFN 0x11u
#define HVMCTX_HVM_PARAM_CONSOLE_EVTCHN 0x12u
#define HVMCTX_HVM_PARAM_ACPI_IOPORTS_LOCATION 0x13u
#define HVMCTX_HVM_PARAM_MEMORY_EVENT_CR0 0x14u
#define HVMCTX_HVM_PARAM_MEMORY_EVENT_CR3 0x15u
#define HVMCTX_HVM_PARAM_MEMORY_EVENT_CR4 0x16u
#define HVMCTX_HVM_PARAM_MEMORY_EVENT_INT3 0x17u
#define HVMCTX_HVM_PARAM_NESTEDHVM 0x18u
#define HVMCTX_HVM_PARAM_MEMORY_EVENT_SINGLE_STEP 0x19u
#define HVMCTX_HVM_PARAM_BUFIOREQ_EVTCHN 0x1au
#define HVMCTX_HVM_PARAM_PAGING_RING_PFN 0x1bu
#define HVMCTX_HVM_PARAM_MONITOR_RING_PFN 0x1cu
#define HVMCTX_HVM_PARAM_SHARING_RING_PFN 0x1du
#define HVMCTX_HVM_PARAM_MEMORY_EVENT_MSR 0x1eu
#define HVMCTX_HVM_PARAM_TRIPLE_FAULT_REASON 0x1fu
#define HVMCTX_HVM_PARAM_IOREQ_SERVER_PFN 0x20u
#define HVMCTX_HVM_PARAM_NR_IOREQ_SERVER_PAGES 0x21u
#define HVMCTX_HVM_PARAM_VM_GENERATION_ID_ADDR 0x22u
#define HVMCTX_HVM_PARAM_ALTP2M 0x23u
#define HVMCTX_HVM_PARAM_X87_FIP_WIDTH 0x24u
#define HVMCTX_HVM_PARAM_VM86_TSS_SIZED 0x25u
#define HVMCTX_HVM_PARAM_MCA_CAP 0x26u

#define HVMCTX_GUEST_TYPE_X86_PV 0x1u
#define HVMCTX_GUEST_TYPE_X86_HVM 0x2u
#define HVMCTX_GUEST_TYPE_X86_PVH 0x3u
#define HVMCTX_GUEST_TYPE_ARM 0x4u

#define HVMCTX_PAGE_TYPE_NORMAL 0x0u
#define HVMCTX_PAGE_TYPE_L1_TABLE 0x1u
#define HVMCTX_PAGE_TYPE_L2_TABLE 0x2u
#define HVMCTX_PAGE_TYPE_L3_TABLE 0x3u
#define HVMCTX_PAGE_TYPE_L4_TABLE 0x4u
#define HVMCTX_PAGE_TYPE_L1_TABLE_PINNED 0x9u
#define HVMCTX_PAGE_TYPE_L2_TABLE_PINNED 0xau
#define HVMCTX_PAGE_TYPE_L3_TABLE_PINNED 0xbu
#define HVMCTX_PAGE_TYPE_L4_TABLE_PINNED 0xcu
#define HVMCTX_PAGE_TYPE_BROKEN 0xdu
#define HVMCTX_PAGE_TYPE_ALLOCATE_ONLY 0xeu
#define HVMCTX_PAGE_TYPE_ABSENT 0xfu

#define HVMCTX_EMULATOR_UNKNOWN 0x0u
#define HVMCTX_EMULATOR_QEMU_TRADITIONAL 0x1u
#define HVMCTX_EMULATOR_QEMU_UPSTREAM 0x2u

#define HVMCTX_CHECKPOINT_STATE_NEW 0x0u
#define HVMCTX_CHECKPOINT_STATE_SVM_SUSPENDED 0x1u
#define HVMCTX_CHECKPOINT_STATE_SVM_READY 0x2u
#define HVMCTX_CHECKPOINT_STATE_SVM_RESUMED 0x3u

#define HVMCTX_VMPORT_PROTO_CLOSED 0x0u
#define HVMCTX_VMPORT_PROTO_RPCI 0x49435052u
#define HVMCTX_VMPORT_PROTO_TCLO 0x4f4c4354u

#define HVMCTX_XL_MAGIC "Xen saved domain, xl format\012 \000 \015" /* 32 bytes */
#define HVMCTX_XAPI_MAGIC "XenSavedDom" /* 11 bytes */
#define HVMCTX_LIBVIRT_MAGIC "libvirt-xml\012 \000 \015" /* 16 bytes */
#define HVMCTX_LIBXL_MAGIC "LibxlFmt" /* 8 bytes */
#define HVMCTX_LIBXC_MAGIC "\377\377\377\377\377\377\377\377" /* 8 bytes */

/* Bytes of a save record's body, by the release since which they hold. */

#define HVMCTX_LENGTH_END_4_0 0u
#define HVMCTX_LENGTH_HEADER_4_0 24u
#define HVMCTX_LENGTH_CPU_4_0 1024u
#define HVMCTX_LENGTH_CPU_4_7 1032u
#define HVMCTX_LENGTH_PIC_4_0 8u
#define HVMCTX_LENGTH_IOAPIC_4_0 400u
#define HVMCTX_LENGTH_LAPIC_4_0 16u
#define HVMCTX_LENGTH_LAPIC_4_1 24u
#define HVMCTX_LENGTH_LAPIC_4_18 32u
#define HVMCTX_LENGTH_LAPIC_REGS_4_0 1024u
#define HVMCTX_LENGTH_PCI_IRQ_4_0 16u
#define HVMCTX_LENGTH_ISA_IRQ_4_0 8u
#define HVMCTX_LENGTH_PCI_LINK_4_0 8u
#define HVMCTX_LENGTH_PIT_4_0 56u
#define HVMCTX_LENGTH_RTC_4_0 16u
#define HVMCTX_LENGTH_RTC_4_14 24u
#define HVMCTX_LENGTH_HPET_4_0 1048u
#define HVMCTX_LENGTH_PMTIMER_4_0 8u
#define HVMCTX_LENGTH_MTRR_4_0 240u
#define HVMCTX_LENGTH_VIRIDIAN_DOMAIN_4_0 16u
#define HVMCTX_LENGTH_VIRIDIAN_DOMAIN_4_5 24u
#define HVMCTX_LENGTH_VIRIDIAN_DOMAIN_4_6 32u
#define HVMCTX_LENGTH_CPU_XSAVE_4_1 600u
#define HVMCTX_LENGTH_VIRIDIAN_VCPU_4_2 8u
#define HVMCTX_LENGTH_VIRIDIAN_VCPU_4_7 16u
#define HVMCTX_LENGTH_VIRIDIAN_VCPU_4_13 216u
#define HVMCTX_LENGTH_VMCE_VCPU_4_2 8u
#define HVMCTX_LENGTH_VMCE_VCPU_4_3 24u
#define HVMCTX_LENGTH_VMCE_VCPU_4_10 32u
#define HVMCTX_LENGTH_TSC_ADJUST_4_3 8u
#define HVMCTX_LENGTH_CPU_MSR_4_5 8u
#define HVMCTX_LENGTH_CPU_COMPAT 1016u

#pragma pack(push, 1)

/* Precedes every record. `length` counts the body only. */
struct hvmctx_hvm_save_descriptor {
    uint16_t typecode;
    uint16_t instance;
    uint32_t length;
};
HVMCTX_BYTES(struct hvmctx_hvm_save_descriptor, 8);

/* `changeset` is all ones when unknown; `cpuid` is leaf 1 EAX of the saving host. */
struct hvmctx_hvm_save_header {
    uint32_t magic;
    uint32_t version;
    uint64_t changeset;
    uint32_t cpuid;
    uint32_t gtsc_khz;
};
HVMCTX_BYTES(struct hvmctx_hvm_save_header, 24);

/* 1032 bytes since 4.7; 1024 (no `flags`, `pad0`) in 4.0 to 4.6. */
struct hvmctx_hvm_hw_cpu {
    uint8_t fpu_regs[512];
    uint64_t rax;
    uint64_t rbx;
    uint64_t rcx;
    uint64_t rdx;
    uint64_t rbp;
    uint64_t rsi;
    uint64_t rdi;
    uint64_t rsp;
    uint64_t r8;
    uint64_t r9;
    uint64_t r10;
    uint64_t r11;
    uint64_t r12;
    uint64_t r13;
    uint64_t r14;
    uint64_t r15;
    uint64_t rip;
    uint64_t rflags;
    uint64_t cr0;
    uint64_t cr2;
    uint64_t cr3;
    uint64_t cr4;
    uint64_t dr0;
    uint64_t dr1;
    uint64_t dr2;
    uint64_t dr3;
    uint64_t dr6;
    uint64_t dr7;
    uint32_t cs_sel;
    uint32_t ds_sel;
    uint32_t es_sel;
    uint32_t fs_sel;
    uint32_t gs_sel;
    uint32_t ss_sel;
    uint32_t tr_sel;
    uint32_t ldtr_sel;
    uint32_t cs_limit;
    uint32_t ds_limit;
    uint32_t es_limit;
    uint32_t fs_limit;
    uint32_t gs_limit;
    uint32_t ss_limit;
    uint32_t tr_limit;
    uint32_t ldtr_limit;
    uint32_t idtr_limit;
    uint32_t gdtr_limit;
    uint64_t cs_base;
    uint64_t ds_base;
    uint64_t es_base;
    uint64_t fs_base;
    uint64_t gs_base;
    uint64_t ss_base;
    uint64_t tr_base;
    uint64_t ldtr_base;
    uint64_t idtr_base;
    uint64_t gdtr_base;
    uint32_t cs_arbytes;
    uint32_t ds_arbytes;
    uint32_t es_arbytes;
    uint32_t fs_arbytes;
    uint32_t gs_arbytes;
    uint32_t ss_arbytes;
    uint32_t tr_arbytes;
    uint32_t ldtr_arbytes;
    uint64_t sysenter_cs;
    uint64_t sysenter_esp;
    uint64_t sysenter_eip;
    uint64_t shadow_gs;
    uint64_t msr_flags;
    uint64_t msr_lstar;
    uint64_t msr_star;
    uint64_t msr_cstar;
    uint64_t msr_syscall_mask;
    uint64_t msr_efer;
    uint64_t msr_tsc_aux;
    uint64_t tsc;
    HVMCTX_EXTENSION union {
        uint32_t pending_event;
        HVMCTX_EXTENSION struct {
            uint32_t pending_vector : 8;
            uint32_t pending_type : 3;
            uint32_t pending_error_valid : 1;
            uint32_t pending_reserved : 19;
            uint32_t pending_valid : 1;
        };
    };
    uint32_t error_code;
    uint32_t flags;
    uint32_t pad0;
};
HVMCTX_BYTES(struct hvmctx_hvm_hw_cpu, 1032);

/* One 8259, master or slave by the record's instance (0, 1). */
struct hvmctx_hvm_hw_vpic {
    uint8_t irr;
    uint8_t imr;
    uint8_t isr;
    uint8_t irq_base;
    uint8_t init_state : 4;
    uint8_t priority_add : 4;
    uint8_t readsel_isr : 1;
    uint8_t poll : 1;
    uint8_t auto_eoi : 1;
    uint8_t rotate_on_auto_eoi : 1;
    uint8_t special_fully_nested_mode : 1;
    uint8_t special_mask_mode : 1;
    uint8_t is_master : 1;
    uint8_t pad0 : 1;
    uint8_t elcr;
    uint8_t int_output;
};
HVMCTX_BYTES(struct hvmctx_hvm_hw_vpic, 8);

struct hvmctx_vioapic_redir_fields {
    uint8_t vector;
    uint8_t delivery_mode : 3;
    uint8_t dest_mode : 1;
    uint8_t delivery_status : 1;
    uint8_t polarity : 1;
    uint8_t remote_irr : 1;
    uint8_t trig_mode : 1;
    uint8_t mask : 1;
    uint8_t reserve : 7;
    uint8_t reserved[4];
    uint8_t dest_id;
};
HVMCTX_BYTES(struct hvmctx_vioapic_redir_fields, 8);

/* A pin's redirection entry, as a number and by its fields. */
union hvmctx_vioapic_redir_entry {
    uint64_t bits;
    struct hvmctx_vioapic_redir_fields fields;
};
HVMCTX_BYTES(union hvmctx_vioapic_redir_entry, 8);

/* Registers and the 48 pins of the virtual IO-APIC. */
struct hvmctx_hvm_hw_vioapic {
    uint64_t base_address;
    uint32_t ioregsel;
    uint32_t id;
    union hvmctx_vioapic_redir_entry redirtbl[48];
};
HVMCTX_BYTES(struct hvmctx_hvm_hw_vioapic, 400);

/* 16 bytes in 4.0, 24 from 4.1, 32 with `pending_esr` (see `releases`). */
struct hvmctx_hvm_hw_lapic {
    uint64_t apic_base_msr;
    uint32_t disabled;
    uint32_t timer_divisor;
    uint64_t tdt_msr;
    uint32_t pending_esr;
    uint32_t pad0;
};
HVMCTX_BYTES(struct hvmctx_hvm_hw_lapic, 32);

/* The first 0x400 bytes of the register page: 32-bit registers, one every 16 bytes. */
struct hvmctx_hvm_hw_lapic_regs {
    uint8_t data[1024];
};
HVMCTX_BYTES(struct hvmctx_hvm_hw_lapic_regs, 1024);

/* Level of each of the 4 INTx lines of 32 devices, a bit each. */
struct hvmctx_hvm_hw_pci_irqs {
    HVMCTX_EXTENSION union {
        uint64_t i[2];
        uint64_t pad[2];
    };
};
HVMCTX_BYTES(struct hvmctx_hvm_hw_pci_irqs, 16);

/* Level of the 16 ISA lines, a bit each; the rest of the first word is unused. */
struct hvmctx_hvm_hw_isa_irqs {
    HVMCTX_EXTENSION union {
        uint64_t i[1];
        uint64_t pad[1];
    };
};
HVMCTX_BYTES(struct hvmctx_hvm_hw_isa_irqs, 8);

/* The ISA line that each of the four PCI link devices drives; 0 for none. */
struct hvmctx_hvm_hw_pci_link {
    uint8_t route[4];
    uint8_t pad0[4];
};
HVMCTX_BYTES(struct hvmctx_hvm_hw_pci_link, 8);

/* One counter of the 8254; latched values and modes as its registers have them. */
struct hvmctx_hvm_hw_pit_channel {
    uint32_t count;
    uint16_t latched_count;
    uint8_t count_latched;
    uint8_t status_latched;
    uint8_t status;
    uint8_t read_state;
    uint8_t write_state;
    uint8_t write_latch;
    uint8_t rw_mode;
    uint8_t mode;
    uint8_t bcd;
    uint8_t gate;
};
HVMCTX_BYTES(struct hvmctx_hvm_hw_pit_channel, 16);

/* The three counters, and port 0x61's speaker bit. */
struct hvmctx_hvm_hw_pit {
    struct hvmctx_hvm_hw_pit_channel channels[3];
    uint32_t speaker_data_on;
    uint32_t pad0;
};
HVMCTX_BYTES(struct hvmctx_hvm_hw_pit, 56);

/* 16 bytes up to 4.13; `rtc_offset` (seconds, signed) since 4.14. */
struct hvmctx_hvm_hw_rtc {
    uint8_t cmos_data[14];
    uint8_t cmos_index;
    uint8_t pad0;
    int64_t rtc_offset;
};
HVMCTX_BYTES(struct hvmctx_hvm_hw_rtc, 24);

/* A comparator's registers; `cmp` is in ticks of the counter. */
struct hvmctx_hvm_hw_hpet_timer {
    uint64_t config;
    uint64_t cmp;
    uint64_t fsb;
    uint64_t res4;
};
HVMCTX_BYTES(struct hvmctx_hvm_hw_hpet_timer, 32);

/* Registers by their offsets in the HPET's page; `mc64` is the main counter. */
struct hvmctx_hvm_hw_hpet {
    uint64_t capability;
    uint64_t res0;
    uint64_t config;
    uint64_t res1;
    uint64_t isr;
    uint64_t res2[25];
    uint64_t mc64;
    uint64_t res3;
    struct hvmctx_hvm_hw_hpet_timer timers[3];
    uint64_t res5[84];
    uint64_t period[3];
};
HVMCTX_BYTES(struct hvmctx_hvm_hw_hpet, 1048);

/* The ACPI timer, 3.579545 MHz, and the PM1a registers. */
struct hvmctx_hvm_hw_pmtimer {
    uint32_t tmr_val;
    uint16_t pm1a_sts;
    uint16_t pm1a_en;
};
HVMCTX_BYTES(struct hvmctx_hvm_hw_pmtimer, 8);

/* `msr_mtrr_var` holds base and mask of each of the eight ranges in turn. */
struct hvmctx_hvm_hw_mtrr {
    uint64_t msr_pat_cr;
    uint64_t msr_mtrr_var[16];
    uint64_t msr_mtrr_fixed[11];
    uint64_t msr_mtrr_cap;
    uint64_t msr_mtrr_def_type;
};
HVMCTX_BYTES(struct hvmctx_hvm_hw_mtrr, 240);

/* 16 bytes up to 4.4 (called VIRIDIAN in 4.0 and 4.1), 24 in 4.5, 32 since 4.6. */
struct hvmctx_hvm_viridian_domain_context {
    uint64_t hypercall_gpa;
    uint64_t guest_os_id;
    uint64_t time_ref_count;
    uint64_t reference_tsc;
};
HVMCTX_BYTES(struct hvmctx_hvm_viridian_domain_context, 32);

struct hvmctx_xsave_fpu_sse {
    uint8_t x[512];
};
HVMCTX_BYTES(struct hvmctx_xsave_fpu_sse, 512);

/* Up to 4.6 `xcomp_bv` was part of the reserved words. */
struct hvmctx_xsave_hdr {
    uint64_t xstate_bv;
    uint64_t xcomp_bv;
    uint64_t reserved[6];
};
HVMCTX_BYTES(struct hvmctx_xsave_hdr, 64);

struct hvmctx_xsave_area {
    struct hvmctx_xsave_fpu_sse fpu_sse;
    struct hvmctx_xsave_hdr xsave_hdr;
};
HVMCTX_BYTES(struct hvmctx_xsave_area, 576);

/* The least that a loader takes; the components beyond x87 and SSE follow, in the
 * uncompressed layout for `xcr0_accum`. Then uint8_t extended[], as many as the length has
 * room for. */
struct hvmctx_hvm_hw_cpu_xsave {
    uint64_t xfeature_mask;
    uint64_t xcr0;
    uint64_t xcr0_accum;
    struct hvmctx_xsave_area save_area;
};
HVMCTX_BYTES(struct hvmctx_hvm_hw_cpu_xsave, 600);

/* 8 bytes up to 4.6, 16 in 4.7 to 4.12, 216 since 4.13. The first two fields were renamed on
 * the way: apic_assist, apic_assist_msr, vp_assist_msr; apic_assist_vector,
 * vp_assist_vector, vp_assist_pending, apic_assist_pending. */
struct hvmctx_hvm_viridian_vcpu_context {
    uint64_t vp_assist_msr;
    uint8_t apic_assist_pending;
    uint8_t pad[7];
    uint64_t simp_msr;
    uint64_t sint_msr[16];
    uint64_t stimer_config_msr[4];
    uint64_t stimer_count_msr[4];
};
HVMCTX_BYTES(struct hvmctx_hvm_viridian_vcpu_context, 216);

/* 8 bytes in 4.2, 24 in 4.3 to 4.9, 32 since 4.10. */
struct hvmctx_hvm_vmce_vcpu {
    uint64_t caps;
    uint64_t mci_ctl2_bank0;
    uint64_t mci_ctl2_bank1;
    uint64_t mcg_ext_ctl;
};
HVMCTX_BYTES(struct hvmctx_hvm_vmce_vcpu, 32);

/* IA32_TSC_ADJUST, in ticks. */
struct hvmctx_hvm_tsc_adjust {
    uint64_t tsc_adjust;
};
HVMCTX_BYTES(struct hvmctx_hvm_tsc_adjust, 8);

/* An element of CPU_MSR. */
struct hvmctx_hvm_one_msr {
    uint32_t index;
    uint32_t rsvd;
    uint64_t val;
};
HVMCTX_BYTES(struct hvmctx_hvm_one_msr, 16);

/* Followed by `count` of `hvm_one_msr`. Then struct hvmctx_hvm_one_msr msr[], as many as the
 * length has room for. */
struct hvmctx_hvm_msr {
    uint32_t count;
    uint32_t pad0;
};
HVMCTX_BYTES(struct hvmctx_hvm_msr, 8);

/* The fixed part of a receive bucket, the jumbo one too: 4 bytes. `recv_len` is how many
 * bytes are in it, even where the writer keeps fewer of them; `recv_idx` is how many of them
 * have been consumed. A reconstruction: the patch names the fields, the header that declares
 * them is missing. */
struct hvmctx_vmport_bucket_control {
    uint16_t recv_len;
    uint16_t recv_idx;
};
HVMCTX_BYTES(struct hvmctx_vmport_bucket_control, 4);

struct hvmctx_vmport_packed_channel {
    uint64_t active_time;
    uint32_t chan_id;
    uint32_t cookie;
    uint32_t proto_num;
    uint16_t send_len;
    uint16_t send_idx;
    uint8_t jumbo;
    uint8_t recv_read;
    uint8_t recv_write;
    uint8_t pad0[5];
    struct hvmctx_vmport_bucket_control recv_bkt[8];
    struct hvmctx_vmport_bucket_control jumbo_recv_bkt;
    uint8_t pad1[4];
};
HVMCTX_BYTES(struct hvmctx_vmport_packed_channel, 72);

/* Head and channels of a body. packed_data has for each channel its send bytes and those of
 * each bucket, the jumbo one last, as many as their lengths say; then used_guestinfo entries
 * (u8 key_len, u8 val_len, key, value) and used_guestinfo_jumbo (u8 key_len, u16 val_len,
 * key, value). */
struct hvmctx_hvm_save_vmport_packed {
    uint32_t version;
    uint32_t used_guestsize;
    uint64_t ping_time;
    uint32_t open_cookie;
    uint32_t used_guestinfo;
    uint32_t used_guestinfo_jumbo;
    uint32_t pad0;
    struct hvmctx_vmport_packed_channel chans[6];
};
HVMCTX_BYTES(struct hvmctx_hvm_save_vmport_packed, 464);

/* The 1016 bytes of Xen before 3.4: no `msr_tsc_aux`, so all that follows is 8 lower. */
struct hvmctx_hvm_hw_cpu_compat {
    uint8_t fpu_regs[512];
    uint64_t rax;
    uint64_t rbx;
    uint64_t rcx;
    uint64_t rdx;
    uint64_t rbp;
    uint64_t rsi;
    uint64_t rdi;
    uint64_t rsp;
    uint64_t r8;
    uint64_t r9;
    uint64_t r10;
    uint64_t r11;
    uint64_t r12;
    uint64_t r13;
    uint64_t r14;
    uint64_t r15;
    uint64_t rip;
    uint64_t rflags;
    uint64_t cr0;
    uint64_t cr2;
    uint64_t cr3;
    uint64_t cr4;
    uint64_t dr0;
    uint64_t dr1;
    uint64_t dr2;
    uint64_t dr3;
    uint64_t dr6;
    uint64_t dr7;
    uint32_t cs_sel;
    uint32_t ds_sel;
    uint32_t es_sel;
    uint32_t fs_sel;
    uint32_t gs_sel;
    uint32_t ss_sel;
    uint32_t tr_sel;
    uint32_t ldtr_sel;
    uint32_t cs_limit;
    uint32_t ds_limit;
    uint32_t es_limit;
    uint32_t fs_limit;
    uint32_t gs_limit;
    uint32_t ss_limit;
    uint32_t tr_limit;
    uint32_t ldtr_limit;
    uint32_t idtr_limit;
    uint32_t gdtr_limit;
    uint64_t cs_base;
    uint64_t ds_base;
    uint64_t es_base;
    uint64_t fs_base;
    uint64_t gs_base;
    uint64_t ss_base;
    uint64_t tr_base;
    uint64_t ldtr_base;
    uint64_t idtr_base;
    uint64_t gdtr_base;
    uint32_t cs_arbytes;
    uint32_t ds_arbytes;
    uint32_t es_arbytes;
    uint32_t fs_arbytes;
    uint32_t gs_arbytes;
    uint32_t ss_arbytes;
    uint32_t tr_arbytes;
    uint32_t ldtr_arbytes;
    uint64_t sysenter_cs;
    uint64_t sysenter_esp;
    uint64_t sysenter_eip;
    uint64_t shadow_gs;
    uint64_t msr_flags;
    uint64_t msr_lstar;
    uint64_t msr_star;
    uint64_t msr_cstar;
    uint64_t msr_syscall_mask;
    uint64_t msr_efer;
    uint64_t tsc;
    HVMCTX_EXTENSION union {
        uint32_t pending_event;
        HVMCTX_EXTENSION struct {
            uint32_t pending_vector : 8;
            uint32_t pending_type : 3;
            uint32_t pending_error_valid : 1;
            uint32_t pending_reserved : 19;
            uint32_t pending_valid : 1;
        };
    };
    uint32_t error_code;
};
HVMCTX_BYTES(struct hvmctx_hvm_hw_cpu_compat, 1016);

/* What follows the magic. */
struct hvmctx_xl_header {
    uint32_t byteorder;
    uint32_t mandatory_flags;
    uint32_t optional_flags;
    uint32_t optional_data_len;
};
HVMCTX_BYTES(struct hvmctx_xl_header, 16);

/* What follows the first 11 bytes of the signature: its other four. */
struct hvmctx_xapi_header {
    uint32_t kind;
};
HVMCTX_BYTES(struct hvmctx_xapi_header, 4);

/* What follows the magic, in the byte order of the machine; then the domain's XML. */
struct hvmctx_libvirt_header {
    uint32_t version;
    uint32_t xml_len;
    uint32_t reserved0;
    uint32_t reserved1;
    uint32_t reserved2;
    uint32_t reserved3;
    uint32_t reserved4;
    uint32_t reserved5;
    uint32_t reserved6;
    uint32_t reserved7;
    uint32_t reserved8;
    uint32_t reserved9;
};
HVMCTX_BYTES(struct hvmctx_libvirt_header, 48);

/* The header of a libxl stream. Big-endian. */
struct hvmctx_libxl_header {
    uint64_t ident;
    uint32_t version;
    uint32_t options;
};
HVMCTX_BYTES(struct hvmctx_libxl_header, 16);

/* The first header of a libxc stream. Big-endian. */
struct hvmctx_image_header {
    uint64_t marker;
    uint32_t id;
    uint32_t version;
    uint16_t options;
    uint16_t reserved1;
    uint32_t reserved2;
};
HVMCTX_BYTES(struct hvmctx_image_header, 24);

/* The second: what kind of guest, of which Xen. */
struct hvmctx_domain_header {
    uint32_t type;
    uint16_t page_shift;
    uint16_t reserved;
    uint32_t xen_major;
    uint32_t xen_minor;
};
HVMCTX_BYTES(struct hvmctx_domain_header, 16);

/* Of libxl and libxc records alike. `length` is that of the body, padding not counted. */
struct hvmctx_record_header {
    uint32_t type;
    uint32_t length;
};
HVMCTX_BYTES(struct hvmctx_record_header, 8);

/* Of a record of XAPI's. `length` means nothing for some types: `XAPI_BODILESS`. */
struct hvmctx_xapi_record_header {
    uint64_t type;
    uint64_t length;
};
HVMCTX_BYTES(struct hvmctx_xapi_record_header, 16);

/* What stands before the words of a PAGE_DATA record. Then uint64_t words[], as many as
 * count says, uint8_t pages[]. */
struct hvmctx_libxc_page_data {
    uint32_t count;
    uint32_t reserved;
};
HVMCTX_BYTES(struct hvmctx_libxc_page_data, 8);

/* X86_PV_INFO: guest_width in bytes (4, 8), pt_levels (3, 4). Then uint8_t reserved[]. */
struct hvmctx_libxc_x86_pv_info {
    uint8_t guest_width;
    uint8_t pt_levels;
};
HVMCTX_BYTES(struct hvmctx_libxc_x86_pv_info, 2);

/* X86_PV_P2M_FRAMES: the frames that hold the p2m for pfns start to end, inclusive. Then
 * uint64_t frames[]. */
struct hvmctx_libxc_x86_pv_p2m_frames {
    uint32_t start_pfn;
    uint32_t end_pfn;
};
HVMCTX_BYTES(struct hvmctx_libxc_x86_pv_p2m_frames, 8);

/* X86_PV_VCPU_BASIC: registers and tables. Then uint8_t state[]. */
struct hvmctx_libxc_x86_pv_vcpu_basic {
    uint32_t vcpu;
    uint32_t reserved;
};
HVMCTX_BYTES(struct hvmctx_libxc_x86_pv_vcpu_basic, 8);

/* X86_PV_VCPU_EXTENDED: callbacks of 32-bit system calls, machine check banks. Then uint8_t
 * state[]. */
struct hvmctx_libxc_x86_pv_vcpu_extended {
    uint32_t vcpu;
    uint32_t reserved;
};
HVMCTX_BYTES(struct hvmctx_libxc_x86_pv_vcpu_extended, 8);

/* X86_PV_VCPU_XSAVE: u64 xcr0, u64 xcr0_accum, and an xsave image, uncompressed (none, or
 * 576 bytes and more). Then uint8_t state[]. */
struct hvmctx_libxc_x86_pv_vcpu_xsave {
    uint32_t vcpu;
    uint32_t reserved;
};
HVMCTX_BYTES(struct hvmctx_libxc_x86_pv_vcpu_xsave, 8);

/* SHARED_INFO: the guest's shared page as it was. */
struct hvmctx_libxc_shared_info {
    uint8_t page[4096];
};
HVMCTX_BYTES(struct hvmctx_libxc_shared_info, 4096);

/* X86_TSC_INFO: mode (0 default, 1 always emulate, 2 never emulate), frequency in kHz,
 * elapsed time in ns, and how often the guest was restored. */
struct hvmctx_libxc_x86_tsc_info {
    uint32_t mode;
    uint32_t khz;
    uint64_t nsec;
    uint32_t incarnation;
    uint32_t reserved;
};
HVMCTX_BYTES(struct hvmctx_libxc_x86_tsc_info, 24);

/* An HVM parameter; names of indices in `abi.streams`. */
struct hvmctx_hvm_param {
    uint64_t index;
    uint64_t value;
};
HVMCTX_BYTES(struct hvmctx_hvm_param, 16);

/* HVM_PARAMS: rows of `hvm_param`, in stream order. Then struct hvmctx_hvm_param params[],
 * as many as count says. */
struct hvmctx_libxc_hvm_params {
    uint32_t count;
    uint32_t reserved;
};
HVMCTX_BYTES(struct hvmctx_libxc_hvm_params, 8);

/* An MSR of a PV vcpu. */
struct hvmctx_vcpu_msr {
    uint32_t index;
    uint32_t reserved;
    uint64_t value;
};
HVMCTX_BYTES(struct hvmctx_vcpu_msr, 16);

/* X86_PV_VCPU_MSRS: rows of `vcpu_msr`. Then struct hvmctx_vcpu_msr msrs[]. */
struct hvmctx_libxc_x86_pv_vcpu_msrs {
    uint32_t vcpu;
    uint32_t reserved;
};
HVMCTX_BYTES(struct hvmctx_libxc_x86_pv_vcpu_msrs, 8);

/* A leaf of CPUID. A subleaf of all ones means that the leaf has none. */
struct hvmctx_cpuid_leaf {
    uint32_t leaf;
    uint32_t subleaf;
    uint32_t eax;
    uint32_t ebx;
    uint32_t ecx;
    uint32_t edx;
};
HVMCTX_BYTES(struct hvmctx_cpuid_leaf, 24);

/* An MSR as the guest sees it. `flags` are always 0. */
struct hvmctx_policy_msr {
    uint32_t index;
    uint32_t flags;
    uint64_t value;
};
HVMCTX_BYTES(struct hvmctx_policy_msr, 16);

/* EMULATOR_XENSTORE_DATA: pairs of keys and values below the device model's node. Then
 * pairs: strings that end in a NUL each, a key and its value in turn. */
struct hvmctx_libxl_emulator_xenstore_data {
    uint32_t emulator_id;
    uint32_t index;
};
HVMCTX_BYTES(struct hvmctx_libxl_emulator_xenstore_data, 8);

/* EMULATOR_CONTEXT: which device model, which of its instances (always 0), and the file it
 * saved. Then uint8_t payload[]. */
struct hvmctx_libxl_emulator_context {
    uint32_t emulator_id;
    uint32_t index;
};
HVMCTX_BYTES(struct hvmctx_libxl_emulator_context, 8);

/* CHECKPOINT_STATE (4.7+, COLO): 0 NEW, 1 SVM_SUSPENDED, 2 SVM_READY, 3 SVM_RESUMED. Then
 * uint8_t rest[]. */
struct hvmctx_libxl_checkpoint_state {
    uint32_t id;
};
HVMCTX_BYTES(struct hvmctx_libxl_checkpoint_state, 4);

#pragma pack(pop)

#endif
