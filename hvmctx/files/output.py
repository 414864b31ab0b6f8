"""Output files that are whole or not there: written under a temporary name beside the
final one, and renamed when all is well. Nobody may read them who may not read the input.
"""

from __future__ import annotations

import os
import stat
import sys
from _thread import allocate_lock
from contextlib import contextmanager, suppress

from hvmctx.errors import InputError
from hvmctx.files.access import ACL, Access

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType
    from typing import BinaryIO

__all__ = ["STDOUT", "is_temporary", "replacing", "sweep"]

STDOUT = "-"
_TEMPORARY = ".hvmctx-", ".tmp"
"""How the name of a file that is not whole yet starts and ends."""
_PRIVATE = 0o600
_DIR_FD = os.open in os.supports_dir_fd
"""Whether the system knows descriptors of directories: all but Windows."""
_MOST_LINKS = 40
_MOST_TRIES = 100


def is_temporary(name: str) -> bool:
    """Whether a file is called as one that `replacing` has not yet renamed."""
    return name.startswith(_TEMPORARY[0]) and name.endswith(_TEMPORARY[1])


@contextmanager
def replacing(
    path: str, *, force: bool = False, like: Iterable[Access | None] = (), tidy: bool = True
) -> Iterator[BinaryIO]:
    """A binary file that becomes `path` when the block ends, and vanishes if it raises. `-` is
    standard output; a device or a FIFO is written to directly; of a link, the file that it
    points to is replaced.

    `like` is who may read each input, None for one that is not a file; it is looked at when
    the block ends. The output has the mode of the file that it replaces; else that of the
    input, under the umask; else 0600. Of these it has no bit that an input does not have.
    What a killed run into the same name has left is removed first; not with `tidy=False`, for
    those who write many files into a directory and `sweep` it once.

    Raises InputError if `path` exists without `force`, if the system refuses it, and in a
    sticky directory for a link or a file of another user."""
    if path == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    _refuse_name(path)
    if not _DIR_FD:
        with _naming(path), _replacing_by_path(path, force=force) as stream:
            yield stream
        return
    with _naming(path), _Place(path) as place:
        if place.swallows or (place.is_special and force):
            with place.open_special() as stream:
                yield stream
            return
        if not force:
            place.refuse_existing()
        replaced = place.access()
        with _Signals() as signals:
            temporary = _Temporary(place)
            try:
                if tidy:
                    _sweep(place.directory, temporary.prefix)
                with temporary.create() as file:
                    yield file
                    file.flush()
                    inputs = list(like)
                    _settle(file.fileno(), inputs, replaced)
                    _to_disk(file.fileno(), inputs, replaced)
                    signals.held = True
                    temporary.rename(force=force)
            finally:
                signals.held = True
                temporary.remove()


def _refuse_name(path: str) -> None:
    if not path:
        raise InputError("the name of the output file is empty")
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise InputError(f"{path!r}: {error}") from None
    if "\0" in path:
        raise InputError(f"{path!r}: embedded null byte")


