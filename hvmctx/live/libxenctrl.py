"""The context of a running domain, through libxenctrl.

Calls `xc_interface_open`, `xc_domain_hvm_getcontext` and `xc_interface_close`, whose
signatures have been the same since Xen 4.1 (tools/include/xenctrl.h).
"""

from __future__ import annotations

import ctypes
import glob
import os

from hvmctx.errors import InputError
from hvmctx.limits import DEFAULT

__all__ = ["LIBRARY_VARIABLE", "domain_context"]

LIBRARY_VARIABLE = "HVMCTX_LIBXENCTRL"
"""The environment variable with the path of the library, which is else looked for."""

_PLACES = (
    "/usr/lib/*/libxenctrl.so.*",
    "/usr/lib/xen-*/lib*/libxenctrl.so*",
    "/usr/lib64/libxenctrl.so.*",
    "/usr/lib/libxenctrl.so.*",
    "/usr/local/lib*/libxenctrl.so.*",
)
_LARGEST_DOMID = 0x7FEF
"""Higher ids are reserved for special domains (DOMID_FIRST_RESERVED is 0x7ff0)."""


def domain_context(domid: int) -> bytes:
    """The save context of domain `domid`, as the hypervisor makes it now. The domain should
    be paused; if it runs, its vcpus are not all of the same moment. Raises InputError with
    the reason."""
    if domid > _LARGEST_DOMID:
        raise InputError(f"domain {domid}: no domain has an id above {_LARGEST_DOMID}")
    library = _library()
    handle = library.xc_interface_open(None, None, 0)
    if not handle:
        raise InputError(f"cannot open the hypervisor: {_reason()}; this needs root in dom0")
    try:
        return _get_context(library, handle, domid)
    finally:
        library.xc_interface_close(handle)


def _get_context(library: ctypes.CDLL, handle: int, domid: int) -> bytes:
    size = library.xc_domain_hvm_getcontext(handle, domid, None, 0)
    if size < 0:
        raise InputError(f"domain {domid}: cannot get the length of its context: {_reason()}")
    if size > DEFAULT.input:
        raise InputError(f"domain {domid}: has a context of {size} bytes, which is too large")
    buffer = ctypes.create_string_buffer(size)
    got = library.xc_domain_hvm_getcontext(handle, domid, buffer, size)
    if got < 0:
        raise InputError(f"domain {domid}: cannot get its context: {_reason()}")
    return buffer.raw[: min(got, size)]


def _reason() -> str:
    return os.strerror(ctypes.get_errno()) if ctypes.get_errno() else "no reason given"


def _library() -> ctypes.CDLL:
    named = os.environ.get(LIBRARY_VARIABLE)
    candidates = [named] if named else _candidates()
    said = ""
    for candidate in candidates:
        try:
            library = ctypes.CDLL(candidate, use_errno=True)
            library.xc_interface_open.restype = ctypes.c_void_p
            library.xc_interface_open.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint]
            library.xc_interface_close.argtypes = [ctypes.c_void_p]
            library.xc_domain_hvm_getcontext.argtypes = [
                ctypes.c_void_p,
                ctypes.c_uint32,
                ctypes.c_char_p,
                ctypes.c_uint32,
            ]
            library.xc_domain_hvm_getcontext.restype = ctypes.c_int
            return library
        except (OSError, AttributeError) as error:
            said = f" ({error})"
    raise InputError(
        f"a DOMID needs Xen's libxenctrl, which cannot be loaded{said}; "
        f"set {LIBRARY_VARIABLE} to its path, or give ./NAME for a file"
    )


def _candidates() -> list[str]:
    """The unversioned name first, then whatever version is installed, newest first."""
    found = {path for place in _PLACES for path in glob.glob(place)}
    return ["libxenctrl.so", *sorted(found, key=_version, reverse=True)]


def _version(path: str) -> tuple[int, ...]:
    tail = path.rpartition(".so")[2]
    return tuple(int(part) for part in tail.split(".") if part.isdigit())
