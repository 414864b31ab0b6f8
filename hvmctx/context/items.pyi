# Made by tools/stubs.py out of abi/x86.py (make generate): what type checkers see of context[...].
# There is no such module at run time.
from typing import Generic, Literal, TypeVar, overload

from hvmctx.abi import x86
from hvmctx.abi.declare import RecordType, SaveStructure
from hvmctx.context.record import Record

_Structure = TypeVar("_Structure", bound=SaveStructure)

class KnownRecord(Record, Generic[_Structure]):
    """A record of a declared type."""

    @property
    def struct(self) -> _Structure: ...

class RecordItems:
    """The records of a context, by type and instance, by type alone, or by their place."""

    @overload
    def __getitem__(
        self, what: Literal["HEADER"] | tuple[Literal["HEADER"], int]
    ) -> KnownRecord[x86.hvm_save_header]: ...
    @overload
    def __getitem__(
        self, what: Literal["CPU"] | tuple[Literal["CPU"], int]
    ) -> KnownRecord[x86.hvm_hw_cpu]: ...
    @overload
    def __getitem__(
        self, what: Literal["PIC"] | tuple[Literal["PIC"], int]
    ) -> KnownRecord[x86.hvm_hw_vpic]: ...
    @overload
    def __getitem__(
        self, what: Literal["IOAPIC"] | tuple[Literal["IOAPIC"], int]
    ) -> KnownRecord[x86.hvm_hw_vioapic]: ...
    @overload
    def __getitem__(
        self, what: Literal["LAPIC"] | tuple[Literal["LAPIC"], int]
    ) -> KnownRecord[x86.hvm_hw_lapic]: ...
    @overload
    def __getitem__(
        self, what: Literal["LAPIC_REGS"] | tuple[Literal["LAPIC_REGS"], int]
    ) -> KnownRecord[x86.hvm_hw_lapic_regs]: ...
    @overload
    def __getitem__(
        self, what: Literal["PCI_IRQ"] | tuple[Literal["PCI_IRQ"], int]
    ) -> KnownRecord[x86.hvm_hw_pci_irqs]: ...
    @overload
    def __getitem__(
        self, what: Literal["ISA_IRQ"] | tuple[Literal["ISA_IRQ"], int]
    ) -> KnownRecord[x86.hvm_hw_isa_irqs]: ...
    @overload
    def __getitem__(
        self, what: Literal["PCI_LINK"] | tuple[Literal["PCI_LINK"], int]
    ) -> KnownRecord[x86.hvm_hw_pci_link]: ...
    @overload
    def __getitem__(
        self, what: Literal["PIT"] | tuple[Literal["PIT"], int]
    ) -> KnownRecord[x86.hvm_hw_pit]: ...
    @overload
    def __getitem__(
        self, what: Literal["RTC"] | tuple[Literal["RTC"], int]
    ) -> KnownRecord[x86.hvm_hw_rtc]: ...
    @overload
    def __getitem__(
        self, what: Literal["HPET"] | tuple[Literal["HPET"], int]
    ) -> KnownRecord[x86.hvm_hw_hpet]: ...
    @overload
    def __getitem__(
        self, what: Literal["PMTIMER"] | tuple[Literal["PMTIMER"], int]
    ) -> KnownRecord[x86.hvm_hw_pmtimer]: ...
    @overload
    def __getitem__(
        self, what: Literal["MTRR"] | tuple[Literal["MTRR"], int]
    ) -> KnownRecord[x86.hvm_hw_mtrr]: ...
    @overload
    def __getitem__(
        self, what: Literal["VIRIDIAN_DOMAIN"] | tuple[Literal["VIRIDIAN_DOMAIN"], int]
    ) -> KnownRecord[x86.hvm_viridian_domain_context]: ...
    @overload
    def __getitem__(
        self, what: Literal["CPU_XSAVE"] | tuple[Literal["CPU_XSAVE"], int]
    ) -> KnownRecord[x86.hvm_hw_cpu_xsave]: ...
    @overload
    def __getitem__(
        self, what: Literal["VIRIDIAN_VCPU"] | tuple[Literal["VIRIDIAN_VCPU"], int]
    ) -> KnownRecord[x86.hvm_viridian_vcpu_context]: ...
    @overload
    def __getitem__(
        self, what: Literal["VMCE_VCPU"] | tuple[Literal["VMCE_VCPU"], int]
    ) -> KnownRecord[x86.hvm_vmce_vcpu]: ...
    @overload
    def __getitem__(
        self, what: Literal["TSC_ADJUST"] | tuple[Literal["TSC_ADJUST"], int]
    ) -> KnownRecord[x86.hvm_tsc_adjust]: ...
    @overload
    def __getitem__(
        self, what: Literal["CPU_MSR"] | tuple[Literal["CPU_MSR"], int]
    ) -> KnownRecord[x86.hvm_msr]: ...
    @overload
    def __getitem__(
        self, what: type[_Structure] | tuple[type[_Structure], int]
    ) -> KnownRecord[_Structure]: ...
    @overload
    def __getitem__(
        self, what: int | str | RecordType | tuple[int | str | RecordType, int]
    ) -> Record: ...
