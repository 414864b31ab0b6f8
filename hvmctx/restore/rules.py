"""What a rule of a load is, and a record as such a rule sees it."""

from __future__ import annotations

from hvmctx.abi.releases import Window

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from hvmctx.restore.host import Host


class LoadedRecord:
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
        fields_of: Callable[[LoadedRecord], dict[str, Any]],
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
    """One check of one record's loader. `fires` says of a record that it is refused, with
    `errno` (Linux's name; ENOTSUP is what Xen's source calls EOPNOTSUPP). `releases` are
    those that make the check."""

    __slots__ = ("errno", "fires", "id", "record", "releases", "text")

    def __init__(
        self,
        record: str,
        identifier: str,
        errno: str,
        fires: Callable[[LoadedRecord], bool],
        text: str,
        releases: Window,
    ) -> None:
        self.record = record
        self.id = identifier
        self.errno = errno
        self.fires = fires
        self.text = text
        self.releases = releases

    def __repr__(self) -> str:
        return f"<rule {self.id}, {self.releases}>"