class _Place:
    """Where an output goes: a directory, held open so that it stays the one that was looked
    at; a name in it; and what is there. Links are followed here, as a rename does not, and
    none of another user in a sticky directory: what the kernel's `protected_symlinks` does
    for an open file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._is_link = False
        self._no_follow = os.O_NOFOLLOW
        where, self.name = os.path.split(path)
        self.directory = _open_directory(where or ".")
        try:
            self._status = _status(self.name, self.directory)
            self._follow_links()
        except BaseException:
            os.close(self.directory)
            raise
        self.mode = self._status.st_mode if self._status else 0

    def __enter__(self) -> _Place:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.directory)

    def _follow_links(self) -> None:
        for _ in range(_MOST_LINKS):
            if self._status is None or not stat.S_ISLNK(self._status.st_mode):
                break
            self._is_link = True
            self._refuse_strangers(self._status)
            where, name = os.path.split(os.readlink(self.name, dir_fd=self.directory))
            status = None if where else _status(name, self.directory)
            if not where and status is None:
                with suppress(FileNotFoundError):  # or it is one like /proc/self/fd/1
                    self._status = os.stat(self.name, dir_fd=self.directory)
                    self._no_follow = 0
                    break
            further = _open_directory(where or ".", self.directory)
            link, self.directory = self.directory, further
            try:
                found = _status(name, further)
                if found is None and self._leads_somewhere(link):
                    raise InputError(f"{self._path}: the file that it stands for has been removed")
            finally:
                os.close(link)
            self.name, self._status = name, found
        if self._status is not None and stat.S_ISLNK(self._status.st_mode):
            raise InputError(f"{self._path}: too many links")
        if self._status is not None and stat.S_ISDIR(self._status.st_mode):
            raise InputError(f"{self._path}: Is a directory")

    def _leads_somewhere(self, directory: int) -> bool:
        """Whether a link whose target has no name any more stands for an open file: one such as
        /proc/self/fd/1, whose text then is the old name and ` (deleted)`."""
        try:
            os.stat(self.name, dir_fd=directory)
        except OSError:
            return False
        return True

    def _refuse_strangers(self, status: os.stat_result | None) -> None:
        if status is None:
            return
        directory = os.fstat(self.directory)
        sticky = directory.st_mode & stat.S_ISVTX and directory.st_mode & 0o022
        if sticky and status.st_uid not in (os.geteuid(), directory.st_uid):
            raise InputError(
                f"{self._path}: belongs to another user (uid {status.st_uid}), in a directory "
                "that others may write to"
            )

    @property
    def swallows(self) -> bool:
        """Whether writing there replaces nothing: a terminal, /dev/null, a FIFO."""
        return stat.S_ISCHR(self.mode) or stat.S_ISFIFO(self.mode)

    @property
    def is_special(self) -> bool:
        """Whether what is there is written to, not replaced."""
        return self._status is not None and not stat.S_ISREG(self.mode)

    def open_special(self) -> BinaryIO:
        """Open it, once; what has been opened is looked at again."""
        self._refuse_strangers(self._status)
        flags = os.O_WRONLY | os.O_NOCTTY | self._no_follow
        file = os.fdopen(os.open(self.name, flags, dir_fd=self.directory), "wb")
        try:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode):
                raise InputError(f"{self._path}: has become another file")
            self._refuse_strangers(status)
        except BaseException:
            file.close()
            raise
        return file

    def refuse_existing(self) -> None:
        if self._is_link or _status(self.name, self.directory) is not None:
            raise InputError(f"{self._path}: exists; --force replaces it")

    def access(self) -> Access | None:
        """Who may read the file that is to be replaced. Raises InputError for one of another
        user in a sticky directory."""
        if self._status is None:
            return None
        self._refuse_strangers(self._status)
        try:
            fd = os.open(
                self.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self.directory
            )
        except OSError:  # not by us
            status = self._status
            return Access(status.st_uid, status.st_gid, self.mode, (status.st_dev, status.st_ino))
        try:
            self._refuse_strangers(os.fstat(fd))
            return Access.of(fd)
        finally:
            os.close(fd)


def _open_directory(path: str, within: int | None = None) -> int:
    """A descriptor to reach what is in a directory, not to list it."""
    return os.open(path, os.O_DIRECTORY | getattr(os, "O_PATH", 0), dir_fd=within)


def _status(name: str, directory: int) -> os.stat_result | None:
    """Of what is there, be it a link; of the directory itself for no name; None for nothing."""
    try:
        return os.lstat(name, dir_fd=directory) if name else os.fstat(directory)
    except FileNotFoundError:
        return None


class _Temporary:
    """The file before it has its name. While this process writes it, it is locked: one that is
    not locked has been left behind."""

    def __init__(self, place: _Place) -> None:
        from binascii import crc32

        self._place = place
        self._name = ""
        self.prefix = f"{_TEMPORARY[0]}{crc32(os.fsencode(place.name)):08x}-"
        """Of all temporary files for that name. Two names may share it: only what has been
        left behind is swept."""

    def create(self) -> BinaryIO:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        for _ in range(_MOST_TRIES):
            # The name is kept before there is a file: an interrupt may come between the two.
            self._name = f"{self.prefix}{os.urandom(8).hex()}{_TEMPORARY[1]}"
            try:
                fd = os.open(self._name, flags, _PRIVATE, dir_fd=self._place.directory)
            except FileExistsError:
                self._name = ""
                continue
            if _lock(fd) and os.fstat(fd).st_nlink:
                return os.fdopen(fd, "w+b")
            os.close(fd)  # a sweep was faster
        raise InputError(f"{self._place.name}: found no name for a temporary file")

    def rename(self, *, force: bool) -> None:
        """Give it its final name, if it is still free or with `force`."""
        directory, name = self._place.directory, self._place.name
        if not force:
            try:
                os.link(self._name, name, src_dir_fd=directory, dst_dir_fd=directory)
            except FileExistsError:
                self._place.refuse_existing()
                raise
            except OSError:  # a file system without hard links
                if not self._rename_to_new():
                    self._place.refuse_existing()
                    force = True
        if force:
            os.replace(self._name, name, src_dir_fd=directory, dst_dir_fd=directory)
            self._name = ""

    def _rename_to_new(self) -> bool:
        """Linux's rename that replaces nothing. False where it does not exist."""
        import ctypes
        import errno

        renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        if renameat2 is None:
            return False
        directory = self._place.directory
        old, new = os.fsencode(self._name), os.fsencode(self._place.name)
        if renameat2(directory, old, directory, new, 1) == 0:
            self._name = ""
            return True
        if ctypes.get_errno() == errno.EEXIST:
            self._place.refuse_existing()
        return False

    def remove(self) -> None:
        """Remove the temporary name, if there still is one."""
        if self._name:
            with suppress(FileNotFoundError):
                os.unlink(self._name, dir_fd=self._place.directory)
            self._name = ""


