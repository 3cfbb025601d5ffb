/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A firmware image that times an accelerator: it enters protected mode, counts
 * down PROBE_LOOPS, and ends QEMU through isa-debug-exit. Where KVM works this
 * takes milliseconds; where KVM falls back to emulating each instruction it
 * takes minutes, and so would a kernel.
 */
	.code16
	.globl _start
_start:
	cli
	lgdtl %cs:(gdt_pointer - _start)
	movl %cr0, %eax
	orl $1, %eax
	movl %eax, %cr0
	ljmpl $8, $0xffff0000 + (protected - _start)

	.code32
protected:
	movl $PROBE_LOOPS, %ecx
1:	decl %ecx
	jnz 1b
	movb $0x10, %al
	outb %al, $0xf4
2:	hlt
	jmp 2b

	.balign 8
gdt:
	.quad 0
	.quad 0x00cf9b000000ffff	/* flat code */
	.quad 0x00cf93000000ffff	/* flat data */
gdt_pointer:
	.word 23
	.long 0xffff0000 + (gdt - _start)

	.org 0xfff0
	.code16
	jmp _start
	.org 0xffff
	.byte 0
