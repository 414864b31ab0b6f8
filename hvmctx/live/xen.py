"""What is asked of a running Xen: `Xen`, calls that raise `XenError`; and `domain_context`."""

from __future__ import annotations

import ctypes
import errno
import mmap
from ctypes import byref, c_int, c_uint, c_uint32, c_uint64, c_void_p

from hvmctx.abi import streams
from hvmctx.limits import DEFAULT
from hvmctx.live.libraries import (
    GONE,
    NOT_DOM0,
    PRIVILEGE,
    Libraries,
    XenError,
    failure,
)
from hvmctx.stream.libxc import TscInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

__all__ = [
    "HVM_DEFAULT", "HVM_MAX", "POLICIES", "SAVED_PARAMS", "SUSPENDED", "DomainState", "Mapping",
    "Store", "Xen", "check_domid", "domain_context",
]  # fmt: skip

_LARGEST_DOMID = 0x7FEF
"""Higher ids are reserved for special domains (DOMID_FIRST_RESERVED is 0x7ff0)."""
POLICIES = ("raw", "host", "pv_max", "hvm_max", "pv_default", "hvm_default")
"""The system's CPU policies, by their numbers."""
HVM_MAX, HVM_DEFAULT = POLICIES.index("hvm_max"), POLICIES.index("hvm_default")
SAVED_PARAMS = (1, 5, 6, 27, 28, 29, 37, 17, 19, 9, 12, 34, 32, 33, 36, 38)
"""HVM parameters in the order of the genuine writer."""
SUSPENDED = 2
"""The reason of a shutdown that a save asks for (SHUTDOWN_suspend)."""
_DYING, _HVM, _SHUTDOWN, _PAUSED, _HAP = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 8
_LOG_DIRTY, _OFF, _ENABLE, _CLEAN = 4, 0, 32, 11
"""Modes and operations of xc_shadow_control and xc_logdirty_control."""
_TYPE_OF = bytes(kind >> 4 for kind in range(256))
_LARGEST_POLICY = 1 << 16
"""Rows. Xen has some hundred."""
_CONSOLE = 1 << 15
_BUILD_ID = 64
"""Bytes at most; a SHA-1 has 20."""


class _HypercallBuffer(ctypes.Structure):
    """Xen's own is smaller; what follows is for releases to come."""

    _fields_ = (
        ("hbuf", c_void_p), ("shadow", c_void_p), ("direction", c_int), ("ubuf", c_void_p),
        ("size", ctypes.c_size_t), ("spare", ctypes.c_uint8 * 64),
    )  # fmt: skip


class DomainState:
    """A domain as the hypervisor lists it. `reason` is that of its shutdown, None of one that
    has not shut down."""

    __slots__ = ("domid", "dying", "hap", "hvm", "max_vcpus", "paused", "reason", "vcpus")

    def __init__(self, domid: int, flags: int, online: int, last_vcpu: int) -> None:
        self.domid = domid
        self.dying = bool(flags & _DYING)
        self.hvm = bool(flags & _HVM)
        self.hap = bool(flags & _HAP)
        self.paused = bool(flags & _PAUSED)
        self.reason = flags >> 16 & 0xFF if flags & _SHUTDOWN else None
        self.vcpus = online
        self.max_vcpus = last_vcpu + 1 & 0xFFFFFFFF

    @property
    def stopped(self) -> bool:
        """Whether no vcpu of it runs."""
        return self.paused or self.reason is not None


def check_domid(domid: int) -> int:
    """Raises XenError for a number that no domain can have."""
    if domid > _LARGEST_DOMID:
        raise XenError(f"domain {domid}: no domain has an id above {_LARGEST_DOMID}", reason=GONE)
    return domid