def _lock(fd: int) -> bool:
    """Lock a temporary file, or say that somebody else has. Where files cannot be locked they
    are not swept either."""
    from fcntl import LOCK_EX, LOCK_NB, flock

    try:
        flock(fd, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def sweep(directory: str) -> None:
    """Remove the temporary files in a directory that killed runs of the same user have left.
    One that is being written stays."""
    with suppress(OSError, AttributeError):  # nothing can be locked on Windows
        fd = _open_directory(directory)
        try:
            _sweep(fd, _TEMPORARY[0])
        finally:
            os.close(fd)


def _sweep(directory: int, prefix: str) -> None:
    with suppress(OSError):  # a directory that cannot be listed
        listed = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
        try:
            names = os.listdir(listed)
        finally:
            os.close(listed)
        for name in names:
            if name.startswith(prefix) and is_temporary(name):
                _sweep_one(directory, name)


def _sweep_one(directory: int, name: str) -> None:
    from fcntl import LOCK_EX, LOCK_NB, flock

    with suppress(OSError):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
        try:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
                flock(fd, LOCK_EX | LOCK_NB)  # raises while it is being written
                os.unlink(name, dir_fd=directory)
        finally:
            os.close(fd)


def _settle(fd: int, like: list[Access | None], replaced: Access | None) -> None:
    """Give a file that is whole its owner, as far as that is allowed, and its mode."""
    known = [access for access in like if access is not None]
    if replaced is not None:
        uid = replaced.uid if all(access.readable_by(replaced.uid) for access in known) else -1
        with suppress(OSError):
            os.fchown(fd, uid, replaced.gid)
        known.append(replaced)
        mode = 0o777
    else:
        mode = ~_umask() & (0o777 if like and None not in like else _PRIVATE)
    gid = os.fstat(fd).st_gid
    for access in known:
        mode &= access.bits(gid)
    with suppress(OSError, AttributeError):  # what the directory's default has given to others
        os.removexattr(fd, ACL)
    with suppress(OSError):  # a file system without modes
        os.fchmod(fd, mode)


def _to_disk(fd: int, inputs: list[Access | None], replaced: Access | None) -> None:
    """What replaces its own input is on the disk before it does, so that a crash of the machine
    leaves one of the two. Any other can be made again, and is not waited for. (ext4 waits for
    the data of its own accord where a rename replaces a file.)"""
    if replaced is not None and any(each and each.file == replaced.file for each in inputs):
        os.fsync(fd)
    else:
        os.close(os.dup(fd))  # a file server may say only now that its disk is full


def _umask() -> int:
    with _ASKING:  # it can only be set; two that do so at once could leave the wrong one
        mask = os.umask(0o077)
        os.umask(mask)
    return mask


_ASKING = allocate_lock()


class _Signals:
    """SIGINT, SIGTERM and SIGHUP end the block with an exception, so that no temporary file is
    left; while they are `held` they come after the block. Only in the main thread, and only
    those that nobody else handles or ignores."""

    def __init__(self) -> None:
        self.held = False
        self._late = 0
        self._taken: list[int] = []

    def __enter__(self) -> _Signals:
        import signal

        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) == self._usual(number):
                self._taken.append(number)
        try:
            for taken in self._taken:
                signal.signal(taken, self._arrived)
        except ValueError:  # not in the main thread
            self._taken.clear()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        import signal

        self.held = True
        for number in self._taken:
            signal.signal(number, self._usual(number))
        if self._late:
            signal.raise_signal(self._late)

    @staticmethod
    def _usual(number: int) -> Callable[[int, FrameType | None], object] | signal.Handlers:
        import signal

        return signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL

    def _arrived(self, number: int, _: object) -> None:
        import signal

        if self.held:
            self._late = number
            return
        self.held = True  # nothing disturbs the cleaning up
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)


@contextmanager
def _replacing_by_path(path: str, *, force: bool) -> Iterator[BinaryIO]:
    """`replacing` on Windows: it promises the same of what is in the file. Who may read it there is
    what its directory says."""
    from tempfile import mkstemp

    name = os.path.realpath(path)
    if os.path.isdir(name):
        raise InputError(f"{path}: Is a directory")
    if os.path.exists(name) and not os.path.isfile(name):  # NUL, a pipe
        with open(path, "wb") as stream:
            yield stream
        return
    if os.path.lexists(path) and not force:
        raise InputError(f"{path}: exists; --force replaces it")
    with _Signals() as signals:
        start, end = _TEMPORARY
        fd, temporary = mkstemp(end, start, os.path.dirname(name))
        try:
            with os.fdopen(fd, "w+b") as stream:
                yield stream
            signals.held = True
            (os.replace if force else os.rename)(temporary, name)  # there a rename replaces nothing
        finally:
            signals.held = True
            with suppress(FileNotFoundError):
                os.unlink(temporary)


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """An error of the system as an InputError that names the file."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
