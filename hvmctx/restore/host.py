"""What a machine offers to the guests that it would restore: `Host`, its JSON, and the text of
`xen-cpuid -p` and `xl info` that it can be made of.
"""

from __future__ import annotations

import json
import re

from hvmctx.abi.cpuid import (
    EAX,
    EBX,
    ECX,
    EDX,
    LEAF_TEXT,
    MSR_TEXT,
    NO_SUBLEAF,
    PLATFORM_INFO,
)
from hvmctx.abi.releases import RELEASES, Release
from hvmctx.errors import FormatError
from hvmctx.messages import why_not_json
from hvmctx.restore.clamping import DomainPolicy, HostPolicies
from hvmctx.restore.machine import Machine
from hvmctx.restore.policy import MOST_ROWS, CpuPolicy
from hvmctx.restore.policy_forms import (
    LEAF_ROW,
    MSR_ROW,
    leaf_of,
    lines_of,
    msr_of,
    policies_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TypeAlias

    from hvmctx.image.image import Image
    from hvmctx.restore.policy import Leaf, Msr

    Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

__all__ = ["POLICIES", "VERSION", "XEN", "Host"]

VERSION = 1
"""Of the JSON document, its member `hvmctx_host`."""
POLICIES = ("raw", "host", "pv_max", "hvm_max", "pv_default", "hvm_default")
"""The policies that a Xen has, as it numbers them."""
XEN = (
    "version", "capabilities", "command_line", "changeset", "compiler", "compile_by",
    "compile_domain", "compile_date", "build_id",
)  # fmt: skip
"""What is said of the hypervisor, in words."""
_TITLES = {
    name.replace("_", " ").title().replace("Pv", "PV").replace("Hvm", "HVM"): name
    for name in POLICIES
}
_XL_NAMES = {
    "xen_version": "version", "xen_caps": "capabilities", "xen_commandline": "command_line",
    "xen_changeset": "changeset", "cc_compiler": "compiler", "cc_compile_by": "compile_by",
    "cc_compile_domain": "compile_domain", "cc_compile_date": "compile_date",
    "build_id": "build_id",
}  # fmt: skip
_MOST_TEXT = 4096
_MOST_NUMBER = (1 << 32) - 1
_COMPONENTS = range(2, 63)
_VERSION = re.compile(r"(\d{1,3}\.\d{1,3})(\.\d{1,3})?")
_MOST_LEAVES = {(0, NO_SUBLEAF): 0xD, (7, 0): 2, (0x80000000, NO_SUBLEAF): 0x80000021}
"""What a host that is not known may take, for which a guest of it stands in."""


class Host:
    """A machine with its Xen. `policies`: (leaves, MSRs) by the names of POLICIES, those that are
    known; `xen`: texts by the names of XEN; `hvm` and `hap`: whether it runs HVM guests, and walks
    their page tables in hardware, None where that is not known; `khz` and `cpus` are 0 then.

    >>> host = Host(policies={"host": ([(0, 0xFFFFFFFF, 1, 0x756E6547, 0x6C65746E, 0x49656E69)], [])})
    >>> host.vendor, host.machine()
    ('intel', <machine, intel, no XSAVE>)
    """

    __slots__ = ("cpus", "hap", "hvm", "khz", "policies", "xen")

    def __init__(
        self,
        *,
        policies: Mapping[str, tuple[Iterable[Leaf], Iterable[Msr]]],
        xen: Mapping[str, str] | None = None,
        hvm: bool | None = None,
        hap: bool | None = None,
        khz: int = 0,
        cpus: int = 0,
    ) -> None:
        self.policies = {
            name: (list(policies[name][0]), list(policies[name][1]))
            for name in POLICIES
            if name in policies
        }
        said = xen or {}
        self.xen: dict[str, str] = {name: said.get(name, "") for name in XEN}
        self.hvm = hvm
        self.hap = hap
        self.khz = khz
        self.cpus = cpus

    @property
    def release(self) -> Release | None:
        """The Xen that runs there; None if it is not known, or is no release of the table."""
        match = _VERSION.match(self.xen["version"])
        if match is None or match[1] not in RELEASES:
            return None
        # a snapshot before a point release, such as 4.20.5-pre, is the branch's tip
        exact = match.end() == len(self.xen["version"])
        return Release(match[0] if exact else match[1])

    def for_guests(self) -> HostPolicies:
        """What decides on the policies of its HVM guests. Raises FormatError where the most that
        they may have is not known."""
        most = self.policy("hvm_max")
        if most is None or not most.leaves:
            raise _error("no policy of the most that HVM guests may have", "none", "hvm_max")
        return HostPolicies(most, self.policy("host"), self.policy("raw"))

    def new_domain(
        self, release: Release, *, nested: bool = False, hap: bool = True
    ) -> DomainPolicy:
        """The policy of an HVM guest that has just been made. Raises FormatError as
        `for_guests`."""
        policies = self.for_guests()
        rows = self.policies.get("hvm_default") or self.policies["hvm_max"]
        policy = DomainPolicy.of(release, *rows)
        policy.clamp(policies, nested=nested, hap=hap)
        return policy

    def policy(self, name: str) -> CpuPolicy | None:
        """One of POLICIES; None if it is not known."""
        rows = self.policies.get(name)
        return None if rows is None else CpuPolicy(*rows)

    @property
    def vendor(self) -> str | None:
        """amd or intel."""
        policy = self._own or self.policy("hvm_max")
        return policy.vendor if policy else None

    @property
    def _own(self) -> CpuPolicy | None:
        """The host's policy, or what its CPU says."""
        return self.policy("host") or self.policy("raw")

    @property
    def nested(self) -> bool | None:
        """Whether a guest may be offered to run guests of its own."""
        most = self.policy("hvm_max")
        if most is None or not most.leaves:
            return None
        return self.hap is not False and (most.has("SVM") or most.has("VMX"))

    @property
    def scaling(self) -> bool | None:
        """Whether a guest's TSC may run at another frequency; None where CPUID does not say. Only
        the CPU's own words count: the other policies have what Xen emulates for nested guests."""
        raw = self.policy("raw")
        if self.vendor != "amd" or raw is None:
            return None
        return bool(raw.register(0x8000000A, None, EDX) >> 4 & 1)

    def machine(self) -> Machine:
        """The machine that a restore is judged on."""
        own = self._own
        leaves, msrs = self.policies.get("host") or self.policies.get("raw") or ([], [])
        return Machine(
            vendor=self.vendor, leaves=leaves, msrs=msrs, xsave=own is None or own.has("XSAVE")
        )

    def as_dict(self) -> dict[str, Json]:
        """For JSON. All but `xen`, `hvm` and `policies` is worked out of the policies."""
        own = self._own or CpuPolicy()
        known = bool(own.leaves)
        cpu: dict[str, Json] = {
            "vendor": self.vendor, "model": _model(own), "cpus": self.cpus,
            "physical_address_bits": own.maxphysaddr if known else None,
        }  # fmt: skip
        tsc: dict[str, Json] = {
            "khz": self.khz,
            "invariant": bool(own.register(0x80000007, None, EDX) >> 8 & 1),
            "rdtscp": bool(own.register(0x80000001, None, EDX) >> 27 & 1),
            "scaling": self.scaling,
        }
        return {
            "hvmctx_host": VERSION,
            "xen": {**self.xen},
            "cpu": cpu,
            "hvm": {"hvm": self.hvm, "hap": self.hap, "nested": self.nested},
            "tsc": tsc,
            "xstate": _xstate(self.policy("hvm_max") or own),
            "policies": {
                name: {
                    "cpuid": [LEAF_TEXT.format(*row) for row in leaves],
                    "msr": [MSR_TEXT.format(index, value) for index, _, value in msrs],
                }
                for name, (leaves, msrs) in self.policies.items()
            },
        }  # fmt: skip

    @classmethod
    def of_image(cls, image: Image) -> Host:
        """A host of which only the policy of a guest that was saved there is known. That guest
        may have been given less than the host offers; what the numbers of leaves may be is not
        judged. Raises FormatError for an image without a CPU policy."""
        policy, tsc = image.policy, image.tsc_info
        leaves, msrs = (
            {row[:2]: list(row) for row in policy.leaves},
            {row[0]: row for row in policy.msrs},
        )
        if not leaves:
            raise FormatError(
                "no CPU policy: it cannot stand in for its host", layer=image.format, offset=0
            )
        for place, most in _MOST_LEAVES.items():
            leaves.setdefault(place, [*place, 0, 0, 0, 0])[EAX] = most
        msrs[PLATFORM_INFO] = (PLATFORM_INFO, 0, 1 << 31)
        rows: tuple[list[Leaf], list[Msr]] = (
            [tuple(row) for row in leaves.values()],  # type: ignore[misc]  # of six
            list(msrs.values()),
        )
        return cls(
            policies={"hvm_max": rows, "hvm_default": (policy.leaves, policy.msrs)},
            xen={"version": str(image.release)}, hvm=True, khz=tsc.khz if tsc else 0,
        )  # fmt: skip

    @classmethod
    def read(cls, data: bytes) -> Host:
        """The host of a document, or of the text of `xen-cpuid -p`. Raises FormatError."""
        if not data[:64].lstrip().startswith(b"{"):
            return cls.from_text(data)
        try:
            plain = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise _error(
                f"not JSON: {why_not_json(error)}", "", "the output of hvmctx host"
            ) from None
        return cls.from_dict(plain)

    @classmethod
    def from_dict(cls, plain: object) -> Host:
        """The host of such a document. Members that are not known are passed over, as are those
        that are worked out. Raises FormatError."""
        if not isinstance(plain, dict) or plain.get("hvmctx_host") != VERSION:
            found = plain.get("hvmctx_host") if isinstance(plain, dict) else None
            raise _error("not a host of a version that is known", repr(found)[:40], str(VERSION))
        xen, hvm, cpu, tsc = (_object(plain, name) for name in ("xen", "hvm", "cpu", "tsc"))
        policies = {}
        for name, rows in _object(plain, "policies").items():
            if name in POLICIES and isinstance(rows, dict):
                policies[name] = (
                    [leaf_of(text) for text in _rows(rows, "cpuid")],
                    [msr_of(text) for text in _rows(rows, "msr")],
                )
        return cls(
            policies=policies,
            xen={name: text[:_MOST_TEXT] for name, text in xen.items() if isinstance(text, str)},
            hvm=_boolean(hvm.get("hvm")), hap=_boolean(hvm.get("hap")),
            khz=_count(tsc.get("khz")), cpus=_count(cpu.get("cpus")),
        )  # fmt: skip

    @classmethod
    def from_bytes(
        cls,
        policies: Mapping[str, tuple[bytes, bytes]],
        *,
        xen: Mapping[str, str],
        hvm: bool | None,
        hap: bool | None,
        khz: int,
        cpus: int,
    ) -> Host:
        """The host of policies as a hypervisor gives them: rows of 24 and of 16 bytes."""
        return cls(
            policies={
                name: (list(LEAF_ROW.iter_unpack(leaves)), list(MSR_ROW.iter_unpack(msrs)))
                for name, (leaves, msrs) in policies.items()
            },
            xen=xen, hvm=hvm, hap=hap, khz=khz, cpus=cpus,
        )  # fmt: skip

    @classmethod
    def from_text(cls, cpuid: bytes, info: bytes = b"") -> Host:
        """The host of what `xen-cpuid -p` and `xl info` print. Lines that mean nothing here are
        passed over. Raises FormatError for a text without a policy, or one that is too long."""
        policies = {
            _TITLES[title]: rows
            for title, rows in policies_of(cpuid, "xen-cpuid -p").items()
            if title in _TITLES
        }
        if not policies:
            raise _error("no CPU policy", "none", "the output of xen-cpuid -p")
        said: dict[str, str] = {}
        for line in lines_of(info, "xl info"):
            name, colon, text = line.partition(":")
            if colon:
                said.setdefault(name.strip(), text.strip()[:_MOST_TEXT])
        caps = said["virt_caps"].split() if "virt_caps" in said else None
        return cls(
            policies=policies,
            xen={ours: said.get(name, "") for name, ours in _XL_NAMES.items()},
            hvm=None if caps is None else "hvm" in caps,
            # before 4.13 the list does not have it
            hap=None if caps is None or not said.get("virt_caps") else "hap" in caps or None,
            khz=_khz(said.get("cpu_mhz", "")),
            cpus=_count(_number(said.get("nr_cpus", ""))),
        )  # fmt: skip


def _model(policy: CpuPolicy) -> str:
    """The name that the CPU gives itself."""
    registers = (
        policy.register(leaf, None, at).to_bytes(4, "little")
        for leaf in (0x80000002, 0x80000003, 0x80000004)
        for at in (EAX, EBX, ECX, EDX)
    )
    return b"".join(registers).split(b"\0")[0].decode("ascii", "replace").strip()


def _xstate(policy: CpuPolicy) -> dict[str, Json]:
    """What XSAVE may save of a guest."""
    if not policy.leaves:
        return {}
    states = policy.xcr0_max
    supervisor = policy.register(0xD, 1, ECX) | policy.register(0xD, 1, EDX) << 32
    return {
        "xcr0": f"{states:#x}",
        "xss": f"{supervisor:#x}",
        "bytes": policy.xsave_size(states),
        "xsaves": policy.has("XSAVES"),
        "components": [
            {"bit": bit, "offset": policy.register(0xD, bit, EBX),
             "bytes": policy.register(0xD, bit, EAX)}
            for bit in _COMPONENTS if (states | supervisor) >> bit & 1
        ],
    }  # fmt: skip


def _object(plain: dict[str, Json], name: str) -> dict[str, Json]:
    found = plain.get(name, {})
    if not isinstance(found, dict):
        raise _error(f"{name} is not an object", type(found).__name__, "an object")
    return found


def _rows(plain: dict[str, Json], name: str) -> list[str]:
    found = plain.get(name, [])
    if not isinstance(found, list) or len(found) > MOST_ROWS:
        raise _error(f"{name} is not a list of rows", type(found).__name__, "a list")
    return [text if isinstance(text, str) else "" for text in found]


def _boolean(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value <= _MOST_NUMBER else 0


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _khz(megahertz: str) -> int:
    whole, _, part = megahertz.partition(".")
    return _number(whole) * 1000 + _number((part + "000")[:3])


def _error(problem: str, found: str, expected: str) -> FormatError:
    return FormatError(problem, layer="host", offset=0, found=found, expected=expected)
