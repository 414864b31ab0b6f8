"""Xen's C libraries: where they are, and the functions of theirs that are called.

Loaded by absolute path only, never from the working directory. A function whose signature or
library changed has a row for each window of releases; which window counts, the name of
libxenctrl says (`libxenctrl.so.4.17`), and else the hypervisor. Source: the headers of every
release tag, 4.5.0 to 4.22.0.
"""

from __future__ import annotations

import ctypes
import errno as numbers
import glob
import os
import subprocess
from collections import namedtuple

from hvmctx.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeAlias

    Call: TypeAlias = Callable[..., Any]
    Version: TypeAlias = tuple[int, int]

__all__ = [
    "FAILED", "GONE", "LIBRARY", "LIBRARY_VARIABLE", "NOT_DOM0", "PRIVILEGE", "TABLE", "VERSION",
    "Libraries", "XenError", "failure",
]  # fmt: skip

LIBRARY_VARIABLE = "HVMCTX_LIBXENCTRL"
"""The environment variable with the path of libxenctrl; the other libraries are then looked for
beside it first."""

LIBRARY, NOT_DOM0, PRIVILEGE, GONE, VERSION, FAILED = (
    "library", "not-dom0", "privilege", "gone", "version", "failed",
)  # fmt: skip


class XenError(InputError):
    """A running Xen does not do what it was asked. `reason` is library (Xen's libraries are not
    there), not-dom0, privilege, gone (the domain), version (the libraries are another Xen's) or
    failed; `errno` is the number that the library left, 0 for none."""

    def __init__(self, message: str, *, reason: str = FAILED, errno: int = 0) -> None:
        self.reason = reason
        self.errno = errno
        super().__init__(message)


def failure(what: str, errno: int) -> XenError:
    """The error of a call, told by its errno. `what` was done, such as `domain 7: pause it`."""
    name = numbers.errorcode.get(errno, str(errno))
    said = f"{name}: {os.strerror(errno)}" if errno else "no reason given"
    if errno == numbers.ESRCH:
        return XenError(f"{what}: there is no such domain ({said})", reason=GONE, errno=errno)
    if errno == numbers.EPERM:
        text = f"{what}: not permitted ({said}); this needs root in dom0"
        return XenError(text, reason=PRIVILEGE, errno=errno)
    if errno in (numbers.EACCES, numbers.ENOSYS):  # what a domctl of another version gets
        text = f"{what}: Xen's libraries here are not those of the Xen that runs ({said})"
        return XenError(text, reason=VERSION, errno=errno)
    return XenError(f"{what}: {said}", errno=errno)


Function = namedtuple(
    "Function", ("name", "libraries", "result", "arguments", "since", "until"), defaults=("", "")
)
"""`libraries`: where to look, in this order. `result` and `arguments`: a letter each, of
`_TYPES`. `since`, `until`: the first and the last release with it, empty for 4.5 and newest."""

_TYPES = {
    "p": ctypes.c_void_p, "i": ctypes.c_int, "u": ctypes.c_uint32, "L": ctypes.c_ulong,
    "l": ctypes.c_longlong, "b": ctypes.c_bool, "v": None,
}  # fmt: skip

