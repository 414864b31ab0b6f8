"""get as a user types it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.samples import EXAMPLE


def test_get(run: Callable[..., Any]) -> None:
    status, said = run("get", EXAMPLE, "CPU/0.rip", "HVM_PARAMS.17", "PCI_LINK.route")
    assert (status, said.out) == (0, "0xb7b9\n0xfefff\n050a0b05\n")
    status, said = run("get", EXAMPLE, "CPU.nope")
    assert status == 2 and said.err.count("\n") == 1


def test_a_key_of_any_bytes(run: Callable[..., Any], vmport: Path) -> None:
    status, said = run("get", vmport, "VMPORT.guestinfo[\udcff]", r"VMPORT.guestinfo[\xff]")
    assert (status, said.out) == (0, b"bytes".hex() + "\n" + b"bytes".hex() + "\n")
    status, said = run("get", vmport, "VMPORT.guestinfo[\ud800]")
    assert status == 2 and "not text" in said.err
