# Made by tools/stubs.py out of x86.py (make generate): what type checkers see of it.
from struct import Struct

from hvmctx.abi.declare import RecordType, SaveStructure
from hvmctx.abi.typed import Array, Field, KnownStructure, KnownUnion

HVM_FILE_MAGIC: int
HVM_FILE_VERSION: int
XEN_X86_FPU_INITIALISED: int
VIOAPIC_NUM_PINS: int
MTRR_VCNT: int
NUM_FIXED_MSR: int
HPET_TIMER_NUM: int
RTC_CMOS_SIZE: int

DESCRIPTOR: Struct

END: RecordType
HEADER: RecordType
CPU: RecordType
PIC: RecordType
IOAPIC: RecordType
LAPIC: RecordType
LAPIC_REGS: RecordType
PCI_IRQ: RecordType
ISA_IRQ: RecordType
PCI_LINK: RecordType
PIT: RecordType
RTC: RecordType
HPET: RecordType
PMTIMER: RecordType
MTRR: RecordType
VIRIDIAN_DOMAIN: RecordType
CPU_XSAVE: RecordType
VIRIDIAN_VCPU: RecordType
VMCE_VCPU: RecordType
TSC_ADJUST: RecordType
CPU_MSR: RecordType

class hvm_save_descriptor(KnownStructure):
    typecode: Field[int]
    instance: Field[int]
    length: Field[int]

class hvm_save_end(KnownStructure): ...

class hvm_save_header(KnownStructure):
    magic: Field[int]
    version: Field[int]
    changeset: Field[int]
    cpuid: Field[int]
    gtsc_khz: Field[int]

class _pending_event_bits(KnownStructure):
    pending_vector: Field[int]
    pending_type: Field[int]
    pending_error_valid: Field[int]
    pending_reserved: Field[int]
    pending_valid: Field[int]

class _pending_event(KnownUnion):
    pending_event: Field[int]
    pending_vector: Field[int]
    pending_type: Field[int]
    pending_error_valid: Field[int]
    pending_reserved: Field[int]
    pending_valid: Field[int]

class hvm_hw_cpu(KnownStructure):
    fpu_regs: Field[Array[int]]
    rax: Field[int]
    rbx: Field[int]
    rcx: Field[int]
    rdx: Field[int]
    rbp: Field[int]
    rsi: Field[int]
    rdi: Field[int]
    rsp: Field[int]
    r8: Field[int]
    r9: Field[int]
    r10: Field[int]
    r11: Field[int]
    r12: Field[int]
    r13: Field[int]
    r14: Field[int]
    r15: Field[int]
    rip: Field[int]
    rflags: Field[int]
    cr0: Field[int]
    cr2: Field[int]
    cr3: Field[int]
    cr4: Field[int]
    dr0: Field[int]
    dr1: Field[int]
    dr2: Field[int]
    dr3: Field[int]
    dr6: Field[int]
    dr7: Field[int]
    cs_sel: Field[int]
    ds_sel: Field[int]
    es_sel: Field[int]
    fs_sel: Field[int]
    gs_sel: Field[int]
    ss_sel: Field[int]
    tr_sel: Field[int]
    ldtr_sel: Field[int]
    cs_limit: Field[int]
    ds_limit: Field[int]
    es_limit: Field[int]
    fs_limit: Field[int]
    gs_limit: Field[int]
    ss_limit: Field[int]
    tr_limit: Field[int]
    ldtr_limit: Field[int]
    idtr_limit: Field[int]
    gdtr_limit: Field[int]
    cs_base: Field[int]
    ds_base: Field[int]
    es_base: Field[int]
    fs_base: Field[int]
    gs_base: Field[int]
    ss_base: Field[int]
    tr_base: Field[int]
    ldtr_base: Field[int]
    idtr_base: Field[int]
    gdtr_base: Field[int]
    cs_arbytes: Field[int]
    ds_arbytes: Field[int]
    es_arbytes: Field[int]
    fs_arbytes: Field[int]
    gs_arbytes: Field[int]
    ss_arbytes: Field[int]
    tr_arbytes: Field[int]
    ldtr_arbytes: Field[int]
    sysenter_cs: Field[int]
    sysenter_esp: Field[int]
    sysenter_eip: Field[int]
    shadow_gs: Field[int]
    msr_flags: Field[int]
    msr_lstar: Field[int]
    msr_star: Field[int]
    msr_cstar: Field[int]
    msr_syscall_mask: Field[int]
    msr_efer: Field[int]
    msr_tsc_aux: Field[int]
    tsc: Field[int]
    pending_event: Field[int]
    pending_vector: Field[int]
    pending_type: Field[int]
    pending_error_valid: Field[int]
    pending_reserved: Field[int]
    pending_valid: Field[int]
    error_code: Field[int]
    flags: Field[int]
    pad0: Field[int]

class hvm_hw_cpu_compat(KnownStructure):
    fpu_regs: Field[Array[int]]
    rax: Field[int]
    rbx: Field[int]
    rcx: Field[int]
    rdx: Field[int]
    rbp: Field[int]
    rsi: Field[int]
    rdi: Field[int]
    rsp: Field[int]
    r8: Field[int]
    r9: Field[int]
    r10: Field[int]
    r11: Field[int]
    r12: Field[int]
    r13: Field[int]
    r14: Field[int]
    r15: Field[int]
    rip: Field[int]
    rflags: Field[int]
    cr0: Field[int]
    cr2: Field[int]
    cr3: Field[int]
    cr4: Field[int]
    dr0: Field[int]
    dr1: Field[int]
    dr2: Field[int]
    dr3: Field[int]
    dr6: Field[int]
    dr7: Field[int]
    cs_sel: Field[int]
    ds_sel: Field[int]
    es_sel: Field[int]
    fs_sel: Field[int]
    gs_sel: Field[int]
    ss_sel: Field[int]
    tr_sel: Field[int]
    ldtr_sel: Field[int]
    cs_limit: Field[int]
    ds_limit: Field[int]
    es_limit: Field[int]
    fs_limit: Field[int]
    gs_limit: Field[int]
    ss_limit: Field[int]
    tr_limit: Field[int]
    ldtr_limit: Field[int]
    idtr_limit: Field[int]
    gdtr_limit: Field[int]
    cs_base: Field[int]
    ds_base: Field[int]
    es_base: Field[int]
    fs_base: Field[int]
    gs_base: Field[int]
    ss_base: Field[int]
    tr_base: Field[int]
    ldtr_base: Field[int]
    idtr_base: Field[int]
    gdtr_base: Field[int]
    cs_arbytes: Field[int]
    ds_arbytes: Field[int]
    es_arbytes: Field[int]
    fs_arbytes: Field[int]
    gs_arbytes: Field[int]
    ss_arbytes: Field[int]
    tr_arbytes: Field[int]
    ldtr_arbytes: Field[int]
    sysenter_cs: Field[int]
    sysenter_esp: Field[int]
    sysenter_eip: Field[int]
    shadow_gs: Field[int]
    msr_flags: Field[int]
    msr_lstar: Field[int]
    msr_star: Field[int]
    msr_cstar: Field[int]
    msr_syscall_mask: Field[int]
    msr_efer: Field[int]
    tsc: Field[int]
    pending_event: Field[int]
    pending_vector: Field[int]
    pending_type: Field[int]
    pending_error_valid: Field[int]
    pending_reserved: Field[int]
    pending_valid: Field[int]
    error_code: Field[int]

class hvm_hw_vpic(KnownStructure):
    irr: Field[int]
    imr: Field[int]
    isr: Field[int]
    irq_base: Field[int]
    init_state: Field[int]
    priority_add: Field[int]
    readsel_isr: Field[int]
    poll: Field[int]
    auto_eoi: Field[int]
    rotate_on_auto_eoi: Field[int]
    special_fully_nested_mode: Field[int]
    special_mask_mode: Field[int]
    is_master: Field[int]
    _pad0: Field[int]
    elcr: Field[int]
    int_output: Field[int]

class _vioapic_redir_fields(KnownStructure):
    vector: Field[int]
    delivery_mode: Field[int]
    dest_mode: Field[int]
    delivery_status: Field[int]
    polarity: Field[int]
    remote_irr: Field[int]
    trig_mode: Field[int]
    mask: Field[int]
    reserve: Field[int]
    reserved: Field[Array[int]]
    dest_id: Field[int]

class vioapic_redir_entry(KnownUnion):
    bits: Field[int]
    fields: Field[_vioapic_redir_fields]

class hvm_hw_vioapic(KnownStructure):
    base_address: Field[int]
    ioregsel: Field[int]
    id: Field[int]
    redirtbl: Field[Array[vioapic_redir_entry]]

class hvm_hw_lapic(KnownStructure):
    apic_base_msr: Field[int]
    disabled: Field[int]
    timer_divisor: Field[int]
    tdt_msr: Field[int]
    pending_esr: Field[int]
    _pad0: Field[int]

class hvm_hw_lapic_regs(KnownStructure):
    data: Field[Array[int]]

class _pci_irq_words(KnownUnion):
    i: Field[Array[int]]
    pad: Field[Array[int]]

class hvm_hw_pci_irqs(KnownStructure):
    i: Field[Array[int]]
    pad: Field[Array[int]]

class _isa_irq_words(KnownUnion):
    i: Field[Array[int]]
    pad: Field[Array[int]]

class hvm_hw_isa_irqs(KnownStructure):
    i: Field[Array[int]]
    pad: Field[Array[int]]

class hvm_hw_pci_link(KnownStructure):
    route: Field[Array[int]]
    pad0: Field[Array[int]]

class hvm_hw_pit_channel(KnownStructure):
    count: Field[int]
    latched_count: Field[int]
    count_latched: Field[int]
    status_latched: Field[int]
    status: Field[int]
    read_state: Field[int]
    write_state: Field[int]
    write_latch: Field[int]
    rw_mode: Field[int]
    mode: Field[int]
    bcd: Field[int]
    gate: Field[int]

