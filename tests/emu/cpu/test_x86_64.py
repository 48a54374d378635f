"""x86-64 trap delivery: what the guest's own handlers see is what the SDM says they must."""

import pytest

from arch.interface import Prot
from emu.cpu.engine import EngineError
from kernel_model.errors import KemuError

SOURCE = r"""
.intel_syntax noprefix
# every handler stores {vector, error, rip, cs, rflags, rsp, ss, cr2, handler rsp} at the address in r15, then returns
.macro HANDLER n, err
v\n:
 .if \err == 0
  push 0
 .endif
  push rax
  mov qword ptr [r15], \n
  mov rax, [rsp+8]
  mov [r15+8], rax
  mov rax, [rsp+16]
  mov [r15+16], rax
  mov rax, [rsp+24]
  mov [r15+24], rax
  mov rax, [rsp+32]
  mov [r15+32], rax
  mov rax, [rsp+40]
  mov [r15+40], rax
  mov rax, [rsp+48]
  mov [r15+48], rax
  mov rax, cr2
  mov [r15+56], rax
  mov [r15+64], rsp
  inc qword ptr [r15+72]
  test r14, r14
  jz 1f
  mov [rsp+16], r14     # resume elsewhere
1: pop rax
  add rsp, 8
  test r13, r13
  jz 2f
  hlt
2: iretq
.endm
HANDLER 0 0
HANDLER 3 0
HANDLER 6 0
HANDLER 8 1
HANDLER 13 1
HANDLER 253 0
start:
  mov r15, rdi
  mov r14, rdx
  mov r13, rcx
  stac
  call rsi
done: hlt
read_null: mov rax, [0x18]
  ret
write_ro: mov rax, offset start
  mov dword ptr [rax], 1
  ret
undef: ud2
  ret
divide: xor ecx, ecx
  mov eax, 1
  cdq
  div ecx
  ret
noncanonical: mov rax, 0xdead000000000100
  mov rax, [rax]
  ret
jump_noncanonical: mov rax, 0xdead000000000100
  jmp rax
breakpoint: int3
  ret
skip: ret
overflow: mov rsp, r8
 sub rsp, 16384+8
 mov r13, 1
 mov r14, 0
 push rax
 hlt
# a page-fault handler that maps the page (PTE address in r9, value in r10) with cmpxchg and retries
v14: push rax
  mov rax, [rsp+8]
  mov [r15+8], rax
  mov rax, [rsp+16]
  mov [r15+16], rax
  mov rax, [rsp+24]
  mov [r15+24], rax
  mov qword ptr [r15], 14
  mov rax, cr2
  mov [r15+56], rax
  mov [r15+64], rsp
  inc qword ptr [r15+72]
  test r9, r9
  jz 1f
  xor eax, eax
  lock cmpxchg [r9], r10
  add r9, 8
  add r10, 4096
1: test r14, r14
  jz 2f
  mov [rsp+16], r14
2: pop rax
  add rsp, 8
  iretq
many: mov rcx, 32
1: mov qword ptr [rax], 7
  add rax, 4096
  dec rcx
  jnz 1b
  hlt
touch: mov r15, rdi
  mov rax, rsi
  mov r9, rdx
  mov r10, rcx
  xor r14d, r14d
  xor r13d, r13d
  jmp many
to_user: mov r15, rdi
  xor r14d, r14d
  xor r13d, r13d
  xor r9d, r9d
  push 0x2b
  push rsi
  push 0x202
  push 0x33
  push 0x400000
  iretq
syscall_entry: mov [r15+80], rcx
  mov [r15+88], r11
  mov [r15+96], rsp
  mov rcx, cs
  mov [r15+104], rcx
  hlt
.balign 16
user: mov eax, 5
  stc
  syscall
1: jmp 1b
user_end:
user_spin: jmp user_spin
spin: jmp spin
masked: cli
  jmp spin
"""

FIELDS = ("vector", "error", "rip", "cs", "rflags", "rsp", "ss", "cr2", "handler_rsp", "count")


@pytest.fixture(scope="module")
def guest(machine):
    return machine("x86_64", SOURCE)


def trap(guest, function, stop=0, resume="skip"):
    record = guest.vmalloc.vmalloc(4096)
    target = guest.symbols[function]
    guest.run("start", record, target, guest.symbols[resume] if resume else 0, stop)
    assert guest.cpu.ip == guest.symbols["done"] + 1
    return dict(zip(FIELDS, (guest.space.read_u64(record + 8 * i) for i in range(10)), strict=True))


def test_null_read_is_a_page_fault_with_cr2(guest):
    seen = trap(guest, "read_null")
    assert (seen["vector"], seen["error"], seen["cr2"], seen["rip"]) == (14, 0, 0x18, guest.symbols["read_null"])
    assert seen["cs"] == 0x10


def test_write_to_text_is_a_protection_fault(guest):
    seen = trap(guest, "write_ro")
    assert (seen["vector"], seen["error"], seen["cr2"]) == (14, 3, guest.symbols["start"])


def test_undefined_instruction(guest):
    seen = trap(guest, "undef")
    assert (seen["vector"], seen["rip"]) == (6, guest.symbols["undef"])
    assert seen["rflags"] & 0x40000, "AC is part of the pushed flags"


def test_divide_error_points_at_the_instruction(guest):
    seen = trap(guest, "divide")
    assert (seen["vector"], seen["rip"]) == (0, guest.symbols["divide"] + 8)


