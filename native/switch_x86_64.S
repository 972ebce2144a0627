/* switch_x86_64.S: the only assembly. Moving between the host's stack and a guest's, and the stubs through which guest code
 * calls the runtime: they run the C functions of builtins.c on the host's stack, so that guest stacks may be small and a C
 * function can never overflow one. */

#define ACTIVATION(name, offset) .set A_##name, offset;
#define ROWS(name, offset) .set ROWS_##name, offset;
#include "context.def"
#undef ACTIVATION
#undef ROWS

#define VMCTX(name, offset) .set VMCTX_##name, offset;
#include "instance.def"
#undef VMCTX

#define SWITCH_RETURNED 0
#define SWITCH_SUSPENDED 1
#define SWITCH_TERMINATED 2
#define SWITCH_OUT_OF_FUEL 4
#define SWITCH_THREW 5
#define SWITCH_PREEMPTED 6

    .text

    .macro PUSH register
    pushq %\register
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %\register, 0
    .endm

/* Callee-saved registers on a suspended stack, in this order; 8 bytes keep the stack aligned. */
    .macro SAVE
    .irp register, rbp, rbx, r12, r13, r14, r15
    PUSH \register
    .endr
    subq $8, %rsp
    .cfi_adjust_cfa_offset 8
    .endm

    .macro RESTORE_AND_RETURN
    addq $8, %rsp
    .cfi_adjust_cfa_offset -8
    .irp register, r15, r14, r13, r12, rbx, rbp
    popq %\register
    .cfi_adjust_cfa_offset -8
    .endr
    ret
    .endm

/* A place that other files know. */
    .macro LABEL name
    .globl \name
    .hidden \name
\name:
    .endm

    .macro FUNCTION name
    .type \name, @function
    .p2align 4
    LABEL \name
    .endm

/* The activation that runs on this thread, looked up anew wherever the guest may have gone on in another thread. */
    .macro LOAD_ACTIVATION register, through
    movq lucet_current@gottpoff(%rip), %\through
    movq %fs:(%\through), %\register
    .endm

/* int lucet_switch_enter(activation, stack_top, entry, vmctx, code, slots): entry(vmctx, code, slots) on the guest's stack. */
FUNCTION lucet_switch_enter
    .cfi_startproc
    SAVE
    movq %rsp, A_host_sp(%rdi)
    movq %rsi, %rsp
    movq %rdi, %rbx
    /* From here a debugger finds the host's frame through the activation in rbx: CFA = *(rbx + A_host_sp) + 64. */
    .cfi_remember_state
    .cfi_escape 0x0f, 5, 0x73, A_host_sp, 0x06, 0x23, 64
    movq %rdx, %rax
    movq %rcx, %rdi
    movq %r8, %rsi
    movq %r9, %rdx
    LABEL lucet_entering_begin
    cmpq $0, A_interrupt(%rbx)
    jne 1f
    call *%rax
    LABEL lucet_entering_end
    movq A_host_sp(%rbx), %rsp
    .cfi_restore_state
    .cfi_remember_state
    xorl %eax, %eax
    RESTORE_AND_RETURN
1:  movq A_host_sp(%rbx), %rsp
    .cfi_restore_state
    call activation_interrupted_early
    .cfi_endproc
    .size lucet_switch_enter, . - lucet_switch_enter

/* int lucet_switch_enter_many(activation, stack_top, entry, vmctx, code, rows): the same for each row of slots. */
FUNCTION lucet_switch_enter_many
    .cfi_startproc
    SAVE
    movq %rsp, A_host_sp(%rdi)
    movq %rsi, %rsp
    movq %rdi, %rbx
    .cfi_remember_state
    .cfi_escape 0x0f, 5, 0x73, A_host_sp, 0x06, 0x23, 64
    movq %rdx, %r12
    movq %rcx, %r13
    movq %r8, %r14
    movq %r9, %r15
