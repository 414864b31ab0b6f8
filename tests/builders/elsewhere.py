"""Runs commands as a Python would that has nothing but what CPython has on Windows too.

Run as a program: takes [[argument, ...], ...] as JSON, gives [[status, stdout, stderr], ...]. What
Linux has beyond is taken away first; what exists there only with fewer abilities refuses the rest
as it does there: descriptors of directories, `dir_fd`, files opened as text, `select` on pipes.
"""

from __future__ import annotations

import ctypes
import io
import json
import mmap
import os
import pkgutil
import select
import signal
import stat
import subprocess
import sys
import tempfile
import threading  # noqa: F401 - it has other code there, and is to be here before
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
MODULES = (
    "crypt curses fcntl grp nis ossaudiodev posix pty pwd readline resource spwd syslog termios tty"
)
OS = """
    chown chroot confstr copy_file_range ctermid eventfd fchdir fchmod fchown fdatasync fork forkpty
    fpathconf fstatvfs getegid geteuid getgid getgrouplist getgroups getloadavg getpgid getpgrp
    getpriority getresgid getresuid getsid getuid getxattr initgroups killpg lchown link listxattr
    lockf major makedev memfd_create minor mkfifo mknod nice openpty pathconf pidfd_open pipe2
    posix_fadvise posix_fallocate posix_spawn posix_spawnp pread preadv pwrite pwritev readv
    register_at_fork removexattr sched_getaffinity sched_setaffinity sched_yield sendfile
    set_blocking setegid seteuid setgid setgroups setpgid setpriority setregid setresgid setresuid
    setreuid setsid setuid setxattr splice statvfs sync sysconf tcgetpgrp tcsetpgrp ttyname uname
    unshare wait wait3 wait4 waitid writev SEEK_DATA SEEK_HOLE WNOHANG
"""
SIGNALS = """
    SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 alarm pause
    pthread_kill pthread_sigmask setitimer siginterrupt sigpending sigwait sigtimedwait
"""
FLAGS = {"O_RDONLY", "O_WRONLY", "O_RDWR", "O_APPEND", "O_CREAT", "O_EXCL", "O_TRUNC"}
BINARY = 1 << 30


def hide() -> None:
    """Take away what is not there."""
    for name in MODULES.split():
        if name != "posix":  # which `os` is made of here, and some look into
            sys.modules[name] = None  # type: ignore[assignment]
    flags = {name for name in dir(os) if name.startswith("O_")} - FLAGS
    for module, names in (
        (os, {*OS.split(), *flags}),
        (signal, set(SIGNALS.split())),
        (select, {"poll", "epoll"}),
        (mmap, {name for name in dir(mmap) if name.startswith(("PROT_", "MAP_", "MADV_"))}),
    ):
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    os.supports_dir_fd = os.supports_fd = os.supports_follow_symlinks = set()
    _weaken()


def _weaken() -> None:
    opened, load = os.open, ctypes.CDLL
    os.O_BINARY = BINARY  # type: ignore[attr-defined]
    tempfile._bin_openflags |= BINARY  # type: ignore[attr-defined]

    def open_file(path: Any, flags: int, mode: int = 0o777, *, dir_fd: None = None) -> int:
        if dir_fd is not None:
            raise NotImplementedError("dir_fd unavailable on this platform")
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", path)
        fd = opened(path, flags & ~BINARY, mode)
        if stat.S_ISREG(os.fstat(fd).st_mode) and not flags & BINARY:
            raise AssertionError(f"{path}: a descriptor that changes line ends")
        return fd

    def without(function: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            if any(named.get(name) is not None for name in ("dir_fd", "src_dir_fd", "dst_dir_fd")):
                raise NotImplementedError("dir_fd unavailable on this platform")
            return function(*arguments, **named)

        return call

    def library(name: str | None, *arguments: Any, **named: Any) -> Any:
        if name is None:
            raise TypeError("expected a name")
        return load(name, *arguments, **named)

    def no_select(*_: object) -> None:
        raise OSError(10038, "not a socket")

    def no_program(_: object, arguments: list[str], **__: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", arguments[0])

    os.open = open_file  # type: ignore[assignment]
    for name in ("stat", "lstat", "unlink", "replace", "rename", "readlink", "mkdir", "rmdir"):
        setattr(os, name, without(getattr(os, name)))
    ctypes.CDLL = library  # type: ignore[assignment,misc]
    subprocess.Popen.__init__ = no_program  # type: ignore[method-assign,assignment]
    select.select = no_select  # type: ignore[assignment]


def run(arguments: list[str]) -> tuple[int, str, str]:
    from hvmctx.cli import main

    kept = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in kept)
    try:
        status = main(arguments)
        said = []
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            said.append(stream.buffer.getvalue().decode())
    finally:
        sys.stdout, sys.stderr = kept
    return status, said[0], said[1]


def import_all() -> None:
    """Every module, but those that need a package from elsewhere that is not installed."""
    import hvmctx

    for module in pkgutil.walk_packages(hvmctx.__path__, "hvmctx."):
        if not module.name.endswith("__main__"):
            try:
                import_module(module.name)
            except ModuleNotFoundError as error:
                if (error.name or "hvmctx").partition(".")[0] in ("hvmctx", *MODULES.split()):
                    raise


if __name__ == "__main__":
    hide()
    sys.path[0] = str(ROOT)
    if sys.argv[1] == "import":
        import_all()
    else:
        json.dump([run(each) for each in json.loads(sys.argv[1])], sys.stdout)
