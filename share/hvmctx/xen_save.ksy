meta:
  id: xen_save
  title: "What Xen saves of a guest"
  license: "MIT"
  ks-version: "0.11"
  endian: le
  bit-endian: le
doc: "Images as xl, libvirt, XenServer and XCP-ng save them, libxl and libxc streams, and bare HVM contexts; not compressed. Made by hvmctx 0.1.0 (hvmctx schema --kaitai) out of its declarations."
seq:
  - id: xl_header
    type: state_xl_header
    if: is_xl
  - id: xapi_header
    type: state_xapi_header
    if: is_xapi
  - id: libvirt_header
    type: state_libvirt_header
    if: is_libvirt
  - id: libxl_header
    type: state_libxl_header
    if: is_libxl
  - id: image_alone
    type: state_image_alone
    if: is_libxc
  - id: context
    type: hvm_context
    if: "not is_xl and not is_xapi and not is_libvirt and not is_libxl and not is_libxc"
instances:
  start_of_xl:
    pos: 0
    size: 32
    if: "_io.size >= 32"
  is_xl:
    value: "_io.size >= 32 and start_of_xl == [88, 101, 110, 32, 115, 97, 118, 101, 100, 32, 100, 111, 109, 97, 105, 110, 44, 32, 120, 108, 32, 102, 111, 114, 109, 97, 116, 10, 32, 0, 32, 13]"
  start_of_xapi:
    pos: 0
    size: 11
    if: "_io.size >= 11"
  is_xapi:
    value: "_io.size >= 11 and start_of_xapi == [88, 101, 110, 83, 97, 118, 101, 100, 68, 111, 109]"
  start_of_libvirt:
    pos: 0
    size: 16
    if: "_io.size >= 16"
  is_libvirt:
    value: "_io.size >= 16 and start_of_libvirt == [108, 105, 98, 118, 105, 114, 116, 45, 120, 109, 108, 10, 32, 0, 32, 13]"
  start_of_libxl:
    pos: 0
    size: 8
    if: "_io.size >= 8"
  is_libxl:
    value: "_io.size >= 8 and start_of_libxl == [76, 105, 98, 120, 108, 70, 109, 116]"
  start_of_libxc:
    pos: 0
    size: 8
    if: "_io.size >= 8"
  is_libxc:
    value: "_io.size >= 8 and start_of_libxc == [255, 255, 255, 255, 255, 255, 255, 255]"