class hvm_hw_pit(KnownStructure):
    channels: Field[Array[hvm_hw_pit_channel]]
    speaker_data_on: Field[int]
    pad0: Field[int]

class hvm_hw_rtc(KnownStructure):
    cmos_data: Field[Array[int]]
    cmos_index: Field[int]
    pad0: Field[int]
    rtc_offset: Field[int]

class hvm_hw_hpet_timer(KnownStructure):
    config: Field[int]
    cmp: Field[int]
    fsb: Field[int]
    res4: Field[int]

class hvm_hw_hpet(KnownStructure):
    capability: Field[int]
    res0: Field[int]
    config: Field[int]
    res1: Field[int]
    isr: Field[int]
    res2: Field[Array[int]]
    mc64: Field[int]
    res3: Field[int]
    timers: Field[Array[hvm_hw_hpet_timer]]
    res5: Field[Array[int]]
    period: Field[Array[int]]

class hvm_hw_pmtimer(KnownStructure):
    tmr_val: Field[int]
    pm1a_sts: Field[int]
    pm1a_en: Field[int]

class hvm_hw_mtrr(KnownStructure):
    msr_pat_cr: Field[int]
    msr_mtrr_var: Field[Array[int]]
    msr_mtrr_fixed: Field[Array[int]]
    msr_mtrr_cap: Field[int]
    msr_mtrr_def_type: Field[int]

class hvm_viridian_domain_context(KnownStructure):
    hypercall_gpa: Field[int]
    guest_os_id: Field[int]
    time_ref_count: Field[int]
    reference_tsc: Field[int]

class _xsave_fpu_sse(KnownStructure):
    x: Field[Array[int]]

class _xsave_hdr(KnownStructure):
    xstate_bv: Field[int]
    xcomp_bv: Field[int]
    reserved: Field[Array[int]]

class _xsave_area(KnownStructure):
    fpu_sse: Field[_xsave_fpu_sse]
    xsave_hdr: Field[_xsave_hdr]

class hvm_hw_cpu_xsave(KnownStructure):
    xfeature_mask: Field[int]
    xcr0: Field[int]
    xcr0_accum: Field[int]
    save_area: Field[_xsave_area]
    extended: Field[Array[int]]

class hvm_viridian_vcpu_context(KnownStructure):
    vp_assist_msr: Field[int]
    apic_assist_pending: Field[int]
    _pad: Field[Array[int]]
    simp_msr: Field[int]
    sint_msr: Field[Array[int]]
    stimer_config_msr: Field[Array[int]]
    stimer_count_msr: Field[Array[int]]

class hvm_vmce_vcpu(KnownStructure):
    caps: Field[int]
    mci_ctl2_bank0: Field[int]
    mci_ctl2_bank1: Field[int]
    mcg_ext_ctl: Field[int]

class hvm_tsc_adjust(KnownStructure):
    tsc_adjust: Field[int]

class hvm_one_msr(KnownStructure):
    index: Field[int]
    _rsvd: Field[int]
    val: Field[int]

class hvm_msr(KnownStructure):
    count: Field[int]
    _pad0: Field[int]
    msr: Field[Array[hvm_one_msr]]

class DomainRecords:
    """What the attributes of an HvmContext are. For type checkers only."""

    @property
    def header(self) -> hvm_save_header: ...
    @property
    def pic(self) -> hvm_hw_vpic: ...
    @property
    def ioapic(self) -> hvm_hw_vioapic: ...
    @property
    def pci_irq(self) -> hvm_hw_pci_irqs: ...
    @property
    def isa_irq(self) -> hvm_hw_isa_irqs: ...
    @property
    def pci_link(self) -> hvm_hw_pci_link: ...
    @property
    def pit(self) -> hvm_hw_pit: ...
    @property
    def rtc(self) -> hvm_hw_rtc: ...
    @property
    def hpet(self) -> hvm_hw_hpet: ...
    @property
    def pmtimer(self) -> hvm_hw_pmtimer: ...
    @property
    def viridian_domain(self) -> hvm_viridian_domain_context: ...
    @property
    def vmport(self) -> SaveStructure: ...

class VcpuRecords:
    """What those of a Vcpu are. For type checkers only."""

    @property
    def cpu(self) -> hvm_hw_cpu: ...
    @property
    def lapic(self) -> hvm_hw_lapic: ...
    @property
    def lapic_regs(self) -> hvm_hw_lapic_regs: ...
    @property
    def mtrr(self) -> hvm_hw_mtrr: ...
    @property
    def cpu_xsave(self) -> hvm_hw_cpu_xsave: ...
    @property
    def viridian_vcpu(self) -> hvm_viridian_vcpu_context: ...
    @property
    def vmce_vcpu(self) -> hvm_vmce_vcpu: ...
    @property
    def tsc_adjust(self) -> hvm_tsc_adjust: ...
    @property
    def cpu_msr(self) -> hvm_msr: ...
