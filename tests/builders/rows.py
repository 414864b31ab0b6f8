"""Rows of a scan."""

from __future__ import annotations

from typing import Any

from hvmctx.scan.row import VERDICT, empty_row


def verdict(release: str, said: str = "accept", rule: str | None = None, host: str | None = None,
            **more: Any) -> dict[str, Any]:  # fmt: skip
    whole = dict.fromkeys(VERDICT) | {"release": release, "host": host, "verdict": said}
    return whole | {"rule": rule, **more}


def row(name: str, *verdicts: dict[str, Any], **members: Any) -> dict[str, Any]:
    return empty_row(name) | {"layers": ["xl"], "verdicts": list(verdicts), **members}


ROWS = (
    row("b.save", verdict("4.20"), verdict("4.6", "refuse", "libxc-version", text="too old"),
        guest_name="web", xen="4.17", guest_type="hvm", policy_digest="p"),
    row("a.save", verdict("4.20"), verdict("4.6", "refuse", "libxc-version", text="too old"),
        verdict("4.17", "violation", "vmport", host="blue", text="beyond"), xen="4.9"),
    row("good", verdict("4.20"), xen="4.17", guest_type="pvh", policy_digest="p"),
    row("cut", verdict("4.20", "refuse", "stream-damaged", text="ends"), error="ends"),
    row("limits", verdict("4.20", "unreadable", None, text="too many"), error="too many"),
    empty_row("none", "not found"),
)  # fmt: skip