types:
  state_xl_header:
    seq:
      - id: magic
        contents: [88, 101, 110, 32, 115, 97, 118, 101, 100, 32, 100, 111, 109, 97, 105, 110, 44, 32, 120, 108, 32, 102, 111, 114, 109, 97, 116, 10, 32, 0, 32, 13]
      - id: header
        type: xl_header
      - id: data
        size: "header.optional_data_len"
        type: xl_data
      - id: libxl_header
        type: state_libxl_header
        if: "not ((header.mandatory_flags & 0x2) == 0x0)"
      - id: legacy_stream
        size-eos: true
        if: "(header.mandatory_flags & 0x2) == 0x0"
  state_libvirt_header:
    seq:
      - id: magic
        contents: [108, 105, 98, 118, 105, 114, 116, 45, 120, 109, 108, 10, 32, 0, 32, 13]
      - id: header
        type: libvirt_header
      - id: data
        size: "header.xml_len"
      - id: libxl_header
        type: state_libxl_header
        if: "not ((header.version & 0xffffffff) == 0x1)"
      - id: legacy_stream
        size-eos: true
        if: "(header.version & 0xffffffff) == 0x1"
  state_libxl_header:
    seq:
      - id: header
        type: libxl_header
      - id: libxl_records
        type: state_libxl_records
  state_libxl_records:
    seq:
      - id: records
        type: libxl_record
        repeat: until
        repeat-until: "_.header.type == 0x1 or _.header.type == 0x0"
      - id: image_header
        type: state_image_header
        if: "records.last.header.type == 0x1"
  state_image_header:
    seq:
      - id: header
        type: image_header
      - id: domain_header
        type: state_domain_header
  state_domain_header:
    seq:
      - id: header
        type: domain_header
      - id: libxc_records
        type: state_libxc_records
  state_libxc_records:
    seq:
      - id: records
        type: libxc_record
        repeat: until
        repeat-until: "_.header.type == 0x0 or _.header.type == 0xe"
      - id: libxl_records
        type: state_libxl_records
        if: "records.last.header.type == 0x0"
      - id: checkpoint
        type: state_checkpoint
        if: "records.last.header.type == 0xe"
  state_checkpoint:
    seq:
      - id: records
        type: libxl_record
        repeat: until
        repeat-until: "_.header.type == 0x4 or _.header.type == 0x1 or _.header.type == 0x0"
      - id: next_checkpoint
        type: state_next_checkpoint
        if: "records.last.header.type == 0x4"
      - id: image_header
        type: state_image_header
        if: "records.last.header.type == 0x1"
  state_next_checkpoint:
    seq:
      - id: records
        type: next_checkpoint_record
        repeat: until
        repeat-until: "_.header.type == 0x0 or _.header.type == 0xe or not ((_.header.type == 0x5 and _.header.length == 4) or _.header.type == 0x0 or _.header.type == 0xe)"
      - id: libxl_records
        type: state_libxl_records
        if: "records.last.header.type == 0x0"
      - id: checkpoint
        type: state_checkpoint
        if: "records.last.header.type == 0xe"
      - id: libxc_records
        type: state_libxc_records
        if: "not ((records.last.header.type == 0x5 and records.last.header.length == 4) or records.last.header.type == 0x0 or records.last.header.type == 0xe)"
  state_xapi_header:
    seq:
      - id: magic
        contents: [88, 101, 110, 83, 97, 118, 101, 100, 68, 111, 109]
      - id: header
        type: xapi_header
      - id: xapi_records
        type: state_xapi_records
        if: "not ((header.kind & 0xffffffff) == 0xa6e6961)"
      - id: legacy_stream
        size-eos: true
        if: "(header.kind & 0xffffffff) == 0xa6e6961"
  state_xapi_records:
    seq:
      - id: records
        type: xapi_record
        repeat: until
        repeat-until: "_.header.type == 0xf0 or _.header.type == 0xf2 or _.header.type == 0xf1 or _.header.type == 0xf10 or _.header.type == 0xffff"
      - id: image_in_xapi
        type: state_image_in_xapi
        if: "records.last.header.type == 0xf0"
      - id: legacy_stream
        size-eos: true
        if: "records.last.header.type == 0xf2"
      - id: unknown_end
        size-eos: true
        if: "records.last.header.type == 0xf1 or records.last.header.type == 0xf10"
  state_image_in_xapi:
    seq:
      - id: header
        type: image_header
      - id: domain_in_xapi
        type: state_domain_in_xapi
  state_domain_in_xapi:
    seq:
      - id: header
        type: domain_header
      - id: libxc_in_xapi
        type: state_libxc_in_xapi
  state_libxc_in_xapi:
    seq:
      - id: records
        type: libxc_record
        repeat: until
        repeat-until: "_.header.type == 0x0"
      - id: xapi_records
        type: state_xapi_records
        if: "records.last.header.type == 0x0"
  state_image_alone:
    seq:
      - id: header
        type: image_header
      - id: domain_alone
        type: state_domain_alone
  state_domain_alone:
    seq:
      - id: header
        type: domain_header
      - id: libxc_alone
        type: state_libxc_alone
  state_libxc_alone:
    seq:
      - id: records
        type: libxc_record
        repeat: until
        repeat-until: "_.header.type == 0x0"
  xl_data:
    doc: "The configuration: JSON with a NUL at its end since Xen 4.5, text before."
    seq:
      - id: length
        type: u4
        if: "_io.size >= 4"
      - id: config
        if: "_io.size >= 4"
        size: "length <= _io.size - _io.pos ? length : _io.size - _io.pos"
      - id: rest
        size-eos: true
  libxl_record:
    seq:
      - id: header
        type: record_header
      - id: body
        size: "header.length"
        type:
          switch-on: kind
          cases:
            0x0: libxl_emulator_xenstore_data
            0x1: libxl_emulator_context
            0x2: libxl_checkpoint_state
      - id: padding
        size: "(8 - header.length % 8) % 8"
    instances:
      kind:
        value: "(header.type == 0x2 and header.length >= 8) ? 0 : ((header.type == 0x3 and header.length >= 8) ? 1 : ((header.type == 0x5 and header.length >= 4) ? 2 : (-1)))"
      name:
        value: "header.type"
        enum: libxl_type
  libxc_record:
    seq:
      - id: header
        type: record_header
      - id: body
        size: "header.length"
        type:
          switch-on: kind
          cases:
            0x0: libxc_page_data
            0x1: libxc_x86_pv_info
            0x2: libxc_x86_pv_p2m_frames
            0x3: libxc_x86_pv_vcpu_basic
            0x4: libxc_x86_pv_vcpu_extended
            0x5: libxc_x86_pv_vcpu_xsave
            0x6: libxc_shared_info
            0x7: libxc_x86_tsc_info
            0x8: libxc_hvm_params
            0x9: libxc_x86_pv_vcpu_msrs
            0xa: libxc_checkpoint_dirty_pfn_list
            0xb: libxc_x86_cpuid_policy
            0xc: libxc_x86_msr_policy
            0xd: hvm_context
      - id: padding
        size: "(8 - header.length % 8) % 8"
    instances:
      kind:
        value: "(header.type == 0x1 and header.length >= 8) ? 0 : ((header.type == 0x2 and header.length >= 8) ? 1 : ((header.type == 0x3 and header.length >= 8) ? 2 : ((header.type == 0x4 and header.length >= 8) ? 3 : ((header.type == 0x5 and header.length >= 8) ? 4 : ((header.type == 0x6 and header.length >= 8) ? 5 : ((header.type == 0x7 and header.length == 4096) ? 6 : ((header.type == 0x8 and header.length == 24) ? 7 : ((header.type == 0xa and header.length >= 8) ? 8 : ((header.type == 0xc and header.length >= 8) ? 9 : ((header.type == 0xf and header.length >= 0) ? 10 : ((header.type == 0x11 and header.length >= 0) ? 11 : ((header.type == 0x12 and header.length >= 0) ? 12 : ((header.type == 0x9) ? 13 : (-1))))))))))))))"
      name:
        value: "header.type"
        enum: libxc_type
  xapi_record:
    seq:
      - id: header
        type: xapi_record_header
      - id: body
        size: "(header.type == 0xf0 or header.type == 0xf1 or header.type == 0xf2 or header.type == 0xf10 or header.type == 0xffff ? 0 : header.length)"
        type:
          switch-on: kind
          cases:
            0x0: xapi_xenops
            0x1: xapi_qemu_trad
    instances:
      kind:
        value: "(header.type == 0xf and header.length >= 0) ? 0 : ((header.type == 0xf00 and header.length >= 0) ? 1 : (-1))"
      name:
        value: "header.type"
        enum: xapi_type
  next_checkpoint_record:
    seq:
      - id: header
        type: record_header
      - id: body
        size: "header.length"
        type:
          switch-on: kind
          cases:
            0x0: libxl_checkpoint_state
            0x1: libxc_page_data
            0x2: libxc_x86_pv_info
            0x3: libxc_x86_pv_p2m_frames
            0x4: libxc_x86_pv_vcpu_basic
            0x5: libxc_x86_pv_vcpu_extended
            0x6: libxc_x86_pv_vcpu_xsave
            0x7: libxc_shared_info
            0x8: libxc_x86_tsc_info
            0x9: libxc_hvm_params
            0xa: libxc_x86_pv_vcpu_msrs
            0xb: libxc_checkpoint_dirty_pfn_list
            0xc: libxc_x86_cpuid_policy
            0xd: libxc_x86_msr_policy
            0xe: hvm_context
      - id: padding
        size: "(8 - header.length % 8) % 8"
    instances:
      kind:
        value: "((header.type == 0x5 and header.length == 4)) ? 0 : ((header.type == 0x1 and header.length >= 8) ? 1 : ((header.type == 0x2 and header.length >= 8) ? 2 : ((header.type == 0x3 and header.length >= 8) ? 3 : ((header.type == 0x4 and header.length >= 8) ? 4 : ((header.type == 0x5 and header.length >= 8) ? 5 : ((header.type == 0x6 and header.length >= 8) ? 6 : ((header.type == 0x7 and header.length == 4096) ? 7 : ((header.type == 0x8 and header.length == 24) ? 8 : ((header.type == 0xa and header.length >= 8) ? 9 : ((header.type == 0xc and header.length >= 8) ? 10 : ((header.type == 0xf and header.length >= 0) ? 11 : ((header.type == 0x11 and header.length >= 0) ? 12 : ((header.type == 0x12 and header.length >= 0) ? 13 : ((header.type == 0x9) ? 14 : (-1)))))))))))))))"
      name:
        value: "header.type"
        enum: libxc_type
      name_in_libxl:
        value: "header.type"
        enum: libxl_type
        if: "(header.type == 0x5 and header.length == 4)"
  hvm_context:
    doc: "Save records up to END; then what follows it, as a rule nothing."
    seq:
      - id: records
        type: save_record
        repeat: until
        repeat-until: "_.descriptor.typecode == 0 or _io.eof"
        if: "not _io.eof"
      - id: tail
        size-eos: true
  save_record:
    seq:
      - id: descriptor
        type: hvm_save_descriptor
      - id: body
        size: "descriptor.length"
        type:
          switch-on: kind
          cases:
            0x0: hvm_save_header
            0x1: hvm_hw_cpu_compat
            0x2: hvm_hw_cpu
            0x3: hvm_hw_vpic
            0x4: hvm_hw_vioapic
            0x5: hvm_hw_lapic
            0x6: hvm_hw_lapic_regs
            0x7: hvm_hw_pci_irqs
            0x8: hvm_hw_isa_irqs
            0x9: hvm_hw_pci_link
            0xa: hvm_hw_pit
            0xb: hvm_hw_rtc
            0xc: hvm_hw_hpet
            0xd: hvm_hw_pmtimer
            0xe: hvm_hw_mtrr
            0xf: hvm_viridian_domain_context
            0x10: hvm_hw_cpu_xsave
            0x11: hvm_viridian_vcpu_context
            0x12: hvm_vmce_vcpu
            0x13: hvm_tsc_adjust
            0x14: hvm_msr
            0x15: hvm_save_vmport_packed
    instances:
      kind:
        value: "(descriptor.typecode == 1 and descriptor.length >= 24) ? 0 : ((descriptor.typecode == 2 and descriptor.length == 1016) ? 1 : ((descriptor.typecode == 2 and descriptor.length >= 1024) ? 2 : ((descriptor.typecode == 3 and descriptor.length >= 8) ? 3 : ((descriptor.typecode == 4 and descriptor.length >= 400) ? 4 : ((descriptor.typecode == 5 and descriptor.length >= 16) ? 5 : ((descriptor.typecode == 6 and descriptor.length >= 1024) ? 6 : ((descriptor.typecode == 7 and descriptor.length >= 16) ? 7 : ((descriptor.typecode == 8 and descriptor.length >= 8) ? 8 : ((descriptor.typecode == 9 and descriptor.length >= 8) ? 9 : ((descriptor.typecode == 10 and descriptor.length >= 56) ? 10 : ((descriptor.typecode == 11 and descriptor.length >= 16) ? 11 : ((descriptor.typecode == 12 and descriptor.length >= 1048) ? 12 : ((descriptor.typecode == 13 and descriptor.length >= 8) ? 13 : ((descriptor.typecode == 14 and descriptor.length >= 240) ? 14 : ((descriptor.typecode == 15 and descriptor.length >= 16) ? 15 : ((descriptor.typecode == 16 and descriptor.length >= 600) ? 16 : ((descriptor.typecode == 17 and descriptor.length >= 8) ? 17 : ((descriptor.typecode == 18 and descriptor.length >= 8) ? 18 : ((descriptor.typecode == 19 and descriptor.length >= 8) ? 19 : ((descriptor.typecode == 20 and descriptor.length >= 8) ? 20 : ((descriptor.typecode == 21 and descriptor.length >= 464) ? 21 : (-1))))))))))))))))))))))"
      name:
        value: "descriptor.typecode"
        enum: save_type
  hvm_save_descriptor:
    doc: "Precedes every record. `length` counts the body only."
    seq:
      - id: typecode
        type: u2
      - id: instance
        type: u2
      - id: length
        type: u4
  hvm_save_header:
    doc: "`changeset` is all ones when unknown; `cpuid` is leaf 1 EAX of the saving host."
    seq:
      - id: magic
        type: u4
      - id: version
        type: u4
      - id: changeset
        type: u8
      - id: cpuid
        type: u4
      - id: gtsc_khz
        type: u4
      - id: rest
        size-eos: true
  hvm_hw_cpu:
    doc: "1032 bytes since 4.7; 1024 (no `flags`, `pad0`) in 4.0 to 4.6."
    seq:
      - id: fpu_regs
        size: 512
      - id: rax
        type: u8
      - id: rbx
        type: u8
      - id: rcx
        type: u8
      - id: rdx
        type: u8
      - id: rbp
        type: u8
      - id: rsi
        type: u8
      - id: rdi
        type: u8
      - id: rsp
        type: u8
      - id: r8
        type: u8
      - id: r9
        type: u8
      - id: r10
        type: u8
      - id: r11
        type: u8
      - id: r12
        type: u8
      - id: r13
        type: u8
      - id: r14
        type: u8
      - id: r15
        type: u8
      - id: rip
        type: u8
      - id: rflags
        type: u8
      - id: cr0
        type: u8
      - id: cr2
        type: u8
      - id: cr3
        type: u8
      - id: cr4
        type: u8
      - id: dr0
        type: u8
      - id: dr1
        type: u8
      - id: dr2
        type: u8
      - id: dr3
        type: u8
      - id: dr6
        type: u8
      - id: dr7
        type: u8
      - id: cs_sel
        type: u4
      - id: ds_sel
        type: u4
      - id: es_sel
        type: u4
      - id: fs_sel
        type: u4
      - id: gs_sel
        type: u4
      - id: ss_sel
        type: u4
      - id: tr_sel
        type: u4
      - id: ldtr_sel
        type: u4
      - id: cs_limit
        type: u4
      - id: ds_limit
        type: u4
      - id: es_limit
        type: u4
      - id: fs_limit
        type: u4
      - id: gs_limit
        type: u4
      - id: ss_limit
        type: u4
      - id: tr_limit
        type: u4
      - id: ldtr_limit
        type: u4
      - id: idtr_limit
        type: u4
      - id: gdtr_limit
        type: u4
      - id: cs_base
        type: u8
      - id: ds_base
        type: u8
      - id: es_base
        type: u8
      - id: fs_base
        type: u8
      - id: gs_base
        type: u8
      - id: ss_base
        type: u8
      - id: tr_base
        type: u8
      - id: ldtr_base
        type: u8
      - id: idtr_base
        type: u8
      - id: gdtr_base
        type: u8
      - id: cs_arbytes
        type: u4
      - id: ds_arbytes
        type: u4
      - id: es_arbytes
        type: u4
      - id: fs_arbytes
        type: u4
      - id: gs_arbytes
        type: u4
      - id: ss_arbytes
        type: u4
      - id: tr_arbytes
        type: u4
      - id: ldtr_arbytes
        type: u4
      - id: sysenter_cs
        type: u8
      - id: sysenter_esp
        type: u8
      - id: sysenter_eip
        type: u8
      - id: shadow_gs
        type: u8
      - id: msr_flags
        type: u8
      - id: msr_lstar
        type: u8
      - id: msr_star
        type: u8
      - id: msr_cstar
        type: u8
      - id: msr_syscall_mask
        type: u8
      - id: msr_efer
        type: u8
      - id: msr_tsc_aux
        type: u8
      - id: tsc
        type: u8
      - id: pending_event
        type: u4
      - id: error_code
        type: u4
      - id: flags
        type: u4
        if: "_io.size >= 1028"
      - id: pad0
        type: u4
        if: "_io.size >= 1032"
      - id: rest
        size-eos: true
    instances:
      pending_vector:
        value: "(pending_event >> 0) & 0xff"
      pending_type:
        value: "(pending_event >> 8) & 0x7"
      pending_error_valid:
        value: "(pending_event >> 11) & 0x1"
      pending_valid:
        value: "(pending_event >> 31) & 0x1"
  hvm_hw_vpic:
    doc: "One 8259, master or slave by the record's instance (0, 1)."
    seq:
      - id: irr
        type: u1
      - id: imr
        type: u1
      - id: isr
        type: u1
      - id: irq_base
        type: u1
      - id: init_state
        type: b4
      - id: priority_add
        type: b4
      - id: readsel_isr
        type: b1
      - id: poll
        type: b1
      - id: auto_eoi
        type: b1
      - id: rotate_on_auto_eoi
        type: b1
      - id: special_fully_nested_mode
        type: b1
      - id: special_mask_mode
        type: b1
      - id: is_master
        type: b1
      - id: pad0
        type: b1
      - id: elcr
        type: u1
      - id: int_output
        type: u1
      - id: rest
        size-eos: true
  vioapic_redir_fields:
    seq:
      - id: vector
        type: u1
      - id: delivery_mode
        type: b3
      - id: dest_mode
        type: b1
      - id: delivery_status
        type: b1
      - id: polarity
        type: b1
      - id: remote_irr
        type: b1
      - id: trig_mode
        type: b1
      - id: mask
        type: b1
      - id: reserve
        type: b7
      - id: reserved
        size: 4
      - id: dest_id
        type: u1
  vioapic_redir_entry:
    doc: "A pin's redirection entry, as a number and by its fields."
    seq:
      - id: bits
        type: u8
    instances:
      fields:
        pos: 0
        type: vioapic_redir_fields
  hvm_hw_vioapic:
    doc: "Registers and the 48 pins of the virtual IO-APIC."
    seq:
      - id: base_address
        type: u8
      - id: ioregsel
        type: u4
      - id: id
        type: u4
      - id: redirtbl
        type: vioapic_redir_entry
        size: 8
        repeat: expr
        repeat-expr: 48
      - id: rest
        size-eos: true
  hvm_hw_lapic:
    doc: "16 bytes in 4.0, 24 from 4.1, 32 with `pending_esr` (see `releases`)."
    seq:
      - id: apic_base_msr
        type: u8
      - id: disabled
        type: u4
      - id: timer_divisor
        type: u4
      - id: tdt_msr
        type: u8
        if: "_io.size >= 24"
      - id: pending_esr
        type: u4
        if: "_io.size >= 28"
      - id: pad0
        type: u4
        if: "_io.size >= 32"
      - id: rest
        size-eos: true
  hvm_hw_lapic_regs:
    doc: "The first 0x400 bytes of the register page: 32-bit registers, one every 16 bytes."
    seq:
      - id: data
        size: 1024
      - id: rest
        size-eos: true
  hvm_hw_pci_irqs:
    doc: "Level of each of the 4 INTx lines of 32 devices, a bit each."
    seq:
      - id: i
        type: u8
        repeat: expr
        repeat-expr: 2
      - id: rest
        size-eos: true
  hvm_hw_isa_irqs:
    doc: "Level of the 16 ISA lines, a bit each; the rest of the first word is unused."
    seq:
      - id: i
        type: u8
        repeat: expr
        repeat-expr: 1
      - id: rest
        size-eos: true
  hvm_hw_pci_link:
    doc: "The ISA line that each of the four PCI link devices drives; 0 for none."
    seq:
      - id: route
        size: 4
      - id: pad0
        size: 4
      - id: rest
        size-eos: true
  hvm_hw_pit_channel:
    doc: "One counter of the 8254; latched values and modes as its registers have them."
    seq:
      - id: count
        type: u4
      - id: latched_count
        type: u2
      - id: count_latched
        type: u1
      - id: status_latched
        type: u1
      - id: status
        type: u1
      - id: read_state
        type: u1
      - id: write_state
        type: u1
      - id: write_latch
        type: u1
      - id: rw_mode
        type: u1
      - id: mode
        type: u1
      - id: bcd
        type: u1
      - id: gate
        type: u1
  hvm_hw_pit:
    doc: "The three counters, and port 0x61's speaker bit."
    seq:
      - id: channels
        type: hvm_hw_pit_channel
        repeat: expr
        repeat-expr: 3
      - id: speaker_data_on
        type: u4
      - id: pad0
        type: u4
      - id: rest
        size-eos: true
  hvm_hw_rtc:
    doc: "16 bytes up to 4.13; `rtc_offset` (seconds, signed) since 4.14."
    seq:
      - id: cmos_data
        size: 14
      - id: cmos_index
        type: u1
      - id: pad0
        type: u1
      - id: rtc_offset
        type: s8
        if: "_io.size >= 24"
      - id: rest
        size-eos: true
  hvm_hw_hpet_timer:
    doc: "A comparator's registers; `cmp` is in ticks of the counter."
    seq:
      - id: config
        type: u8
      - id: cmp
        type: u8
      - id: fsb
        type: u8
      - id: res4
        type: u8
  hvm_hw_hpet:
    doc: "Registers by their offsets in the HPET's page; `mc64` is the main counter."
    seq:
      - id: capability
        type: u8
      - id: res0
        type: u8
      - id: config
        type: u8
      - id: res1
        type: u8
      - id: isr
        type: u8
      - id: res2
        type: u8
        repeat: expr
        repeat-expr: 25
      - id: mc64
        type: u8
      - id: res3
        type: u8
      - id: timers
        type: hvm_hw_hpet_timer
        repeat: expr
        repeat-expr: 3
      - id: res5
        type: u8
        repeat: expr
        repeat-expr: 84
      - id: period
        type: u8
        repeat: expr
        repeat-expr: 3
      - id: rest
        size-eos: true
  hvm_hw_pmtimer:
    doc: "The ACPI timer, 3.579545 MHz, and the PM1a registers."
    seq:
      - id: tmr_val
        type: u4
      - id: pm1a_sts
        type: u2
      - id: pm1a_en
        type: u2
      - id: rest
        size-eos: true
  hvm_hw_mtrr:
    doc: "`msr_mtrr_var` holds base and mask of each of the eight ranges in turn."
    seq:
      - id: msr_pat_cr
        type: u8
      - id: msr_mtrr_var
        type: u8
        repeat: expr
        repeat-expr: 16
      - id: msr_mtrr_fixed
        type: u8
        repeat: expr
        repeat-expr: 11
      - id: msr_mtrr_cap
        type: u8
      - id: msr_mtrr_def_type
        type: u8
      - id: rest
        size-eos: true
  hvm_viridian_domain_context:
    doc: "16 bytes up to 4.4 (called VIRIDIAN in 4.0 and 4.1), 24 in 4.5, 32 since 4.6."
    seq:
      - id: hypercall_gpa
        type: u8
      - id: guest_os_id
        type: u8
      - id: time_ref_count
        type: u8
        if: "_io.size >= 24"
      - id: reference_tsc
        type: u8
        if: "_io.size >= 32"
      - id: rest
        size-eos: true
  xsave_fpu_sse:
    seq:
      - id: x
        size: 512
  xsave_hdr:
    doc: "Up to 4.6 `xcomp_bv` was part of the reserved words."
    seq:
      - id: xstate_bv
        type: u8
      - id: xcomp_bv
        type: u8
      - id: reserved
        type: u8
        repeat: expr
        repeat-expr: 6
  xsave_area:
    seq:
      - id: fpu_sse
        type: xsave_fpu_sse
      - id: xsave_hdr
        type: xsave_hdr
  hvm_hw_cpu_xsave:
    doc: "The least that a loader takes; the components beyond x87 and SSE follow, in the uncompressed layout for `xcr0_accum`."
    seq:
      - id: xfeature_mask
        type: u8
      - id: xcr0
        type: u8
      - id: xcr0_accum
        type: u8
      - id: save_area
        type: xsave_area
      - id: extended
        size-eos: true
  hvm_viridian_vcpu_context:
    doc: "8 bytes up to 4.6, 16 in 4.7 to 4.12, 216 since 4.13. The first two fields were renamed on the way: apic_assist, apic_assist_msr, vp_assist_msr; apic_assist_vector, vp_assist_vector, vp_assist_pending, apic_assist_pending."
    seq:
      - id: vp_assist_msr
        type: u8
      - id: apic_assist_pending
        type: u1
        if: "_io.size >= 9"
      - id: pad
        size: 7
        if: "_io.size >= 16"
      - id: simp_msr
        type: u8
        if: "_io.size >= 24"
      - id: sint_msr
        type: u8
        repeat: expr
        repeat-expr: 16
        if: "_io.size >= 152"
      - id: stimer_config_msr
        type: u8
        repeat: expr
        repeat-expr: 4
        if: "_io.size >= 184"
      - id: stimer_count_msr
        type: u8
        repeat: expr
        repeat-expr: 4
        if: "_io.size >= 216"
      - id: rest
        size-eos: true
  hvm_vmce_vcpu:
    doc: "8 bytes in 4.2, 24 in 4.3 to 4.9, 32 since 4.10."
    seq:
      - id: caps
        type: u8
      - id: mci_ctl2_bank0
        type: u8
        if: "_io.size >= 16"
      - id: mci_ctl2_bank1
        type: u8
        if: "_io.size >= 24"
      - id: mcg_ext_ctl
        type: u8
        if: "_io.size >= 32"
      - id: rest
        size-eos: true
  hvm_tsc_adjust:
    doc: "IA32_TSC_ADJUST, in ticks."
    seq:
      - id: tsc_adjust
        type: u8
      - id: rest
        size-eos: true
  hvm_one_msr:
    doc: "An element of CPU_MSR."
    seq:
      - id: index
        type: u4
      - id: rsvd
        type: u4
      - id: val
        type: u8
  hvm_msr:
    doc: "Followed by `count` of `hvm_one_msr`."
    seq:
      - id: count
        type: u4
      - id: pad0
        type: u4
      - id: msr
        type: hvm_one_msr
        repeat: expr
        repeat-expr: "(_io.size - _io.pos) / 16"
      - id: rest
        size-eos: true
  vmport_bucket_control:
    doc: "The fixed part of a receive bucket, the jumbo one too: 4 bytes. `recv_len` is how many bytes are in it, even where the writer keeps fewer of them; `recv_idx` is how many of them have been consumed. A reconstruction: the patch names the fields, the header that declares them is missing."
    seq:
      - id: recv_len
        type: u2
      - id: recv_idx
        type: u2
  vmport_packed_channel:
    seq:
      - id: active_time
        type: u8
      - id: chan_id
        type: u4
      - id: cookie
        type: u4
      - id: proto_num
        type: u4
      - id: send_len
        type: u2
      - id: send_idx
        type: u2
      - id: jumbo
        type: u1
      - id: recv_read
        type: u1
      - id: recv_write
        type: u1
      - id: pad0
        size: 5
      - id: recv_bkt
        type: vmport_bucket_control
        repeat: expr
        repeat-expr: 8
      - id: jumbo_recv_bkt
        type: vmport_bucket_control
      - id: pad1
        size: 4
  hvm_save_vmport_packed:
    doc: "Head and channels of a body. packed_data has for each channel its send bytes and those of each bucket, the jumbo one last, as many as their lengths say; then used_guestinfo entries (u8 key_len, u8 val_len, key, value) and used_guestinfo_jumbo (u8 key_len, u16 val_len, key, value)."
    seq:
      - id: version
        type: u4
      - id: used_guestsize
        type: u4
      - id: ping_time
        type: u8
      - id: open_cookie
        type: u4
      - id: used_guestinfo
        type: u4
      - id: used_guestinfo_jumbo
        type: u4
      - id: pad0
        type: u4
      - id: chans
        type: vmport_packed_channel
        repeat: expr
        repeat-expr: 6
      - id: packed_data
        size-eos: true
    instances:
      packed:
        pos: 464
        size-eos: true
        type: vmport_packed_data
  hvm_hw_cpu_compat:
    doc: "The 1016 bytes of Xen before 3.4: no `msr_tsc_aux`, so all that follows is 8 lower."
    seq:
      - id: fpu_regs
        size: 512
      - id: rax
        type: u8
      - id: rbx
        type: u8
      - id: rcx
        type: u8
      - id: rdx
        type: u8
      - id: rbp
        type: u8
      - id: rsi
        type: u8
      - id: rdi
        type: u8
      - id: rsp
        type: u8
      - id: r8
        type: u8
      - id: r9
        type: u8
      - id: r10
        type: u8
      - id: r11
        type: u8
      - id: r12
        type: u8
      - id: r13
        type: u8
      - id: r14
        type: u8
      - id: r15
        type: u8
      - id: rip
        type: u8
      - id: rflags
        type: u8
      - id: cr0
        type: u8
      - id: cr2
        type: u8
      - id: cr3
        type: u8
      - id: cr4
        type: u8
      - id: dr0
        type: u8
      - id: dr1
        type: u8
      - id: dr2
        type: u8
      - id: dr3
        type: u8
      - id: dr6
        type: u8
      - id: dr7
        type: u8
      - id: cs_sel
        type: u4
      - id: ds_sel
        type: u4
      - id: es_sel
        type: u4
      - id: fs_sel
        type: u4
      - id: gs_sel
        type: u4
      - id: ss_sel
        type: u4
      - id: tr_sel
        type: u4
      - id: ldtr_sel
        type: u4
      - id: cs_limit
        type: u4
      - id: ds_limit
        type: u4
      - id: es_limit
        type: u4
      - id: fs_limit
        type: u4
      - id: gs_limit
        type: u4
      - id: ss_limit
        type: u4
      - id: tr_limit
        type: u4
      - id: ldtr_limit
        type: u4
      - id: idtr_limit
        type: u4
      - id: gdtr_limit
        type: u4
      - id: cs_base
        type: u8
      - id: ds_base
        type: u8
      - id: es_base
        type: u8
      - id: fs_base
        type: u8
      - id: gs_base
        type: u8
      - id: ss_base
        type: u8
      - id: tr_base
        type: u8
      - id: ldtr_base
        type: u8
      - id: idtr_base
        type: u8
      - id: gdtr_base
        type: u8
      - id: cs_arbytes
        type: u4
      - id: ds_arbytes
        type: u4
      - id: es_arbytes
        type: u4
      - id: fs_arbytes
        type: u4
      - id: gs_arbytes
        type: u4
      - id: ss_arbytes
        type: u4
      - id: tr_arbytes
        type: u4
      - id: ldtr_arbytes
        type: u4
      - id: sysenter_cs
        type: u8
      - id: sysenter_esp
        type: u8
      - id: sysenter_eip
        type: u8
      - id: shadow_gs
        type: u8
      - id: msr_flags
        type: u8
      - id: msr_lstar
        type: u8
      - id: msr_star
        type: u8
      - id: msr_cstar
        type: u8
      - id: msr_syscall_mask
        type: u8
      - id: msr_efer
        type: u8
      - id: tsc
        type: u8
      - id: pending_event
        type: u4
      - id: error_code
        type: u4
      - id: rest
        size-eos: true
    instances:
      pending_vector:
        value: "(pending_event >> 0) & 0xff"
      pending_type:
        value: "(pending_event >> 8) & 0x7"
      pending_error_valid:
        value: "(pending_event >> 11) & 0x1"
      pending_valid:
        value: "(pending_event >> 31) & 0x1"
  xl_header:
    doc: "What follows the magic."
    seq:
      - id: byteorder
        type: u4
      - id: mandatory_flags
        type: u4
      - id: optional_flags
        type: u4
      - id: optional_data_len
        type: u4
  xapi_header:
    doc: "What follows the first 11 bytes of the signature: its other four."
    seq:
      - id: kind
        type: u4
  libvirt_header:
    doc: "What follows the magic, in the byte order of the machine; then the domain's XML."
    seq:
      - id: version
        type: u4
      - id: xml_len
        type: u4
      - id: reserved0
        type: u4
      - id: reserved1
        type: u4
      - id: reserved2
        type: u4
      - id: reserved3
        type: u4
      - id: reserved4
        type: u4
      - id: reserved5
        type: u4
      - id: reserved6
        type: u4
      - id: reserved7
        type: u4
      - id: reserved8
        type: u4
      - id: reserved9
        type: u4
  libxl_header:
    doc: "The header of a libxl stream."
    seq:
      - id: ident
        type: u8be
      - id: version
        type: u4be
      - id: options
        type: u4be
  image_header:
    doc: "The first header of a libxc stream."
    seq:
      - id: marker
        type: u8be
      - id: id
        type: u4be
      - id: version
        type: u4be
      - id: options
        type: u2be
      - id: reserved1
        type: u2be
      - id: reserved2
        type: u4be
  domain_header:
    doc: "The second: what kind of guest, of which Xen."
    seq:
      - id: type
        type: u4
      - id: page_shift
        type: u2
      - id: reserved
        type: u2
      - id: xen_major
        type: u4
      - id: xen_minor
        type: u4
  record_header:
    doc: "Of libxl and libxc records alike. `length` is that of the body, padding not counted."
    seq:
      - id: type
        type: u4
      - id: length
        type: u4
  xapi_record_header:
    doc: "Of a record of XAPI's. `length` means nothing for some types: `XAPI_BODILESS`."
    seq:
      - id: type
        type: u8
      - id: length
        type: u8
  libxc_page_data:
    doc: "What stands before the words of a PAGE_DATA record."
    seq:
      - id: count
        type: u4
      - id: reserved
        type: u4
      - id: words
        type: u8
        repeat: expr
        repeat-expr: count
      - id: pages
        size-eos: true
  libxc_x86_pv_info:
    doc: "X86_PV_INFO: guest_width in bytes (4, 8), pt_levels (3, 4)."
    seq:
      - id: guest_width
        type: u1
      - id: pt_levels
        type: u1
      - id: reserved
        size-eos: true
  libxc_x86_pv_p2m_frames:
    doc: "X86_PV_P2M_FRAMES: the frames that hold the p2m for pfns start to end, inclusive."
    seq:
      - id: start_pfn
        type: u4
      - id: end_pfn
        type: u4
      - id: frames
        type: u8
        repeat: expr
        repeat-expr: "(_io.size - _io.pos) / 8"
      - id: rest
        size-eos: true
  libxc_x86_pv_vcpu_basic:
    doc: "X86_PV_VCPU_BASIC: registers and tables."
    seq:
      - id: vcpu
        type: u4
      - id: reserved
        type: u4
      - id: state
        size-eos: true
  libxc_x86_pv_vcpu_extended:
    doc: "X86_PV_VCPU_EXTENDED: callbacks of 32-bit system calls, machine check banks."
    seq:
      - id: vcpu
        type: u4
      - id: reserved
        type: u4
      - id: state
        size-eos: true
  libxc_x86_pv_vcpu_xsave:
    doc: "X86_PV_VCPU_XSAVE: u64 xcr0, u64 xcr0_accum, and an xsave image, uncompressed (none, or 576 bytes and more)."
    seq:
      - id: vcpu
        type: u4
      - id: reserved
        type: u4
      - id: state
        size-eos: true
  libxc_shared_info:
    doc: "SHARED_INFO: the guest's shared page as it was."
    seq:
      - id: page
        size: 4096
  libxc_x86_tsc_info:
    doc: "X86_TSC_INFO: mode (0 default, 1 always emulate, 2 never emulate), frequency in kHz, elapsed time in ns, and how often the guest was restored."
    seq:
      - id: mode
        type: u4
      - id: khz
        type: u4
      - id: nsec
        type: u8
      - id: incarnation
        type: u4
      - id: reserved
        type: u4
  hvm_param:
    doc: "An HVM parameter; names of indices in `abi.streams`."
    seq:
      - id: index
        type: u8
      - id: value
        type: u8
  libxc_hvm_params:
    doc: "HVM_PARAMS: rows of `hvm_param`, in stream order."
    seq:
      - id: count
        type: u4
      - id: reserved
        type: u4
      - id: params
        type: hvm_param
        repeat: expr
        repeat-expr: count
      - id: rest
        size-eos: true
  vcpu_msr:
    doc: "An MSR of a PV vcpu."
    seq:
      - id: index
        type: u4
      - id: reserved
        type: u4
      - id: value
        type: u8
  libxc_x86_pv_vcpu_msrs:
    doc: "X86_PV_VCPU_MSRS: rows of `vcpu_msr`."
    seq:
      - id: vcpu
        type: u4
      - id: reserved
        type: u4
      - id: msrs
        type: vcpu_msr
        repeat: expr
        repeat-expr: "(_io.size - _io.pos) / 16"
      - id: rest
        size-eos: true
  cpuid_leaf:
    doc: "A leaf of CPUID. A subleaf of all ones means that the leaf has none."
    seq:
      - id: leaf
        type: u4
      - id: subleaf
        type: u4
      - id: eax
        type: u4
      - id: ebx
        type: u4
      - id: ecx
        type: u4
      - id: edx
        type: u4
  policy_msr:
    doc: "An MSR as the guest sees it. `flags` are always 0."
    seq:
      - id: index
        type: u4
      - id: flags
        type: u4
      - id: value
        type: u8
  libxl_emulator_xenstore_data:
    doc: "EMULATOR_XENSTORE_DATA: pairs of keys and values below the device model's node."
    seq:
      - id: emulator_id
        type: u4
      - id: index
        type: u4
      - id: pairs
        type: string_pair
        repeat: eos
      - id: rest
        size-eos: true
  libxl_emulator_context:
    doc: "EMULATOR_CONTEXT: which device model, which of its instances (always 0), and the file it saved."
    seq:
      - id: emulator_id
        type: u4
      - id: index
        type: u4
      - id: payload
        size-eos: true
  libxl_checkpoint_state:
    doc: "CHECKPOINT_STATE (4.7+, COLO): 0 NEW, 1 SVM_SUSPENDED, 2 SVM_READY, 3 SVM_RESUMED."
    seq:
      - id: id
        type: u4
      - id: rest
        size-eos: true
  libxc_checkpoint_dirty_pfn_list:
    doc: "CHECKPOINT_DIRTY_PFN_LIST, from a secondary back to its primary. 4.18 and later write eight more bytes before the pfns than the length counts (a leaked pointer), so such a list starts with a pfn 0 that is not one, and lacks its last."
    seq:
      - id: pfns
        type: u8
        repeat: expr
        repeat-expr: "(_io.size - _io.pos) / 8"
      - id: rest
        size-eos: true
  libxc_x86_cpuid_policy:
    doc: "X86_CPUID_POLICY (4.14+): rows of `cpuid_leaf`."
    seq:
      - id: leaves
        type: cpuid_leaf
        repeat: expr
        repeat-expr: "(_io.size - _io.pos) / 24"
      - id: rest
        size-eos: true
  libxc_x86_msr_policy:
    doc: "X86_MSR_POLICY (4.14+): rows of `policy_msr`."
    seq:
      - id: msrs
        type: policy_msr
        repeat: expr
        repeat-expr: "(_io.size - _io.pos) / 16"
      - id: rest
        size-eos: true
  xapi_xenops:
    doc: "XENOPS: an S-expression, which `Xenops` takes apart."
    seq:
      - id: text
        size-eos: true
  xapi_qemu_trad:
    doc: "QEMU_TRAD: the device model's file. Nowadays it is upstream QEMU's."
    seq:
      - id: payload
        size-eos: true
  string_pair:
    seq:
      - id: key
        terminator: 0
      - id: value
        terminator: 0
  vmport_packed_data:
    seq:
      - id: buffers
        type: "vmport_buffers(_parent.chans[_index])"
        repeat: expr
        repeat-expr: 6
      - id: guestinfo
        type: vmport_entry
        repeat: expr
        repeat-expr: "_parent.used_guestinfo"
      - id: guestinfo_jumbo
        type: vmport_jumbo_entry
        repeat: expr
        repeat-expr: "_parent.used_guestinfo_jumbo"
      - id: rest
        size-eos: true
  vmport_buffers:
    doc: "What a channel has sent and received, as much of each as is there."
    params:
      - id: channel
        type: vmport_packed_channel
    seq:
      - id: send
        size: "channel.send_len <= _io.size - _io.pos ? channel.send_len : _io.size - _io.pos"
      - id: recv
        size: "channel.recv_bkt[_index].recv_len <= _io.size - _io.pos ? channel.recv_bkt[_index].recv_len : _io.size - _io.pos"
        repeat: expr
        repeat-expr: 8
      - id: jumbo_recv
        size: "channel.jumbo_recv_bkt.recv_len <= _io.size - _io.pos ? channel.jumbo_recv_bkt.recv_len : _io.size - _io.pos"
  vmport_entry:
    doc: "Of one without a key the loader takes no more than its lengths."
    seq:
      - id: key_len
        type: u1
      - id: val_len
        type: u1
      - id: key
        size: key_len
      - id: val
        size: "key_len == 0 ? 0 : val_len"
  vmport_jumbo_entry:
    doc: "Of one without a key the loader takes no more than its lengths."
    seq:
      - id: key_len
        type: u1
      - id: val_len
        type: u2
      - id: key
        size: key_len
      - id: val
        size: "key_len == 0 ? 0 : val_len"