1:  movq ROWS_slots(%r15), %rbp
    cmpq ROWS_end(%r15), %rbp
    je 3f
    /* The handler may end the run anywhere from here, so what has been done stands in the rows. */
    LABEL lucet_repeating_begin
2:  cmpq $0, A_interrupt(%rbx)
    jne 4f
    movq %r13, %rdi
    movq %r14, %rsi
    movq %rbp, %rdx
    call *%r12
    LABEL lucet_repeating_called
    addq ROWS_stride(%r15), %rbp
    movq %rbp, ROWS_slots(%r15)
    cmpq ROWS_end(%r15), %rbp
    jne 2b
    LABEL lucet_repeating_end
3:  movq %rsp, %rbp
    movq A_host_sp(%rbx), %rsp
    movq %rbx, %rdi
    movq %r15, %rsi
    call activation_next_rows
    movq %rbp, %rsp
    testb %al, %al
    jne 1b
    movq A_host_sp(%rbx), %rsp
    .cfi_restore_state
    .cfi_remember_state
    xorl %eax, %eax
    RESTORE_AND_RETURN
4:  movq A_host_sp(%rbx), %rsp
    .cfi_restore_state
    call activation_interrupted_early
    .cfi_endproc
    .size lucet_switch_enter_many, . - lucet_switch_enter_many

/* int lucet_switch_resume(activation): go on where lucet_switch_suspend stopped. */
FUNCTION lucet_switch_resume
    .cfi_startproc
    SAVE
    movq %rsp, A_host_sp(%rdi)
    movq A_guest_sp(%rdi), %rsp
    RESTORE_AND_RETURN
    .cfi_endproc
    .size lucet_switch_resume, . - lucet_switch_resume

/* void lucet_switch_leave(activation, how): back to the host; the guest's frames are dropped. */
FUNCTION lucet_switch_leave
    .cfi_startproc
    .cfi_def_cfa_offset 64
    movq A_host_sp(%rdi), %rsp
    movl %esi, %eax
    RESTORE_AND_RETURN
    .cfi_endproc
    .size lucet_switch_leave, . - lucet_switch_leave

    LABEL lucet_stubs_begin

/* On the guest's stack: save the guest and go back to the host, until lucet_switch_resume. rdi: activation, esi: how. */
    .p2align 4
suspend:
    .cfi_startproc
    SAVE
    movq %rsp, A_guest_sp(%rdi)
    movq A_host_sp(%rdi), %rsp
    movl %esi, %eax
    RESTORE_AND_RETURN
    .cfi_endproc

    .macro ENTER_STUB name, activation
FUNCTION lucet_stub_\name
    .cfi_startproc
    PUSH rbp
    movq %rsp, %rbp
    .cfi_def_cfa_register %rbp
    LOAD_ACTIVATION \activation, \activation
    movq %rbp, A_frame(%\activation) /* before the stack may overflow */
    .endm

/* A stub: the C function gets the guest's argument registers as they are. */
    .macro STUB name
    ENTER_STUB \name, rax
    movq A_host_sp(%rax), %rsp
    call builtin_\name
    movq %rbp, %rsp
    .endm

    .macro STUB_END name
    LOAD_ACTIVATION rdi, rcx
    popq %rbp
    .cfi_remember_state
    .cfi_def_cfa %rsp, 8
    jmp lucet_returning_begin
    .cfi_restore_state
    .cfi_endproc
    .size lucet_stub_\name, . - lucet_stub_\name
    .endm

/* The same, with the registers that guest code keeps across calls below the frame: exception.c looks for them there. */
    .set KEPT, 6 * 8 /* five registers; the stack stays aligned */
    .macro KEEPING_STUB name
    ENTER_STUB \name, rax
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq A_host_sp(%rax), %rsp
    call builtin_\name
    .endm

    .macro PLAIN_STUB name
    STUB \name
    STUB_END \name
    .endm

    KEEPING_STUB hostcall
    movq %rbp, %rsp
    testl %eax, %eax
    je 2f
    LOAD_ACTIVATION rdi, rcx
    cmpl $SWITCH_THREW, %eax
    je 3f
    cmpl $SWITCH_PREEMPTED, %eax
    je 4f
    cmpl $SWITCH_SUSPENDED, %eax
    jne 1f
