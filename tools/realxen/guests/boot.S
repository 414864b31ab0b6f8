/* A boot sector that writes to 128 pages over and over, from 0x10000 on: a counter at the start
 * of each. */
	.code16
	.globl _start
_start:
	cli
	xor %ebx, %ebx
1:	inc %ebx
	mov $0x1000, %ax
2:	mov %ax, %ds
	mov %ebx, 0
	add $0x100, %ax
	cmp $0x9000, %ax
	jb 2b
	jmp 1b
	.org 510
	.word 0xaa55