_CTRL, _GUEST, _MEMORY, _STORE = (
    ("xenctrl",),
    ("xenguest", "xenctrl"),
    ("xenforeignmemory",),
    ("xenstore",),
)
TABLE = (
    Function("xc_interface_open", _CTRL, "p", "ppu"),
    Function("xc_interface_close", _CTRL, "i", "p"),
    Function("xc_version", _CTRL, "i", "pip"),
    Function("xc_physinfo", _CTRL, "i", "pp"),
    Function("xc_readconsolering", _CTRL, "i", "pppiip"),
    Function("xc_domain_getinfolist", _CTRL, "i", "puup"),
    Function("xc_domain_pause", _CTRL, "i", "pu"),
    Function("xc_domain_unpause", _CTRL, "i", "pu"),
    Function("xc_domain_shutdown", _CTRL, "i", "pui"),
    Function("xc_domain_resume", _GUEST, "i", "pui"),
    Function("xc_domain_hvm_getcontext", _CTRL, "i", "pupu"),
    Function("xc_domain_hvm_setcontext", _CTRL, "i", "pupu"),
    Function("xc_domain_maximum_gpfn", _CTRL, "i", "pu", "", "4.5"),
    Function("xc_domain_maximum_gpfn", _CTRL, "i", "pup", "4.6"),
    Function("xc_get_pfn_type_batch", _CTRL, "i", "puup"),
    Function("xc_hvm_param_get", _CTRL, "i", "puup"),
    Function("xc_domain_get_tsc_info", _CTRL, "i", "pupppp"),
    Function("xc_shadow_control", _CTRL, "i", "puupLpup", "", "4.15"),
    Function("xc_shadow_control", _CTRL, "i", "puupu", "4.16"),
    Function("xc_logdirty_control", _CTRL, "l", "puupLup", "4.16"),
    Function("xc__hypercall_buffer_alloc_pages", _CTRL, "p", "ppi"),
    Function("xc__hypercall_buffer_free_pages", _CTRL, "v", "ppi"),
    Function("xc_get_cpu_policy_size", _CTRL, "i", "ppp", "4.12", "4.15"),
    Function("xc_get_system_cpu_policy", _CTRL, "i", "pupppp", "4.12", "4.15"),
    Function("xc_get_domain_cpu_policy", _CTRL, "i", "pupppp", "4.12", "4.15"),
    Function("xc_cpu_policy_init", _GUEST, "p", "", "4.16"),
    Function("xc_cpu_policy_destroy", _GUEST, "v", "p", "4.16"),
    Function("xc_cpu_policy_get_size", _GUEST, "i", "ppp", "4.16"),
    Function("xc_cpu_policy_get_system", _GUEST, "i", "pup", "4.16"),
    Function("xc_cpu_policy_get_domain", _GUEST, "i", "pup", "4.16"),
    Function("xc_cpu_policy_serialise", _GUEST, "i", "pppppp", "4.16"),
    Function("xc_map_foreign_bulk", _CTRL, "p", "puippu", "", "4.6"),
    Function("xenforeignmemory_open", _MEMORY, "p", "pu", "4.7"),
    Function("xenforeignmemory_close", _MEMORY, "i", "p", "4.7"),
    Function("xenforeignmemory_map", _MEMORY, "p", "puiLpp", "4.7"),
    Function("xenforeignmemory_unmap", _MEMORY, "i", "ppL", "4.7"),
    Function("xs_open", _STORE, "p", "L"),
    Function("xs_close", _STORE, "v", "p"),
    Function("xs_read", _STORE, "p", "pupp"),
    Function("xs_directory", _STORE, "p", "pupp"),
    Function("xs_write", _STORE, "b", "puppu"),
    Function("xs_transaction_start", _STORE, "u", "p"),
    Function("xs_transaction_end", _STORE, "b", "pub"),
    Function("xs_resume_domain", _STORE, "b", "pu"),
)
"""A row a function and window."""

_PLACES = (
    "/usr/lib/*-linux-gnu", "/usr/lib/xen-*/lib", "/usr/lib/xen-*/lib/*-linux-gnu", "/usr/lib64",
    "/usr/lib", "/usr/local/lib", "/usr/local/lib64", "/usr/local/lib/*-linux-gnu", "/lib64",
    "/lib/*-linux-gnu", "/usr/lib64/xen*/lib*",
)  # fmt: skip
_LDCONFIG = ("/sbin/ldconfig", "/usr/sbin/ldconfig")
_RUNNING = "/sys/hypervisor/version/"


