"""The header, compiled: every offset and size, and every bit, are those of the layouts."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from platform import machine

import pytest

from hvmctx.abi.fields import Field, Layout
from hvmctx.abi.releases import Release
from hvmctx.abi.vmport import QEMU_VMPORT_RPC, using
from hvmctx.context.hvm_context import HvmContext
from hvmctx.layouts import c_header
from hvmctx.layouts.declarations import MAGICS, Declarations, Shape, constants, identifier
from tests.builders.samples import ROOT, context_bytes

COMPILERS = [
    [program, *flags]
    for program, flags in (
        ("gcc", ["-std=c11"]), ("g++", ["-std=c++11", "-x", "c++"]), ("clang", ["-std=c11"]),
    )
]  # fmt: skip
THIRTY_TWO = ["gcc", "-std=c11", "-m32", "-ffreestanding"]
"""Bits: of x86, and without a C library, which may not be there in that width."""
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
NEEDS = pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler: apt install gcc")


def compiled(text: str, flags: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "tried.c").write_text(text)
    return subprocess.run(
        [*flags, *STRICT, "-I", folder, folder / "tried.c", "-o", folder / "tried"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def path_of(name: str) -> str:
    """Of a leaf, in C: a name without what another language could not say."""
    return ".".join(identifier(step.partition("[")[0]) + step[len(step.partition("[")[0]) :]
                    for step in name.split("."))  # fmt: skip


def leaves(shape: Shape, declared: Declarations) -> Iterator[tuple[str, Field]]:
    """Every number and array of numbers, with its path and offset: from the declarations that
    the code reads by, not from those shapes."""
    (ctype,) = [ctype for ctype, one in declared._of.items() if one is shape]
    for leaf in Layout.of(ctype).leaves():
        if leaf.offset < shape.size:
            yield path_of(leaf.name), leaf


def checks(declared: Declarations) -> Iterator[str]:
    for shape in declared.shapes:
        if not shape.size:
            continue
        kind = c_header._name(shape)
        yield f"T(sizeof({kind}) == {shape.size});"
        found = list(leaves(shape, declared))
        if shape.big_endian:
            found = [(identifier(field.name), field) for field in shape.fields]
        assert found or not shape.fields
        for path, leaf in found:
            if leaf.is_bits:
                continue
            yield f"T(offsetof({kind}, {path}) == {leaf.offset});"
            yield f"T(sizeof((({kind} *)0)->{path}) == {leaf.size});"


@NEEDS
@pytest.mark.parametrize("flags", [*COMPILERS, THIRTY_TWO], ids=" ".join)
def test_every_offset(flags: list[str], tmp_path: Path) -> None:
    if shutil.which(flags[0]) is None:
        pytest.skip(f"no {flags[0]}")
    if flags is THIRTY_TWO and machine() != "x86_64":
        pytest.skip("no x86")
    (tmp_path / "hvmctx.h").write_text(c_header.text())
    lines = list(checks(Declarations()))
    assert len(lines) > 1000
    text = '#include <stddef.h>\n#include "hvmctx.h"\n#include "hvmctx.h"\n'
    assertion = "static_assert" if "c++" in flags[1] else "_Static_assert"
    text += f"#define T(x) {assertion}(x, #x)\n" + "\n".join(lines) + "\n"
    done = compiled(text, [*flags, "-c"], tmp_path)
    assert done.returncode == 0, done.stderr[:2000]


@NEEDS
def test_a_wrong_offset_is_seen(tmp_path: Path) -> None:
    (tmp_path / "hvmctx.h").write_text(
        c_header.text().replace("uint32_t hvm", "").replace("    uint64_t rip;\n", "", 1)
    )
    done = compiled('#include "hvmctx.h"\n', ["gcc", "-std=c11", "-c"], tmp_path)
    assert done.returncode and "hvm_hw_cpu" in done.stderr


BITS = """
#include <stdio.h>
#include <string.h>
#include "hvmctx.h"
static void print(const void *at, size_t size) {
    const unsigned char *bytes = (const unsigned char *)at;
    while (size--) printf("%02x", *bytes++);
    printf("\\n");
}
int main(void) {
"""


@NEEDS
@pytest.mark.parametrize("flags", COMPILERS, ids=" ".join)
def test_every_bit_and_number(flags: list[str], tmp_path: Path) -> None:
    """Each field of bits, set to ones, is those bits of the bytes; each constant its number."""
    if shutil.which(flags[0]) is None:
        pytest.skip(f"no {flags[0]}")
    (tmp_path / "hvmctx.h").write_text(c_header.text())
    declared = Declarations()
    text, expected = BITS, []
    for shape in declared.shapes:
        for path, leaf in leaves(shape, declared) if not shape.big_endian else ():
            if not leaf.is_bits:
                continue
            mask = (1 << leaf.width) - 1
            text += f"{{ {c_header._name(shape)} s; memset(&s, 0, sizeof(s)); "
            text += f"s.{path} = {mask}u; print(&s, sizeof(s)); }}\n"
            expected.append(
                (mask << 8 * leaf.offset + leaf.shift).to_bytes(shape.size, "little").hex()
            )
    assert len(expected) > 20
    for name, numbers in constants().items():
        for number, named in numbers.items():
            text += f'printf("%u\\n", {c_header._capitals(name)}_{identifier(named).upper()});\n'
            expected.append(str(number))
    for layer, magic in MAGICS.items():
        name = f"{c_header._capitals(layer)}_MAGIC"
        text += f"print({name}, sizeof({name}) - 1);\n"
        expected.append(magic.hex())
    done = compiled(text + "return 0;\n}\n", flags, tmp_path)
    assert done.returncode == 0, done.stderr[:2000]
    said = subprocess.run([tmp_path / "tried"], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == expected


@NEEDS
@pytest.mark.parametrize("release", ["4.0", "4.1.0", "4.6", "4.18.4", "newest"])
def test_of_one_release(release: str, tmp_path: Path) -> None:
    """Its records, each as long as it is there, under any profile of VMPORT's."""
    with using(QEMU_VMPORT_RPC):
        text = c_header.text(Release(release))
    for name, size in Release(release).sizes().items():
        kind = {"CPU": "hvm_hw_cpu", "RTC": "hvm_hw_rtc", "LAPIC": "hvm_hw_lapic"}.get(name)
        if kind:
            assert f"HVMCTX_BYTES(struct hvmctx_{kind}, {size});" in text
    assert ("struct hvmctx_hvm_tsc_adjust" in text) == (release not in ("4.0", "4.1.0"))
    assert ("LENGTH_CPU_COMPAT" in text) == (release != "4.1.0")
    (tmp_path / "hvmctx.h").write_text(text)
    done = compiled('#include "hvmctx.h"\n', ["gcc", "-std=c11", "-c"], tmp_path)
    assert done.returncode == 0, done.stderr


@NEEDS
def test_the_program_on_the_page(tmp_path: Path) -> None:
    """It prints what get does."""
    page = (ROOT / "docs" / "layouts.md").read_text()
    (code,) = re.findall(r"^```c\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    code += """
int main(void)
{
    static unsigned char data[1 << 16];
    size_t size = fread(data, 1, sizeof(data), stdin);

    return print_rip(data, data + size) < 0;
}
"""
    (tmp_path / "hvmctx.h").write_text(c_header.text())
    done = compiled(code, ["gcc", "-std=c11", "-fsanitize=undefined"], tmp_path)
    assert done.returncode == 0, done.stderr
    context = HvmContext.from_bytes(context_bytes())
    context.vcpus[0].cpu.rip = 0x123456789
    program = tmp_path / "tried"
    said = subprocess.run([program], input=context.to_bytes(), capture_output=True, check=True)
    assert said.stdout == b"0x123456789\n"
    for cut in (b"", context.to_bytes()[:60]):
        assert subprocess.run([program], input=cut, check=False).returncode == 1


def test_what_follows_is_told() -> None:
    said = " ".join(c_header.text().split()).replace(" * ", " ")
    for words in (
        "Then struct hvmctx_hvm_one_msr msr[], as many as the length has room for. */",
        "Then struct hvmctx_hvm_param params[], as many as count says. */",
        "Then uint64_t words[], as many as count says, uint8_t pages[]. */",
    ):
        assert words in said, words


def test_lengths_by_release() -> None:
    text = c_header.text()
    assert "#define HVMCTX_LENGTH_LAPIC_4_0 16u\n#define HVMCTX_LENGTH_LAPIC_4_1 24u\n" in text
    assert "#define HVMCTX_LENGTH_CPU_COMPAT 1016u\n" in text


def test_a_comment_cannot_be_ended() -> None:
    assert "*/" not in c_header._comment("a */ b")[:-4]
    assert c_header._comment("") == ""
    assert c_header._escaped(b'"\\?\x001') == r"\042\134\077\0001"