class Xen:
    """The hypervisor. To be closed, or used in a `with`. Raises XenError."""

    def __init__(self) -> None:
        self.libraries = calls = Libraries()
        ctypes.set_errno(0)
        self._handle = calls.xc_interface_open(None, None, 0)
        if not self._handle:
            raise _not_opened(ctypes.get_errno())
        self._memory = 0
        self._console_at = c_uint32(0)
        try:
            both = calls.xc_version(self._handle, 0, None)
            self._checked(both, "ask for Xen's version")
            self.version = (both >> 16, both & 0xFFFF)
            if calls.version is None:
                calls.version = self.version
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        handle, self._handle = self._handle, None
        memory, self._memory = self._memory, 0
        if memory:
            self.libraries.xenforeignmemory_close(memory)
        if handle:
            self.libraries.xc_interface_close(handle)

    def __enter__(self) -> Xen:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @staticmethod
    def _checked(result: int, what: str) -> int:
        if result < 0:
            raise failure(what, ctypes.get_errno())
        return result

    def _of_domain(self, name: str, what: str, domid: int, *arguments: object) -> int:
        ctypes.set_errno(0)
        result: int = getattr(self.libraries, name)(self._handle, domid, *arguments)
        return self._checked(result, f"domain {domid}: {what}")

    # what the hypervisor is

    def version_bytes(self, number: int, size: int) -> bytes:
        """What xc_version gives for a number; zeros where it does not."""
        buffer = ctypes.create_string_buffer(size + 1)
        if self.libraries.xc_version(self._handle, number, buffer) < 0:
            return bytes(size)
        return buffer.raw[:size]

    def build_id(self) -> str:
        """In hex; empty where it has none (before 4.7)."""
        buffer = ctypes.create_string_buffer(_BUILD_ID.to_bytes(4, "little"), 4 + _BUILD_ID)
        got = self.libraries.xc_version(self._handle, 10, buffer)
        return buffer.raw[4 : 4 + max(0, min(got, _BUILD_ID))].hex()

    def version_text(self, number: int, size: int) -> str:
        """The same, of a number that gives a text."""
        text = self.version_bytes(number, size).split(b"\0")[0]
        return text.decode("utf-8", "replace").strip()

    def physinfo(self) -> bytes:
        """The structure of xc_physinfo, and zeros."""
        buffer = ctypes.create_string_buffer(1024)
        ctypes.set_errno(0)
        self._checked(self.libraries.xc_physinfo(self._handle, buffer), "ask what the machine has")
        return buffer.raw

    def console(self) -> str:
        """What the hypervisor has logged since this was last called."""
        buffer = ctypes.create_string_buffer(_CONSOLE)
        pieces = []
        for _ in range(64):
            count = c_uint(_CONSOLE)
            ctypes.set_errno(0)
            status = self.libraries.xc_readconsolering(
                self._handle, buffer, byref(count), 0, 1, byref(self._console_at)
            )
            self._checked(status, "read the hypervisor's log")
            if not count.value:
                break
            pieces.append(buffer.raw[: count.value])
        return b"".join(pieces).decode("utf-8", "replace")

    # policies

    def system_policy(self, number: int) -> tuple[bytes, bytes]:
        """Rows of leaves (24 bytes each) and of MSRs (16 bytes each) of one of POLICIES. Raises
        XenError; that of a release without is of the reason library."""
        return self._policy("system", number, f"get the {POLICIES[number]} CPU policy")

    def domain_policy(self, domid: int) -> tuple[bytes, bytes]:
        """The same of a domain; nothing where the release knows of none (before 4.12)."""
        if not self.libraries.has("xc_cpu_policy_init") and not self.libraries.has(
            "xc_get_domain_cpu_policy"
        ):
            return b"", b""
        return self._policy("domain", domid, f"domain {domid}: get its CPU policy")

    def _policy(self, whose: str, number: int, what: str) -> tuple[bytes, bytes]:
        calls, handle = self.libraries, self._handle
        leaves, msrs = c_uint32(), c_uint32()
        modern = calls.has("xc_cpu_policy_init")
        size_of = calls.xc_cpu_policy_get_size if modern else calls.xc_get_cpu_policy_size
        ctypes.set_errno(0)
        if size_of(handle, byref(leaves), byref(msrs)):
            raise failure(what, ctypes.get_errno())
        if max(leaves.value, msrs.value) > _LARGEST_POLICY:
            raise XenError(f"{what}: {leaves.value} leaves and {msrs.value} MSRs are too many")
        rows = ctypes.create_string_buffer(24 * leaves.value)
        values = ctypes.create_string_buffer(16 * msrs.value)
        if modern:
            policy = c_void_p(calls.xc_cpu_policy_init())
            if not policy:
                raise failure(what, errno.ENOMEM)
            try:
                get = getattr(calls, f"xc_cpu_policy_get_{whose}")
                failed = get(handle, number, policy) or calls.xc_cpu_policy_serialise(
                    handle, policy, rows, byref(leaves), values, byref(msrs)
                )
                reason = ctypes.get_errno()
            finally:
                calls.xc_cpu_policy_destroy(policy)
        else:
            get = getattr(calls, f"xc_get_{whose}_cpu_policy")
            failed = get(handle, number, byref(leaves), rows, byref(msrs), values)
            reason = ctypes.get_errno()
        if failed:
            raise failure(what, reason)
        return rows.raw[: 24 * leaves.value], values.raw[: 16 * msrs.value]

    # a domain

    def state(self, domid: int) -> DomainState:
        """Raises XenError, of the reason gone where there is no such domain."""
        check_domid(domid)
        buffer = ctypes.create_string_buffer(1024)
        count = self._of_domain("xc_domain_getinfolist", "look for it", domid, 1, buffer)
        found = int.from_bytes(buffer.raw[:2], "little")
        if count < 1 or found != domid:
            raise failure(f"domain {domid}", errno.ESRCH)
        flags, online, last = (
            int.from_bytes(buffer.raw[at : at + 4], "little") for at in (4, 64, 68)
        )
        return DomainState(domid, flags, online, last)

    def pause(self, domid: int) -> None:
        self._of_domain("xc_domain_pause", "pause it", domid)

    def unpause(self, domid: int) -> None:
        self._of_domain("xc_domain_unpause", "unpause it", domid)

    def suspend(self, domid: int) -> None:
        """Shut it down as suspended, without asking the guest."""
        self._of_domain("xc_domain_shutdown", "suspend it", domid, SUSPENDED)

    def resume(self, domid: int) -> None:
        """Let a suspended domain run on."""
        self._of_domain("xc_domain_resume", "resume it", domid, 1)

    def context(self, domid: int) -> bytes:
        """Its save context, as the hypervisor makes it now."""
        what = "get the length of its context"
        size = self._of_domain("xc_domain_hvm_getcontext", what, domid, None, 0)
        if size > DEFAULT.input:
            raise XenError(f"domain {domid}: has a context of {size} bytes, which is too large")
        buffer = ctypes.create_string_buffer(size)
        what = "get its context"
        got = self._of_domain("xc_domain_hvm_getcontext", what, domid, buffer, size)
        return buffer.raw[: min(got, size)]

    def load_context(self, domid: int, context: bytes) -> int:
        """Have the hypervisor load a context. Returns the errno, 0 if it took it."""
        ctypes.set_errno(0)
        failed = self.libraries.xc_domain_hvm_setcontext(
            self._handle, domid, ctypes.create_string_buffer(context, len(context)), len(context)
        )
        return (ctypes.get_errno() or -1) if failed else 0

    def p2m_size(self, domid: int) -> int:
        """The highest pfn plus one."""
        what = "ask for its highest page"
        if self.libraries.version and self.libraries.version < (4, 6):
            return self._of_domain("xc_domain_maximum_gpfn", what, domid) + 1
        highest = c_uint64()
        self._of_domain("xc_domain_maximum_gpfn", what, domid, byref(highest))
        return highest.value + 1

    def page_types(self, domid: int, pfns: memoryview) -> bytes:
        """A type for each pfn, 0 to 15."""
        count = len(pfns)
        batch = (c_uint64 * count).from_buffer_copy(pfns)
        self._of_domain("xc_get_pfn_type_batch", "ask for types of pages", domid, count, batch)
        # in the top 4 of 32 bits
        return bytes(batch)[3::8].translate(_TYPE_OF)

    def param(self, domid: int, index: int) -> int:
        """An HVM parameter."""
        value = c_uint64()
        self._of_domain(
            "xc_hvm_param_get", f"get HVM parameter {index}", domid, index, byref(value)
        )
        return value.value

    def tsc_info(self, domid: int) -> TscInfo:
        mode, khz, incarnation, elapsed = c_uint32(), c_uint32(), c_uint32(), c_uint64()
        self._of_domain(
            "xc_domain_get_tsc_info", "get its TSC mode", domid, byref(mode), byref(elapsed),
            byref(khz), byref(incarnation),
        )  # fmt: skip
        return TscInfo(mode.value, khz.value, elapsed.value, incarnation.value)

    def log_dirty(self, domid: int, on: bool) -> None:
        """Have the hypervisor note the pages that are written. What logs already, for a screen,
        is switched off first."""
        if not on:
            self._shadow(domid, _OFF, "stop to log its writes")
            return
        try:
            self._shadow(domid, _ENABLE, "log its writes")
        except XenError as error:
            if error.errno != errno.EEXIST:
                raise
            self._shadow(domid, _OFF, "stop to log its writes")
            self._shadow(domid, _ENABLE, "log its writes")

    def _shadow(self, domid: int, operation: int, what: str) -> None:
        mode = _LOG_DIRTY if operation == _ENABLE else 0
        if self.libraries.has("xc_logdirty_control"):
            self._of_domain("xc_shadow_control", what, domid, operation, None, mode)
        else:
            self._of_domain("xc_shadow_control", what, domid, operation, None, 0, None, mode, None)

    def fetch_dirty(self, domid: int, bitmap: bytearray, pages: int) -> int:
        """Put the pages written since the last time into the bitmap, and forget them. Returns
        how many they are."""
        calls, handle = self.libraries, self._handle
        buffer = _HypercallBuffer()
        room = -(-len(bitmap) // mmap.PAGESIZE)
        if not calls.xc__hypercall_buffer_alloc_pages(handle, byref(buffer), room):
            raise failure(f"domain {domid}: room for its dirty pages", ctypes.get_errno())
        try:
            counts = (c_uint32 * 2)()
            what = "fetch its dirty pages"
            if calls.has("xc_logdirty_control"):
                got = self._of_domain(
                    "xc_logdirty_control", what, domid, _CLEAN, byref(buffer), pages, 0, counts
                )
            else:
                got = self._of_domain(
                    "xc_shadow_control", what, domid, _CLEAN, byref(buffer), pages, None, 0, counts
                )
            if got != pages:
                raise XenError(f"domain {domid}: {what}: {got} of {pages} pages")
            bitmap[:] = ctypes.string_at(buffer.hbuf, len(bitmap))
            return counts[1]
        finally:
            calls.xc__hypercall_buffer_free_pages(handle, byref(buffer), room)

    def map_pages(self, domid: int, pfns: list[int]) -> Mapping:
        """Map pages of a domain, to be read. Those that cannot be are in its `errors`."""
        calls, count = self.libraries, len(pfns)
        batch = (c_uint64 * count)(*pfns)
        errors = (c_int * count)()
        ctypes.set_errno(0)
        if calls.has("xenforeignmemory_map"):
            if not self._memory:
                self._memory = calls.xenforeignmemory_open(None, 0) or 0
                if not self._memory:
                    raise failure("open the memory of domains", ctypes.get_errno())
            memory = self._memory
            address = calls.xenforeignmemory_map(
                memory, domid, mmap.PROT_READ, count, batch, errors
            )

            def unmap() -> None:
                calls.xenforeignmemory_unmap(memory, address, count)
        else:
            address = calls.xc_map_foreign_bulk(
                self._handle, domid, mmap.PROT_READ, batch, errors, count
            )

            def unmap() -> None:
                _libc("munmap", c_int, c_void_p, ctypes.c_size_t)(address, count << 12)

        reason = ctypes.get_errno()
        if address in (None, 0, 2**64 - 1):
            if reason in (errno.ESRCH, errno.EPERM):
                raise failure(f"domain {domid}: map its memory", reason)
            return Mapping(0, count, [number or reason or errno.EFAULT for number in errors], None)
        return Mapping(address, count, list(errors), unmap)


class Mapping:
    """Pages of a domain in our address space. `errors` has the errno of each, 0 for those that
    are there."""

    __slots__ = ("_address", "_unmap", "count", "errors")

    def __init__(
        self, address: int, count: int, errors: list[int], unmap: Callable[[], None] | None
    ) -> None:
        self._address = address
        self._unmap = unmap
        self.count = count
        self.errors = errors

    def copy(self) -> Iterator[bytes]:
        """The contents of the pages that are there. A copy, as some files and sockets cannot
        be written from such memory (EFAULT)."""
        at = 0
        while at < self.count:
            if self.errors[at]:
                at += 1
                continue
            end = at + 1
            while end < self.count and not self.errors[end]:
                end += 1
            start = self._address + (at << streams.PAGE_SHIFT)
            yield ctypes.string_at(start, (end - at) << streams.PAGE_SHIFT)
            at = end

    def close(self) -> None:
        unmap, self._unmap = self._unmap, None
        if unmap is not None:
            unmap()


class Store:
    """Xenstore, as far as a save needs it. To be closed."""

    def __init__(self, libraries: Libraries) -> None:
        self._calls = libraries
        ctypes.set_errno(0)
        self._handle = libraries.xs_open(0)
        if not self._handle:
            raise failure("open xenstore", ctypes.get_errno())

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle:
            self._calls.xs_close(handle)

    def read(self, path: str, transaction: int = 0) -> bytes | None:
        """A value; None where there is none."""
        size = c_uint()
        place = self._calls.xs_read(self._handle, transaction, path.encode(), byref(size))
        return _taken(place, size.value) if place else None

    def names(self, path: str) -> list[str]:
        """What lies in a directory, in xenstore's order."""
        count = c_uint()
        place = self._calls.xs_directory(self._handle, 0, path.encode(), byref(count))
        if not place:
            return []
        found = ctypes.cast(place, ctypes.POINTER(ctypes.c_char_p))
        names = [(found[at] or b"").decode("utf-8", "replace") for at in range(count.value)]
        _free(place)
        return names

    def write(self, path: str, value: bytes, transaction: int = 0) -> None:
        ctypes.set_errno(0)
        done = self._calls.xs_write(self._handle, transaction, path.encode(), value, len(value))
        if not done:
            raise failure(f"write {path} in xenstore", ctypes.get_errno())

    def replace(self, path: str, old: bytes, new: bytes) -> bool:
        """Write a value where it is still the old one. Whether it was."""
        while True:
            transaction = self._calls.xs_transaction_start(self._handle)
            same = self.read(path, transaction) == old
            if same:
                self.write(path, new, transaction)
            ctypes.set_errno(0)
            ended = self._calls.xs_transaction_end(self._handle, transaction, not same)
            if ended or ctypes.get_errno() != errno.EAGAIN:
                return same

    def resumed(self, domid: int) -> None:
        """Tell that a suspended domain runs again."""
        self._calls.xs_resume_domain(self._handle, domid)


def _libc(name: str, result: object, *arguments: object) -> Callable[..., int]:
    call = getattr(ctypes.CDLL(None), name)
    call.restype, call.argtypes = result, list(arguments)
    return call  # type: ignore[no-any-return]


def _free(place: int) -> None:
    _libc("free", None, c_void_p)(place)


def _taken(place: int, size: int) -> bytes:
    """The bytes that a library has allocated for us."""
    data = ctypes.string_at(place, size)
    _free(place)
    return data


def _not_opened(number: int) -> XenError:
    error = failure("cannot open the hypervisor", number)
    if number in (errno.EACCES, errno.EPERM):
        text = f"cannot open the hypervisor: {_words(number)}; this needs root in dom0"
        return XenError(text, reason=PRIVILEGE, errno=number)
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        text = f"cannot open the hypervisor: {_words(number)}; this is not a dom0 of Xen"
        return XenError(text, reason=NOT_DOM0, errno=number)
    return error


def _words(number: int) -> str:
    import os

    return os.strerror(number)


def domain_context(domid: int) -> bytes:
    """The save context of domain `domid`, as the hypervisor makes it now. The domain should
    be paused; if it runs, its vcpus are not all of the same moment. Raises XenError with
    the reason."""
    check_domid(domid)
    with Xen() as xen:
        return xen.context(domid)
