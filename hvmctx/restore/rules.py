"""What a rule of a load is, and the errnos that it may end in."""

from __future__ import annotations

from hvmctx.abi.releases import RELEASES, Release

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from hvmctx.restore.host import Host

ERRNOS = {
    "EPERM": 1, "ENOENT": 2, "ENXIO": 6, "ENODEV": 19, "EINVAL": 22, "EDOM": 33, "EIO": 5,
    "ENODATA": 61, "ENOTSUP": 95,
}  # fmt: skip
"""By Linux's names; ENOTSUP is what Xen's source calls EOPNOTSUPP."""


class Entry:
    """One record as its loader sees it: descriptor, the bytes from its body on to the end
    of the context (`space` of them), and its fields, extended as the release does."""

    __slots__ = ("_fields", "body", "fields_of", "host", "instance", "length", "name", "space")

    def __init__(
        self,
        name: str,
        instance: int,
        length: int,
        body: memoryview,
        host: Host,
        fields_of: Callable[[Entry], dict[str, Any]],
    ) -> None:
        self.name = name
        self.instance = instance
        self.length = length
        self.body = body
        self.space = len(body)
        self.host = host
        self.fields_of = fields_of
        self._fields: dict[str, Any] | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """Of use only to rules behind the one on the length."""
        if self._fields is None:
            self._fields = self.fields_of(self)
        return self._fields


class Rule:
    """One check of one record's loader. `fires` says of an entry that it is refused, with
    `errno`. It stands in the releases from `since` on, up to and including `until`."""

    __slots__ = ("errno", "fires", "id", "record", "since", "text", "until")

    def __init__(
        self,
        record: str,
        identifier: str,
        errno: str,
        fires: Callable[[Entry], bool],
        text: str,
        *,
        since: str = "4.0",
        until: str | None = None,
    ) -> None:
        self.record = record
        self.id = identifier
        self.errno = errno
        self.fires = fires
        self.text = text
        self.since = since
        self.until = until

    def __repr__(self) -> str:
        return f"<rule {self.id}, {self.releases}>"

    def stands_in(self, release: Release) -> bool:
        """Whether this release makes the check."""
        return release.since(self.since) and (
            self.until is None or not release.since(_after(self.until))
        )

    @property
    def releases(self) -> str:
        """The releases in words."""
        if self.until is None:
            return "every release" if self.since == "4.0" else f"{self.since} and later"
        return f"up to {self.until}" if self.since == "4.0" else f"{self.since} to {self.until}"


def _after(branch: str) -> str:
    """The branch behind a branch."""
    names = list(RELEASES)
    return names[names.index(branch) + 1]