class Libraries:
    """The libraries of one Xen. `version` is that of libxenctrl by its name, None for one whose
    name does not tell; `use` is told it then."""

    def __init__(self) -> None:
        self._loaded: dict[str, ctypes.CDLL | None] = {}
        self._calls: dict[str, Call] = {}
        self._beside = ""
        named = os.environ.get(LIBRARY_VARIABLE)
        library = self._load([named] if named else list(_candidates("xenctrl")))
        self._loaded["xenctrl"] = library
        self._beside = os.path.dirname(library._name)
        self.version = _version_of(os.path.realpath(library._name))

    def __getattr__(self, name: str) -> Call:
        """The function of that name as this release has it. Raises XenError if it has none."""
        if name.startswith("_"):
            raise AttributeError(name)
        call = self._calls.get(name)
        if call is None:
            call = self._calls[name] = self._find(name)
        return call

    def has(self, name: str) -> bool:
        """Whether the table has this function for this release."""
        return self._row(name) is not None

    def _row(self, name: str) -> Function | None:
        rows = [row for row in TABLE if row.name == name]
        if len(rows) == 1 and not (rows[0].since or rows[0].until):
            return rows[0]
        version = self.version or (99, 0)
        for row in rows:
            if _number(row.since, (0, 0)) <= version <= _number(row.until, (99, 0)):
                return row
        return None

    def _find(self, name: str) -> Call:
        row = self._row(name)
        if row is None:
            text = f"any library of Xen has a {name} in this release"
            raise XenError(f"hvmctx does not know that {text}", reason=LIBRARY)
        for library in row.libraries:
            if library not in self._loaded:
                try:
                    self._loaded[library] = self._load(list(_candidates(library, self._beside)))
                except XenError:
                    self._loaded[library] = None
            loaded = self._loaded[library]
            if loaded is not None and hasattr(loaded, name):
                call: ctypes._FuncPointer = getattr(loaded, name)
                call.restype = _TYPES[row.result]
                call.argtypes = [_TYPES[letter] for letter in row.arguments]  # type: ignore[misc]
                return call
        places = ", ".join(f"lib{library}" for library in row.libraries)
        raise XenError(f"Xen's {places} has no {name}", reason=LIBRARY)

    def _load(self, candidates: list[str]) -> ctypes.CDLL:
        said = ""
        for path in candidates:
            if not os.path.isabs(path):
                said = f" ({path} is not an absolute path)"
                continue
            try:
                return ctypes.CDLL(path, use_errno=True)
            except OSError as error:
                said = f" ({error})"
        raise XenError(
            f"a DOMID needs Xen's libxenctrl, which cannot be loaded{said}; "
            f"set {LIBRARY_VARIABLE} to its path, or give ./NAME for a file",
            reason=LIBRARY,
        )


def _number(text: str, default: Version) -> Version:
    major, _, minor = text.partition(".")
    return (int(major), int(minor)) if minor else default


def _candidates(library: str, beside: str = "") -> Iterator[str]:
    """Paths to try: beside libxenctrl, in absolute directories, and where the loader's cache
    says. Of several versions that of the running Xen first, then the newest."""
    name = f"lib{library}.so"
    own = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if os.path.isabs(path)]
    if beside:
        yield from _newest_first(glob.glob(f"{glob.escape(beside)}/{name}*"))
    for place in own:
        yield from _newest_first(glob.glob(f"{glob.escape(place)}/{name}*"))
    found = {path for place in _PLACES for path in glob.glob(f"{place}/{name}*")}
    yield from _newest_first(found | set(_of_the_loader(name)))


def _newest_first(paths: list[str] | set[str]) -> list[str]:
    running = _running_version()
    return sorted(
        paths, key=lambda path: (_version_of(path) == running, _parts(path)), reverse=True
    )


def _of_the_loader(name: str) -> Iterator[str]:
    """What `ldconfig -p` has under that name."""
    for program in _LDCONFIG:
        try:
            done = subprocess.run(
                [program, "-p"], capture_output=True, timeout=20, check=False,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            continue
        for line in done.stdout.decode("utf-8", "replace").splitlines():
            label, arrow, path = line.strip().partition(" => ")
            if arrow and label.split(" ", 1)[0].startswith(name) and os.path.isabs(path):
                yield path
        return


def _parts(path: str) -> tuple[int, ...]:
    tail = path.rpartition(".so")[2]
    return tuple(int(part) for part in tail.split(".") if part.isdigit() and len(part) < 10)


def _version_of(path: str) -> Version | None:
    """The release in the name of a libxenctrl; others have numbers of their own."""
    parts = _parts(path)
    return (parts[0], parts[1]) if len(parts) > 1 and "libxenctrl" in path else None


def _running_version() -> Version | None:
    try:
        with open(_RUNNING + "major") as major, open(_RUNNING + "minor") as minor:
            return int(major.read(16)), int(minor.read(16))
    except (OSError, ValueError):
        return None