4:  movl %eax, %esi
    leaq -KEPT(%rbp), %rsp /* it may yet throw, when it is resumed */
    call suspend
    movq %rbp, %rsp
    LOAD_ACTIVATION rdi, rcx
    cmpq $0, A_throws(%rdi)
    je 2f
    movq $0, A_throws(%rdi)
    jmp 3f
1:  movl %eax, %esi
    jmp lucet_switch_leave
3:  movq A_host_sp(%rdi), %rsp
    call activation_throw
    jmp land
2:
    STUB_END hostcall

    KEEPING_STUB throw
    jmp land
    .cfi_endproc
    .size lucet_stub_throw, . - lucet_stub_throw

    KEEPING_STUB throw_ref
    jmp land
    .cfi_endproc
    .size lucet_stub_throw_ref, . - lucet_stub_throw_ref

/* rax: struct landing. On the host's stack: to the handler of a guest function, as if the call in it had returned there. */
land:
    .cfi_startproc
    LOAD_ACTIVATION rdi, rcx
    movq 0(%rax), %rbx
    movq 8(%rax), %rbp
    movq 16(%rax), %r12
    movq 24(%rax), %r13
    movq 32(%rax), %r14
    movq 40(%rax), %r15
    movq 48(%rax), %rsp
    .cfi_def_cfa %rsp, 8
    movq 56(%rax), %rax
    jmp lucet_returning_begin
    .cfi_endproc

    PLAIN_STUB memory_grow
    PLAIN_STUB memory_copy
    PLAIN_STUB memory_fill
    PLAIN_STUB memory_init
    PLAIN_STUB table_grow
    PLAIN_STUB table_copy
    PLAIN_STUB table_fill
    PLAIN_STUB table_init
    PLAIN_STUB memory_wait32
    PLAIN_STUB memory_wait64
    PLAIN_STUB memory_notify

/* Called where the fuel is checked: all general registers but r11 are kept (LLVM's preserve_mostcc), so that a check costs the
 * code around it no registers. The run is suspended, and when it goes on without an interrupt there must be fuel again. */
    ENTER_STUB out_of_fuel, r11
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
1:  movq A_host_sp(%r11), %rsp
    movq -40(%rbp), %rdi
    call builtin_out_of_fuel
    leaq -64(%rbp), %rsp
    LOAD_ACTIVATION rdi, rax
    movl $SWITCH_OUT_OF_FUEL, %esi
    call suspend
    LOAD_ACTIVATION r11, r11
    movq %rbp, A_frame(%r11)
    cmpq $0, A_interrupt(%r11)
    jne 2f
    movq -40(%rbp), %rdi
    cmpq $0, VMCTX_FUEL(%rdi)
    jns 1b
2:  popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rax
    popq %rbp
    .cfi_def_cfa %rsp, 8
    jmp returning_from_out_of_fuel
    .cfi_endproc
    .size lucet_stub_out_of_fuel, . - lucet_stub_out_of_fuel

/* The signal handler makes guest code seem to have called this, at any instruction: the address of that is on top of the stack, above
 * it the 128 bytes that code may use below its stack pointer. All registers are kept on the guest's stack while it is suspended. */
    .set RED_ZONE, 128
