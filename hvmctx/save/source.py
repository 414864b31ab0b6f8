"""What a save asks of a guest: the protocol `GuestSource`, and what its answers may be.

docs/saving.md shows how to write one. Source of the facts: tools/libs/guest/xg_sr_save.c,
4.6 to c447b730, and the code first posted in June 2014. Little-endian; pages are of 4 KiB.
"""

from __future__ import annotations

import os
from typing import Protocol

from hvmctx.abi import streams
from hvmctx.errors import HvmctxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable
    from typing import TypeAlias, TypeVar

    from hvmctx.buffers import Buffer
    from hvmctx.stream.libxc import TscInfo

    T = TypeVar("T")
    Now: TypeAlias = T | Awaitable[T]
    """An answer, or something that gives it when it is awaited: a coroutine. The engine takes
    both, the drivers that do not wait only the first."""
    Page: TypeAlias = "Buffer | NotNow | PageError"

__all__ = [
    "DEFERRED", "NOT_NOW", "SHUTDOWN_REASONS", "SUSPEND", "GuestSource", "NotNow", "PageError",
    "SaveError", "SaveTimeout", "is_timeout",
]  # fmt: skip

DEFERRED = streams.PAGE_DEFERRED
"""The type of a page that cannot be had just now: it is sent as absent (0xf), and again when
the guest has stopped."""
SUSPEND = 2
SHUTDOWN_REASONS = ("poweroff", "reboot", "suspend", "crash", "watchdog", "soft reset")
"""By number (xen/include/public/sched.h)."""


class SaveError(HvmctxError):
    """A save that cannot go on: the guest is too large, does not stop, or gives something
    other than pages; a hook failed."""


class SaveTimeout(SaveError):
    """Somebody did not answer in time: the guest, its device model, the toolstack."""


def is_timeout(error: Exception) -> bool:
    """Whether somebody did not answer in time, asyncio's own error of Python 3.10 included."""
    return isinstance(error, TimeoutError) or type(error).__name__ == "TimeoutError"


class PageError(SaveError):
    """A page that cannot be mapped. `errno` is the hypervisor's, `mfn` where the page lies
    if that is known. A source gives it in the place of the page, and the save fails."""

    def __init__(self, pfn: int, errno: int, mfn: int | None = None) -> None:
        place = f"pfn {pfn:#x}" if mfn is None else f"pfn {pfn:#x} (mfn {mfn:#x})"
        super().__init__(f"{place} cannot be mapped: {os.strerror(errno)} (errno {errno})")
        self.pfn = pfn
        self.errno = errno
        self.mfn = mfn


class NotNow:
    """Stands in the place of a page that cannot be had just now (EAGAIN): it is deferred, as
    one of the type DEFERRED is. There is one, NOT_NOW."""

    def __repr__(self) -> str:
        return "NOT_NOW"


NOT_NOW = NotNow()


class GuestSource(Protocol):
    """What a save asks of a guest. `save.guests.StillGuest` answers for one that does
    not change. A class that derives from this one has the hooks that say what they do if
    there is nothing to do; the rest it must define.

    For `engine.save` the answers are plain values. For `engine.Save.send` any method may be
    a coroutine function too, and should be where the answer takes its time, as no other
    task runs meanwhile."""

    p2m_size: int
    """The highest pfn of the guest, plus one."""
    xen_version: tuple[int, int]

    def page_types(self, pfns: memoryview) -> Now[bytes]:
        """A type for each of these pfns (u64s, ascending): 0 to 15 as in the stream, DEFERRED for
        a page that cannot be had just now."""
        ...

    def pages(self, pfns: memoryview, types: bytes) -> Now[Iterable[Page]]:
        """The contents of those pages whose type has any, in order. A buffer may hold
        several pages; it must last until the next call. In the place of a page may stand
        NOT_NOW, while the guest runs, or a PageError, which ends the save."""
        ...

    def all_pages(self) -> Iterable[tuple[int, int]]:
        """What a pass over everything sends: (first pfn, one after the last), ascending and
        without overlap.
        The genuine save sends all pfns below p2m_size, absent ones as such."""
        ...

    def log_dirty(self, on: bool) -> Now[None]:
        """Start or stop to track what the guest writes."""
        ...

    def fetch_dirty(self, bitmap: bytearray) -> Now[int]:
        """Put the pages written since the last call into the bitmap (bit pfn % 8 of
        byte pfn / 8), forget them, and say how many they are."""
        ...

    def pause(self) -> Now[bool]:
        """Suspend the guest. Whether it has stopped. TimeoutError for one that did not answer
        in time becomes a SaveTimeout."""
        ...

    def shutdown_reason(self) -> Now[int | None]:
        """Asked after `pause`: why the domain has shut down (an index of SHUTDOWN_REASONS);
        None for one that is only paused. Anything but a suspend ends the save."""
        return None

    def resume(self) -> Now[None]:
        """Let it run again, between two checkpoints."""
        ...

    def policies(self) -> Now[tuple[bytes, bytes]]:
        """Bodies of X86_CPUID_POLICY and X86_MSR_POLICY; empty ones are left out."""
        ...

    def tsc_info(self) -> Now[TscInfo | None]:
        """The record X86_TSC_INFO; None for none."""
        ...

    def hvm_context(self) -> Now[bytes]:
        """The HVM context, as the hypervisor gave it."""
        ...

    def hvm_params(self) -> Now[list[tuple[int, int]]]:
        """(index, value), in the order to write them; zero values are left out."""
        ...

    def cleanup(self) -> Now[None]:
        """Called once at the end of every save, after dirty logging is off, whatever has
        happened: give back mappings, let a guest that nobody destroys run again. If the save
        has failed, its error is told, not one of the clean-up."""
        return None
