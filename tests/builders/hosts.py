"""What `xen-cpuid -p` and `xl info` print, shortened."""

from __future__ import annotations

CPUID = b"""Xen reports there are maximum 120 leaves and 2 MSRs
Raw policy: 3 leaves, 1 MSRs
 CPUID:
  leaf     subleaf  -> eax      ebx      ecx      edx
  00000000:ffffffff -> 0000000d:68747541:444d4163:69746e65
  80000008:ffffffff -> 00003028:00000000:00001001:00000000
 MSRs:
  index    -> value
  000000ce -> 0000000080000000
Host policy: 3 leaves, 0 MSRs
 CPUID:
  00000000:ffffffff -> 0000000d:68747541:444d4163:69746e65
  00000001:ffffffff -> 00060fb1:00020800:f6d8320b:1fcbf3fd
  0000000d:00000000 -> 00000007:00000000:00000340:00000000
  0000000d:00000002 -> 00000100:00000240:00000000:00000000
  80000002:ffffffff -> 554d4551:47435420:55504320:72657620
  80000008:ffffffff -> 00003028:00000000:00001001:00000000
HVM Max policy: 2 leaves, 0 MSRs
  00000000:ffffffff -> 0000000d:68747541:444d4163:69746e65
  80000001:ffffffff -> 00000000:00000000:00000004:00000000
Domain 5 policy: 1 leaves, 0 MSRs
  00000000:ffffffff -> 00000001:68747541:444d4163:69746e65
HVM Default policy not supported by Xen
"""
INFO = b"""host                   : dom0
nr_cpus                : 2
cpu_mhz                : 2596.128
virt_caps              : pv hvm hap gnttab-v1
xen_version            : 4.20.5-pre
xen_caps               : xen-3.0-x86_64 hvm-3.0-x86_64
xen_commandline        : console=com1 a:b
xen_changeset          :
build_id               : 576c
"""
