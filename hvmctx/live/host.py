"""What this machine and its Xen offer, asked of the hypervisor: `facts`, which is what
`restore.host.Host.from_bytes` takes."""

from __future__ import annotations

from hvmctx.live.libraries import LIBRARY, XenError
from hvmctx.live.xen import POLICIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from hvmctx.live.xen import Xen

    class Facts(TypedDict):
        policies: dict[str, tuple[bytes, bytes]]
        xen: dict[str, str]
        hvm: bool
        hap: bool | None
        khz: int
        cpus: int


__all__ = ["facts"]

_EXTRA, _COMPILE, _CAPABILITIES, _CHANGESET, _COMMAND_LINE = 1, 2, 3, 4, 9
"""Numbers of xc_version."""
_COMPILE_PARTS = (
    ("compiler", 64), ("compile_by", 16), ("compile_domain", 32), ("compile_date", 32),
)  # fmt: skip
_HVM, _HAP = 1 << 0, 1 << 3
_CAPABILITIES_AT = 28
"""Of the word in xc_physinfo's structure, since 4.10; the bit for HAP is there since 4.13."""


def facts(xen: Xen) -> Facts:
    """Raises XenError. A policy that this release does not have is left out."""
    major, minor = xen.version
    texts = {
        "version": f"{major}.{minor}{xen.version_text(_EXTRA, 16)}",
        "capabilities": xen.version_text(_CAPABILITIES, 1024),
        "command_line": xen.version_text(_COMMAND_LINE, 1024),
        "changeset": xen.version_text(_CHANGESET, 64),
    }
    texts["build_id"] = xen.build_id()
    compiled, at = xen.version_bytes(_COMPILE, 144), 0
    for name, size in _COMPILE_PARTS:
        texts[name] = compiled[at : at + size].split(b"\0")[0].decode("utf-8", "replace")
        at += size
    policies = {}
    for number, name in enumerate(POLICIES):
        try:
            policies[name] = xen.system_policy(number)
        except XenError as error:
            if error.reason != LIBRARY and not policies:
                raise
    info = xen.physinfo()
    word = {at: int.from_bytes(info[at : at + 4], "little") for at in (8, 24, _CAPABILITIES_AT)}
    hap = bool(word[_CAPABILITIES_AT] & _HAP) if xen.version >= (4, 13) else None
    hvm = "hvm" in texts["capabilities"]
    return {
        "policies": policies, "xen": texts, "hvm": hvm, "hap": hap, "khz": word[24],
        "cpus": word[8],
    }  # fmt: skip
