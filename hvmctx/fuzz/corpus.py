"""A directory of inputs that each reached something new, and of findings. Its files are whole
or not there and named by their contents, so that an interrupted campaign can go on."""

from __future__ import annotations

import hashlib
import os

from hvmctx.errors import InputError
from hvmctx.files.output import replacing, sweep
from hvmctx.messages import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FINDINGS", "Corpus"]

FINDINGS = "findings"


class Corpus:
    """`add` keeps an input, `load` returns all of them."""

    def __init__(self, directory: str) -> None:
        """The directory is made if it is missing. Raises InputError."""
        self.directory = directory
        try:
            os.makedirs(os.path.join(directory, FINDINGS), exist_ok=True)
        except OSError as error:
            raise InputError(f"{directory}: {error.strerror}") from error
        for place in (directory, os.path.join(directory, FINDINGS)):
            sweep(place)

    def add(self, data: bytes) -> str:
        """Keep an input. Returns its path."""
        return self._write(self.directory, data)

    def add_finding(self, data: bytes, report: str) -> str:
        """Keep an input that broke something, and a report of how. Returns its path."""
        path = self._write(os.path.join(self.directory, FINDINGS), data)
        with replacing(f"{path}.txt", force=True, tidy=False) as out:
            out.write("\n".join(map(printable, report.split("\n"))).encode())
        return path

    @staticmethod
    def _write(directory: str, data: bytes) -> str:
        path = os.path.join(directory, hashlib.sha256(data).hexdigest()[:24])
        if not os.path.exists(path):
            with replacing(path, force=True, tidy=False) as out:
                out.write(data)
        return path

    def names(self) -> set[str]:
        """The names of all inputs; findings are not among them."""
        return {
            name for name in os.listdir(self.directory)
            if name != FINDINGS and "." not in name
        }  # fmt: skip

    def load(self, known: set[str] | None = None) -> Iterator[tuple[str, bytes]]:
        """(name, contents) of every input whose name is not `known`, sorted by name."""
        for name in sorted(self.names() - (known or set())):
            try:
                with open(os.path.join(self.directory, name), "rb") as file:
                    yield name, file.read()
            except OSError:  # gone, or not one of ours
                continue
