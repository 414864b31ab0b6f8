"""The one exception tree. Nothing else escapes the library, whatever the input.

A `FormatError` has what its message says as attributes, so that no program need parse it.
"""

from __future__ import annotations

__all__ = [
    "FieldError", "FormatError", "HvmctxError", "InputError", "LengthError", "LimitError",
    "MissingPageError", "MissingRecordError", "RestoreRefused", "TranslationError",
    "TruncatedError", "UnknownRecordError", "UnsupportedError", "UsageError",
]  # fmt: skip


class HvmctxError(Exception):
    """Root of every error that hvmctx raises on purpose. Can be copied, and sent from one
    process to another."""

    def __reduce__(self) -> tuple[object, ...]:
        # an exception's own calls the class with the message alone
        return _again, (type(self), self.args), self.__dict__


def _again(kind: type[HvmctxError], args: tuple[object, ...]) -> HvmctxError:
    return kind.__new__(kind, *args)


class UsageError(HvmctxError):
    """The caller asked for something that does not exist (a record, a release, an option)."""


class InputError(HvmctxError):
    """The input cannot be opened or read, or an output cannot be written."""


class MissingRecordError(HvmctxError, AttributeError, KeyError):
    """The context or image has no such record or vcpu. Also an AttributeError, so that
    `hasattr` works, and a KeyError, as `context["CPU", 9]` may raise it."""

    def __str__(self) -> str:
        return Exception.__str__(self)  # a KeyError's would be in quotes


class MissingPageError(HvmctxError, LookupError):
    """A restore leaves the guest no memory there. `pfn` is the first page that is not."""

    def __init__(self, message: str, *, pfn: int) -> None:
        self.pfn = pfn
        super().__init__(message)


class TranslationError(HvmctxError, LookupError):
    """A virtual address that the page tables of a guest lead nowhere from. `address` is the first
    that they do not; `level` the table that stopped the walk (PML5, PML4, PDPT, PD or PT; empty
    where none was looked at), `entry_gpa` where its entry lies, and `entry` that entry, both None
    where it cannot be read."""

    def __init__(
        self,
        problem: str,
        *,
        address: int,
        level: str = "",
        entry_gpa: int | None = None,
        entry: int | None = None,
    ) -> None:
        self.address = address
        self.level = level
        self.entry_gpa = entry_gpa
        self.entry = entry
        super().__init__(f"virtual address {address:#x}: {problem}")


class FieldError(HvmctxError, ValueError):
    """A value does not fit its field. The message names the field and its width."""


class FormatError(HvmctxError):
    """Bytes that do not follow their format.

    Attributes: `problem` (the message without the place), `layer` (xl, xapi, libvirt, libxl,
    libxc, context, legacy, elf or symbols; gzip, xz, zstd or lz4 of a compressed input, xva of an
    archive of XAPI's; input if no format is recognised), `offset` (in bytes from the start of the
    input, or of the buffer that was parsed), `record` (type and instance in words, empty outside
    a record), `found` and `expected` (in words).
    """

    def __init__(
        self,
        problem: str,
        *,
        layer: str,
        offset: int,
        record: str = "",
        found: str = "",
        expected: str = "",
    ) -> None:
        self.problem = problem
        self.layer = layer
        self.offset = offset
        self.record = record
        self.found = found
        self.expected = expected
        super().__init__(problem)

    def moved(self, delta: int) -> FormatError:
        """The same error as an outer layer sees it: `delta` bytes further in."""
        self.offset += delta
        return self

    def __str__(self) -> str:
        where = f"{self.layer}: offset {self.offset:#x}"
        if self.record:
            where += f": {self.record}"
        details = []
        if self.found:
            details.append(f"found {self.found}")
        if self.expected:
            details.append(f"expected {self.expected}")
        return f"{where}: {self.problem}" + (f": {', '.join(details)}" if details else "")


class TruncatedError(FormatError):
    """The input ends within something whose length it gives."""


class LengthError(FormatError):
    """A length or count is one that the format does not allow."""


class LimitError(FormatError):
    """An input goes beyond one of our own bounds (`hvmctx.limits`): `limit` is its name. The
    message says which option moves it."""

    def __init__(
        self, problem: str, *, limit: str, layer: str, offset: int, record: str = ""
    ) -> None:
        self.limit = limit
        super().__init__(problem, layer=layer, offset=offset, record=record)


class UnknownRecordError(FormatError):
    """A mandatory record whose type the format does not define."""


class UnsupportedError(FormatError):
    """A format that is recognised but not read: big-endian streams, legacy streams."""


class RestoreRefused(HvmctxError):
    """Xen would refuse this, or overrun a buffer with it. `errno` is the name of the
    hypervisor's answer, such as EINVAL; None if the toolstack refuses. `rule` is the id that
    `hvmctx restore --explain` takes."""

    def __init__(self, message: str, *, errno: str | None, rule: str = "") -> None:
        self.errno = errno
        self.rule = rule
        super().__init__(message)