@pytest.mark.parametrize("function, rip", [("noncanonical", 10), ("jump_noncanonical", None)])
def test_non_canonical_is_general_protection(guest, function, rip):
    seen = trap(guest, function)
    assert (seen["vector"], seen["error"]) == (13, 0)
    assert seen["rip"] == (0xDEAD000000000100 if rip is None else guest.symbols[function] + rip)


def test_breakpoint_is_a_trap_behind_the_instruction(guest):
    seen = trap(guest, "breakpoint", resume=None)
    assert (seen["vector"], seen["rip"]) == (3, guest.symbols["breakpoint"] + 1)


def test_repeated_faults_are_delivered_and_retried(guest):
    space, mm = guest.space, guest.mm
    area = guest.vmalloc.vmalloc(4096 * 64)
    mm.unmap_kernel_range(area, 4096 * 32)
    guest.cpu.engine.flush_tlb()
    pte = mm.phys_to_virt(mm.tree.entry_pa(area))
    record = guest.vmalloc.vmalloc(4096)
    frames = mm.pages.alloc_pages(5) << 12
    guest.run("touch", record, area, pte, mm.pgtable.mk_leaf(frames, Prot.READ | Prot.WRITE))
    assert space.read_u64(record + 72) == 32
    assert [mm.memory.read_u64(frames + 4096 * i) for i in range(32)] == [7] * 32


def test_stack_overflow_is_a_double_fault_on_its_own_stack(guest):
    record = guest.vmalloc.vmalloc(4096)
    cpu = guest.cpu
    cpu.enter_kernel(guest.symbols["overflow"], guest.stack, ())
    cpu.engine.save()
    cpu.engine.q[15], cpu.engine.q[8] = record, guest.stack
    cpu.engine.restore()
    cpu.run()
    assert guest.space.read_u64(record) == 8
    assert guest.space.read_u64(record + 56) == guest.stack - 16384 - 24, "CR2 of the push that failed"
    assert guest.space.read_u64(record + 64) < guest.stack or guest.space.read_u64(record + 64) > guest.stack + 4096


def test_syscall_from_user_mode(guest):
    record = guest.vmalloc.vmalloc(4096)
    guest.run("to_user", record, 0x7FFF0800)
    rcx, r11, rsp, cs = (guest.space.read_u64(record + i) for i in (80, 88, 96, 104))
    assert (rcx, rsp, cs) == (0x400000 + guest.symbols["user_end"] - 2 - guest.symbols["user"], 0x7FFF0800, 0x10)
    assert r11 & 1 and r11 & 0x200, "carry and IF are kept in r11"


def test_counted_run_stops(guest):
    guest.run("spin", count=1000)
    assert guest.cpu.ip == guest.symbols["spin"]


def test_no_gate_and_no_double_fault_gate_is_a_triple_fault(machine):
    bare = machine("x86_64", ".intel_syntax noprefix\nstart: ud2\n")
    with pytest.raises(EngineError, match="triple fault") as caught:
        bare.run()
    assert isinstance(caught.value, KemuError)


def interrupted(guest, function, ip=None):
    """The record after vector 253 was raised in the middle of `function`, None where it was not taken."""
    cpu, record = guest.cpu, guest.vmalloc.vmalloc(4096)
    guest.run(function, count=10)
    if not cpu.raise_irq(253, ip):
        return None
    cpu.engine.save()
    cpu.engine.q[15], cpu.engine.q[14], cpu.engine.q[13] = record, 0, 1  # r15, r14: come back, r13: halt before that
    cpu.engine.restore()
    cpu.run()
    return dict(zip(FIELDS, (guest.space.read_u64(record + 8 * i) for i in range(10)), strict=True))


def test_an_interrupt_from_outside(guest):
    seen = interrupted(guest, "spin")
    assert (seen["vector"], seen["rip"], seen["cs"]) == (253, guest.symbols["spin"], 0x10)
    assert seen["rflags"] & 0x200 and not guest.cpu.interrupts_enabled


def test_an_interrupt_resumes_where_it_is_told_to(guest):
    assert interrupted(guest, "spin", guest.symbols["done"])["rip"] == guest.symbols["done"]


def test_interrupts_off_keep_an_interrupt_out(guest):
    assert interrupted(guest, "masked") is None
    assert guest.cpu.ip == guest.symbols["spin"]


def test_an_interrupt_of_user_mode_goes_to_the_kernel_stack(guest):
    cpu, record = guest.cpu, guest.vmalloc.vmalloc(4096)
    cpu.enter_user(0x400000 + guest.symbols["user_spin"] - guest.symbols["user"], 0x7FFF0800)
    cpu.run(10)
    assert cpu.raise_irq(253)
    cpu.engine.save()
    cpu.engine.q[15], cpu.engine.q[13] = record, 0
    cpu.engine.restore()
    cpu.run(100)  # iretq leads back into the loop
    seen = dict(zip(FIELDS, (guest.space.read_u64(record + 8 * i) for i in range(10)), strict=True))
    assert (seen["vector"], seen["cs"], seen["ss"], seen["rsp"]) == (253, 0x33, 0x2B, 0x7FFF0800)
    assert guest.stack - 64 <= seen["handler_rsp"] < guest.stack
    assert cpu.ip == seen["rip"] == 0x400000 + guest.symbols["user_spin"] - guest.symbols["user"]


def test_a_vector_without_a_gate(guest):
    guest.run("spin", count=10)
    with pytest.raises(EngineError, match="CPU 0: interrupt vector 0x21 has no gate"):
        guest.cpu.raise_irq(0x21)
