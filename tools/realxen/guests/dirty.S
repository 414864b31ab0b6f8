/* A PVH guest that writes to 512 pages over and over, from 0x400000 on: a counter at the start of
 * each. Its second vcpu is started and sleeps. */
	.section .note.Xen,"a",@note
	.balign 4
	.long 4, 4, 18
	.asciz "Xen"
	.long _start
	.text
	.code32
	.globl _start
_start:
	cli
	cld
	mov $stack_top, %esp
	lgdt gdtr
	ljmp $8, $1f
1:	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $sleeper, %esi
	mov $0x8000, %edi
	mov $(sleeper_end - sleeper), %ecx
	rep movsb
	movl $0x1ff, 0xfee000f0
	movl $0x000c4500, 0xfee00300
	mov $0x100000, %ecx
2:	loop 2b
	movl $0x000c4608, 0xfee00300
	xor %ebx, %ebx
3:	inc %ebx
	mov $0x400000, %edi
4:	mov %ebx, (%edi)
	add $0x1000, %edi
	cmp $0x600000, %edi
	jb 4b
	jmp 3b
	.code16
sleeper:
	sti
5:	hlt
	jmp 5b
sleeper_end:
	.data
	.balign 8
gdt:	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:	.word 23
	.long gdt
	.bss
	.balign 16
	.skip 4096
stack_top:
