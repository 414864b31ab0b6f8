#!/bin/sh
# make.sh DIR: assembles the guests into DIR, as dirty.elf and boot.img. Needs gcc and ld for x86.
set -eu
here=$(dirname "$(readlink -f "$0")")
mkdir -p "$1"
gcc -m32 -c -o "$1/dirty.o" "$here/dirty.S"
ld -m elf_i386 -T "$here/dirty.lds" -o "$1/dirty.elf" "$1/dirty.o"
gcc -m32 -c -o "$1/boot.o" "$here/boot.S"
ld -m elf_i386 --oformat binary -Ttext 0x7c00 -o "$1/boot.img" "$1/boot.o"
truncate -s 1M "$1/boot.img"
rm -f "$1/dirty.o" "$1/boot.o"
