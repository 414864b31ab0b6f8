"""A directory of inputs that each reached something new, and of findings. Files are whole or
not there, named by their contents, so that a campaign that was cut off goes on."""

from __future__ import annotations

import hashlib
import json
import os

from hvmctx.errors import InputError
from hvmctx.files.output import replacing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

FINDINGS = "findings"


class Corpus:
    """`add` an input, `load` all of them."""

    def __init__(self, directory: str) -> None:
        """Made where it is missing. Raises InputError."""
        self.directory = directory
        try:
            os.makedirs(os.path.join(directory, FINDINGS), exist_ok=True)
        except OSError as error:
            raise InputError(f"{directory}: {error.strerror}") from error

    def add(self, data: bytes) -> str:
        """Keep an input. Its path."""
        return self._write(self.directory, data)

    def add_finding(self, data: bytes, report: str) -> str:
        """Keep an input that broke something, and how."""
        path = self._write(os.path.join(self.directory, FINDINGS), data)
        with replacing(f"{path}.txt", force=True) as out:
            out.write(report.encode("utf-8", "backslashreplace"))
        return path

    @staticmethod
    def _write(directory: str, data: bytes) -> str:
        path = os.path.join(directory, hashlib.sha256(data).hexdigest()[:24])
        if not os.path.exists(path):
            with replacing(path, force=True) as out:
                out.write(data)
        return path

    def tell(self, job: int, status: dict[str, Any]) -> None:
        """How far a job is."""
        with replacing(self._status(job), force=True) as out:
            out.write(json.dumps(status).encode())

    def told(self, jobs: int) -> Iterator[dict[str, Any]]:
        """What each job has told last, if it has told anything."""
        for job in range(jobs):
            try:
                with open(self._status(job), encoding="ascii") as file:
                    yield json.load(file)
            except (OSError, ValueError):
                continue

    def _status(self, job: int) -> str:
        return os.path.join(self.directory, f"job-{job}.json")

    def names(self) -> set[str]:
        """Of all inputs, no findings."""
        return {
            name for name in os.listdir(self.directory)
            if name != FINDINGS and "." not in name
        }  # fmt: skip

    def load(self, known: set[str] | None = None) -> Iterator[tuple[str, bytes]]:
        """(name, contents) of every input that is not known, in the order of their names."""
        for name in sorted(self.names() - (known or set())):
            try:
                with open(os.path.join(self.directory, name), "rb") as file:
                    yield name, file.read()
            except OSError:  # gone, or not ours
                continue
