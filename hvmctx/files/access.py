"""Who may read a file, so that what is made of its bytes is not more readable."""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["ACL", "Access"]

ACL = "system.posix_acl_access"
"""The attribute that Linux keeps a file's access control list in."""


class Access:
    """Owner, group and permission bits (no setuid, setgid or sticky) of an open file. `file` is
    which one it is: device and inode."""

    __slots__ = ("file", "gid", "mode", "uid")

    def __init__(self, uid: int, gid: int, mode: int, file: tuple[int, int] | None = None) -> None:
        self.file = file
        self.uid = uid
        self.gid = gid
        self.mode = mode & 0o777

    def __repr__(self) -> str:
        return f"<Access {self.mode:04o} of {self.uid}:{self.gid}>"

    @classmethod
    def of(cls, file: int | BinaryIO) -> Access | None:
        """Of a descriptor or a file object; None for one that is not open on a regular file
        or a block device: who might read what comes out of a pipe?"""
        try:
            fd = file if isinstance(file, int) else file.fileno()
            status = os.fstat(fd)
        except (OSError, ValueError, AttributeError):
            return None
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISBLK(status.st_mode):
            return None
        mode = stat.S_IMODE(status.st_mode)
        if _has_acl(fd):
            mode &= ~stat.S_IRWXG  # they are the most that the ACL gives to anybody it names
        return cls(status.st_uid, status.st_gid, mode, (status.st_dev, status.st_ino))

    def bits(self, gid: int) -> int:
        """The permission bits that a file of that group may have."""
        if gid == self.gid:
            return self.mode
        both = self.mode >> 3 & self.mode & 0o7  # nobody knows who is in which group
        return self.mode & 0o700 | both << 3 | both

    def readable_by(self, uid: int) -> bool:
        """Whether that user could read the file, whatever groups the user is in."""
        return uid == self.uid or self.mode & 0o044 == 0o044


def _has_acl(fd: int) -> bool:
    try:
        os.getxattr(fd, ACL)
    except (OSError, AttributeError):  # there is none, or no such thing on this system
        return False
    return True
