"""The guest that a restore makes, as its image or its creator describes it: `Guest`."""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.errors import HvmctxError
from hvmctx.restore.policy import CpuPolicy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hvmctx.image.image import Image
    from hvmctx.restore.policy import Leaf, Msr

MOST_VCPUS = 128
"""Xen's limit for an HVM guest, taken if its configuration does not give a number."""
DEVICES = frozenset(("vpic", "vioapic", "vlapic", "vpit", "vrtc", "vhpet", "vpm"))
"""The emulated devices that a domain may be created with; an HVM guest has all."""
PVH_DEVICES = frozenset(("vlapic",))


class Guest(CpuPolicy):
    """A guest that a context is loaded into, and the policy of its CPU.

    `vcpus` is how many it has, `devices` the emulated ones, `nested` whether it may run
    guests of its own, `hap` whether the hardware walks its page tables (else they are
    shadowed), `viridian` whether it sees Hyper-V's interface. `has_page` says of a pfn
    whether the guest has memory there; None where that is not known, and then nothing is
    refused for a missing page.

    >>> from hvmctx import open_image
    >>> with open_image("examples/hvm1.save") as image:
    ...     Guest.of_image(image)
    <guest, 1 vcpus, 7 devices, 59 CPUID leaves>
    """

    __slots__ = ("devices", "hap", "has_page", "nested", "vcpus", "viridian")

    def __init__(
        self,
        *,
        vcpus: int = MOST_VCPUS,
        devices: Iterable[str] = DEVICES,
        leaves: Iterable[Leaf] = (),
        msrs: Iterable[Msr] = (),
        nested: bool = False,
        hap: bool = True,
        viridian: bool = True,
        has_page: Callable[[int], bool] | None = None,
    ) -> None:
        super().__init__(leaves, msrs)
        self.vcpus = vcpus
        self.devices = frozenset(devices)
        self.nested = nested
        self.hap = hap
        self.viridian = viridian
        self.has_page = has_page

    def __repr__(self) -> str:
        policy = f"{len(self.leaves)} CPUID leaves" if self.leaves else "no CPUID policy"
        return f"<guest, {self.vcpus} vcpus, {len(self.devices)} devices, {policy}>"

    def with_policy(self, leaves: Iterable[Leaf], msrs: Iterable[Msr]) -> Guest:
        """The same guest with another policy."""
        return Guest(
            vcpus=self.vcpus, devices=self.devices, leaves=leaves, msrs=msrs, nested=self.nested,
            hap=self.hap, viridian=self.viridian, has_page=self.has_page,
        )  # fmt: skip

    @classmethod
    def of_image(cls, image: Image, vcpus: int | None = None) -> Guest:
        """The guest of an image, with its policy, its parameters, and as many vcpus as its
        configuration says, or `vcpus`. If the configuration says that it is pvh, its only
        emulated devices are its LAPICs. Nested virtualisation is a parameter up to 4.14, and
        in the configuration since. All this is read once, here; `has_page` asks the image,
        and takes every page for there once the image is closed.

        Raises FormatError for a policy, parameters or a configuration that are damaged."""
        policy, params = image.policy, image.params
        config = image.config
        built = config.get("b_info", {}) if isinstance(config, dict) else {}
        created = config.get("c_info", {}) if isinstance(config, dict) else {}
        configured = built.get("max_vcpus") if isinstance(built, dict) else None
        pvh = isinstance(created, dict) and created.get("type") == "pvh"
        return cls(
            vcpus=vcpus or (configured if isinstance(configured, int) else None) or MOST_VCPUS,
            devices=PVH_DEVICES if pvh else DEVICES,
            leaves=policy.leaves,
            msrs=policy.msrs,
            nested=_is_true(built, "nested_hvm") or bool(params.get(streams.HVM_PARAM_NESTEDHVM)),
            hap=not (isinstance(created, dict) and created.get("hap") in (False, "False")),
            viridian=bool(params.get(streams.HVM_PARAM_VIRIDIAN, 0) & _VIRIDIAN_BASE),
            has_page=_pages_of(image),
        )


_VIRIDIAN_BASE = 1
"""In the parameter: the guest sees Hyper-V's interface at all."""


def _pages_of(image: Image) -> Callable[[int], bool] | None:
    """Whether the image has a page for a pfn; None of an image without any memory."""
    if not any(image.batches):
        return None

    def has_page(pfn: int) -> bool:
        try:
            found = image.memory.lookup(pfn)
        except HvmctxError:  # closed, or a pipe whose page words were not kept
            return True
        return found is not None and found[0] in streams.PAGE_TYPES_WITH_MEMORY

    return has_page


def _is_true(values: object, name: str) -> bool:
    """Of a default-bool in xl's JSON."""
    return isinstance(values, dict) and values.get(name) in (True, "True")


__all__ = ["DEVICES", "MOST_VCPUS", "PVH_DEVICES", "Guest"]