FUNCTION lucet_stub_preempted
    .cfi_startproc
    .cfi_def_cfa_offset 16 + RED_ZONE
    .cfi_offset %rip, -16 - RED_ZONE
    pushfq
    .irp register, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
    pushq %\register
    .endr
    movq %rsp, %rbp
    .cfi_def_cfa %rbp, 16 * 8 + 16 + RED_ZONE
    cld
    subq lucet_vector_state_size(%rip), %rsp
    andq $-64, %rsp
    movq lucet_vector_state_mask(%rip), %rax
    testq %rax, %rax
    je 1f
    xorl %ecx, %ecx
    .irp offset, 512, 520, 528, 536, 544, 552, 560, 568 /* the header, of which xsave writes the first word only */
    movq %rcx, \offset(%rsp)
    .endr
    xorl %edx, %edx
    xsave64 (%rsp)
    testb $4, %al
    je 2f
    vzeroupper
    jmp 2f
1:  fxsave64 (%rsp)
2:  LOAD_ACTIVATION rdi, rcx
    movl $SWITCH_PREEMPTED, %esi
    call suspend
    LOAD_ACTIVATION rdi, rcx
    movq lucet_vector_state_mask(%rip), %rax
    testq %rax, %rax
    je 1f
    xorl %edx, %edx
    xrstor64 (%rsp)
    jmp 2f
1:  fxrstor64 (%rsp)
2:  movq %rbp, %rsp
    .cfi_def_cfa %rsp, 16 * 8 + 16 + RED_ZONE
    /* As below: from the look at the flag on, the handler ends the run by itself. */
    LABEL lucet_unpreempting_begin
    cmpq $0, A_interrupt(%rdi)
    jne 1f
    .irp register, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax
    popq %\register
    .cfi_adjust_cfa_offset -8
    .endr
    popfq
    .cfi_adjust_cfa_offset -8
    ret $RED_ZONE
    LABEL lucet_unpreempting_end
1:  movq A_host_sp(%rdi), %rsp
    call activation_interrupted_early
    .cfi_endproc
    .size lucet_stub_preempted, . - lucet_stub_preempted

/* The end of every stub, in one place so that the signal handler can tell: between the look at the flag and the guest's next
 * instruction, an interrupt would be lost. rdi: activation; the return address is on top of the guest's stack. */
    .p2align 4
    LABEL lucet_returning_begin
    .cfi_startproc
    cmpq $0, A_interrupt(%rdi)
    jne 1f
    ret
returning_from_out_of_fuel: /* the same with the activation in r11 */
    cmpq $0, A_interrupt(%r11)
    jne 2f
    ret
    LABEL lucet_returning_end
2:  movq %r11, %rdi
1:  movq A_host_sp(%rdi), %rsp
    call activation_interrupted
    .cfi_endproc

    LABEL lucet_stubs_end

/* long lucet_switch_syscall(const u64 *interrupt, long number, a, b, c, d, e): a system call that is not made if *interrupt is set,
 * and that the interrupt's signal ends, whenever it comes: the handler moves a thread between begin and end, where it has not
 * returned yet (or the kernel is about to make it again), to the end with -EINTR. */
FUNCTION lucet_switch_syscall
    .cfi_startproc
    LABEL lucet_syscall_begin
    cmpq $0, (%rdi)
    jne 1f
    movq %rsi, %rax
    movq %rdx, %rdi
    movq %rcx, %rsi
    movq %r8, %rdx
    movq %r9, %r10
    movq 8(%rsp), %r8
    syscall
    LABEL lucet_syscall_end
    ret
    LABEL lucet_syscall_cancelled
1:  movq $-4, %rax
    ret
    .cfi_endproc
    .size lucet_switch_syscall, . - lucet_switch_syscall

/* The table that vmctx + VMCTX_BUILTINS points to, in the order of builtins.def. */
    .section .data.rel.ro, "aw", @progbits
    .p2align 4
    LABEL lucet_builtins
#define BUILTIN(index, name, result, parameters) .quad lucet_stub_##name;
#include "builtins.def"
#undef BUILTIN
    .size lucet_builtins, . - lucet_builtins

    .section .note.GNU-stack, "", @progbits