enums:
  save_type:
    0x0: end
    0x1: header
    0x2: cpu
    0x3: pic
    0x4: ioapic
    0x5: lapic
    0x6: lapic_regs
    0x7: pci_irq
    0x8: isa_irq
    0x9: pci_link
    0xa: pit
    0xb: rtc
    0xc: hpet
    0xd: pmtimer
    0xe: mtrr
    0xf: viridian_domain
    0x10: cpu_xsave
    0x11: viridian_vcpu
    0x12: vmce_vcpu
    0x13: tsc_adjust
    0x14: cpu_msr
    0x15: vmport
  libxl_type:
    0x0: end
    0x1: libxc_context
    0x2: emulator_xenstore_data
    0x3: emulator_context
    0x4: checkpoint_end
    0x5: checkpoint_state
  libxc_type:
    0x0: end
    0x1: page_data
    0x2: x86_pv_info
    0x3: x86_pv_p2m_frames
    0x4: x86_pv_vcpu_basic
    0x5: x86_pv_vcpu_extended
    0x6: x86_pv_vcpu_xsave
    0x7: shared_info
    0x8: x86_tsc_info
    0x9: hvm_context
    0xa: hvm_params
    0xb: toolstack
    0xc: x86_pv_vcpu_msrs
    0xd: verify
    0xe: checkpoint
    0xf: checkpoint_dirty_pfn_list
    0x10: static_data_end
    0x11: x86_cpuid_policy
    0x12: x86_msr_policy
  xapi_type:
    0xf: xenops
    0xf0: libxc
    0xf1: libxl
    0xf2: libxc_legacy
    0xf00: qemu_trad
    0xf01: qemu_xen
    0xf10: demu
    0xf11: varstored
    0xf12: swtpm0
    0xf13: swtpm
    0xffff: end_of_image
  hvm_param:
    0x0: callback_irq
    0x1: store_pfn
    0x2: store_evtchn
    0x4: pae_enabled
    0x5: ioreq_pfn
    0x6: bufioreq_pfn
    0x9: viridian
    0xa: timer_mode
    0xb: hpet_enabled
    0xc: ident_pt
    0xd: dm_domain
    0xe: acpi_s_state
    0xf: vm86_tss
    0x10: vpt_align
    0x11: console_pfn
    0x12: console_evtchn
    0x13: acpi_ioports_location
    0x14: memory_event_cr0
    0x15: memory_event_cr3
    0x16: memory_event_cr4
    0x17: memory_event_int3
    0x18: nestedhvm
    0x19: memory_event_single_step
    0x1a: bufioreq_evtchn
    0x1b: paging_ring_pfn
    0x1c: monitor_ring_pfn
    0x1d: sharing_ring_pfn
    0x1e: memory_event_msr
    0x1f: triple_fault_reason
    0x20: ioreq_server_pfn
    0x21: nr_ioreq_server_pages
    0x22: vm_generation_id_addr
    0x23: altp2m
    0x24: x87_fip_width
    0x25: vm86_tss_sized
    0x26: mca_cap
  guest_type:
    0x1: x86_pv
    0x2: x86_hvm
    0x3: x86_pvh
    0x4: arm
  page_type:
    0x0: normal
    0x1: l1_table
    0x2: l2_table
    0x3: l3_table
    0x4: l4_table
    0x9: l1_table_pinned
    0xa: l2_table_pinned
    0xb: l3_table_pinned
    0xc: l4_table_pinned
    0xd: broken
    0xe: allocate_only
    0xf: absent
  emulator:
    0x0: unknown
    0x1: qemu_traditional
    0x2: qemu_upstream
  checkpoint_state:
    0x0: new
    0x1: svm_suspended
    0x2: svm_ready
    0x3: svm_resumed
  vmport_proto:
    0x0: closed
    0x49435052: rpci
    0x4f4c4354: tclo
