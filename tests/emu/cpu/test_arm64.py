"""arm64 exception entry: syndrome, fault address, saved state and vector are the architecture's."""

import pytest
from unicorn import arm64_const as ua

from arch.interface import Prot
from emu.cpu.engine import EngineError
from emu.cpu.gic import ICC_IAR1_EL1, CpuInterface

SOURCE = r"""
.macro VECTOR n
.balign 128
 mov x28, \n
 b common
.endm
.balign 2048
vectors:
VECTOR 0x000
.balign 512
VECTOR 0x200
VECTOR 0x280
.balign 512
VECTOR 0x400
VECTOR 0x480
.balign 512
common:
 str x28, [x27]
 mrs x26, esr_el1
 str x26, [x27, 8]
 mrs x26, far_el1
 str x26, [x27, 16]
 mrs x26, elr_el1
 str x26, [x27, 24]
 mrs x26, spsr_el1
 str x26, [x27, 32]
 mov x26, sp
 str x26, [x27, 40]
 mrs x26, pan
 str x26, [x27, 48]
 ldr x26, [x27, 56]
 add x26, x26, 1
 str x26, [x27, 56]
 cbz x23, 1f
 casal x25, x24, [x23]
 mov x25, xzr
 add x23, x23, 8
 add x24, x24, 4096
1: cbz x22, 2f
 msr elr_el1, x22
2: cbz x21, 3f
 wfi
3: eret
start: mov x27, x0
 mov x22, x2
 mov x21, x3
 mov x23, xzr
 mov x20, x30
 blr x1
done: wfi
 b done
null_read: mov x0, 0x18
 ldr x0, [x0]
 ret
write_text: adr x0, start
 str x0, [x0]
 ret
breakpoint: brk 0x800
 ret
undefined: udf 7
 ret
hyper: hvc 0
 ret
read_user: mov x0, 0x400000
 ldr x0, [x0]
 ret
exec_user: mov x0, 0x400000
 br x0
skip: ret
touch: mov x27, x0
 mov x23, x2
 mov x24, x3
 mov x25, xzr
 mov x22, xzr
 mov x21, xzr
 mov x5, 32
 mov x6, 7
1: str x6, [x1]
 add x1, x1, 4096
 subs x5, x5, 1
 b.ne 1b
 wfi
to_user: mov x27, x0
 mov x23, xzr
 mov x22, xzr
 mov x21, 1
 msr sp_el0, x1
 mov x2, 0x400000
 msr elr_el1, x2
 msr spsr_el1, xzr
 eret
.balign 128
.macro SGI
 mov x1, #0x5000000
 orr x1, x1, #1
 msr s3_0_c12_c11_5, x1  // icc_sgi1r_el1: SGI 5 to CPU 0
.endm
.macro ACKNOWLEDGE
 mrs x3, s3_0_c12_c12_0  // icc_iar1_el1
 mrs x4, s3_0_c12_c12_0
 msr s3_0_c12_c12_1, x3  // icc_eoir1_el1
.endm
send_self: mov x27, x0
 mov x22, xzr
 mov x21, xzr
 mov x23, xzr
 SGI
sent: ACKNOWLEDGE
 wfi
send_masked: mov x27, x0
 msr daifset, 2
 SGI
 wfi
send_other: mov x1, #0x5000000
 orr x1, x1, #6
 msr s3_0_c12_c11_5, x1
 wfi
spin: b spin
.balign 16
user: svc 0
1: b 1b
user_spin: b user_spin
"""


@pytest.fixture(scope="module")
def guest(machine):
    return machine("arm64", SOURCE)


FIELDS = ("vector", "esr", "far", "elr", "spsr", "sp", "pan", "count")


def record_of(guest, record):
    return dict(zip(FIELDS, (guest.space.read_u64(record + 8 * i) for i in range(8)), strict=True))


def trap(guest, function, resume="skip"):
    record = guest.vmalloc.vmalloc(4096)
    guest.run("start", record, guest.symbols[function], guest.symbols[resume], 0)
    assert guest.cpu.ip == guest.symbols["done"] + 4
    return record_of(guest, record)


def test_null_read(guest):  # user text and stack give page 0 a table down to level 2
    seen = trap(guest, "null_read")
    assert (seen["vector"], seen["esr"] >> 26, seen["esr"] & 0x7F, seen["far"]) == (0x200, 0x25, 0x06, 0x18)
    assert (seen["elr"], seen["spsr"] & 0xF, seen["sp"]) == (guest.symbols["null_read"] + 4, 5, guest.stack)
    assert seen["pan"] == 1 << 22


def test_write_to_text_is_a_permission_fault(guest):
    seen = trap(guest, "write_text")
    assert (seen["esr"] >> 26, seen["esr"] & 0x7F) == (0x25, 0x4F)
    assert seen["far"] == guest.symbols["start"]


def test_brk(guest):
    seen = trap(guest, "breakpoint")
    assert (seen["esr"], seen["elr"]) == (0xF2000800, guest.symbols["breakpoint"])


@pytest.mark.parametrize("function", ["undefined", "hyper"])
def test_undefined(guest, function):
    seen = trap(guest, function)
    assert (seen["esr"], seen["elr"]) == (0x02000000, guest.symbols[function])


def test_pan_stops_the_kernel_from_reading_user_memory(guest):
    seen = trap(guest, "read_user")
    assert (seen["esr"] & 0x3F, seen["far"]) == (0x0F, 0x400000)


def test_pxn_stops_the_kernel_from_executing_user_memory(guest):
    seen = trap(guest, "exec_user", resume="done")
    assert (seen["esr"] >> 26, seen["esr"] & 0x3F, seen["elr"]) == (0x21, 0x0F, 0x400000)


def test_repeated_faults_are_delivered_and_retried(guest):
    mm = guest.mm
    area = guest.vmalloc.vmalloc(4096 * 64)
    mm.unmap_kernel_range(area, 4096 * 32)
    guest.cpu.engine.flush_tlb()
    pte = mm.phys_to_virt(mm.tree.entry_pa(area))
    record = guest.vmalloc.vmalloc(4096)
    frames = mm.pages.alloc_pages(5) << 12
    guest.run("touch", record, area, pte, mm.pgtable.mk_leaf(frames, Prot.READ | Prot.WRITE))
    assert record_of(guest, record)["count"] == 32
    assert [mm.memory.read_u64(frames + 4096 * i) for i in range(32)] == [7] * 32


def test_svc_from_user_mode(guest):
    record = guest.vmalloc.vmalloc(4096)
    guest.run("to_user", record, 0x7FFF0800)
    seen = record_of(guest, record)
    assert (seen["vector"], seen["esr"] >> 26, seen["elr"], seen["spsr"] & 0xF) == (0x400, 0x15, 0x400004, 0)
    assert seen["sp"] == guest.stack


def test_an_sgi_to_itself_is_taken_behind_the_instruction(guest):
    record = guest.vmalloc.vmalloc(4096)
    guest.run("send_self", record)
    seen = record_of(guest, record)
    assert (seen["vector"], seen["elr"], seen["spsr"] & 0x3CF) == (0x280, guest.symbols["sent"], 5)
    assert seen["count"] == 1 and seen["pan"]
    read = guest.cpu.engine.read
    assert (read(ua.UC_ARM64_REG_X3), read(ua.UC_ARM64_REG_X4)) == (5, 1023), "acknowledged once"
    assert guest.cpu.gic.active == []


def test_an_sgi_with_interrupts_off_stays_pending(guest):
    record = guest.vmalloc.vmalloc(4096)
    guest.run("send_masked", record)
    assert record_of(guest, record)["count"] == 0 and guest.cpu.gic.pending
    assert guest.cpu.gic.execute(ICC_IAR1_EL1, 0) == 5


def test_an_sgi_to_others_is_passed_on(guest):
    sent = []
    guest.cpu.gic.send = lambda interrupt, cpus: sent.append((interrupt, cpus))
    guest.run("send_other")
    assert sent == [(5, 6)] and not guest.cpu.gic.pending


def test_other_registers_and_interrupts_are_not_its_own():
    gic = CpuInterface(0)
    assert gic.known(0xD5184101) is False  # msr sp_el0, x1
    with pytest.raises(EngineError, match="interrupt 32"):
        gic.make_pending(32)


@pytest.mark.parametrize("ip", [None, "done"])
def test_an_interrupt_from_outside(guest, ip):
    record = guest.vmalloc.vmalloc(4096)
    guest.cpu.enter_kernel(guest.symbols["spin"], guest.stack)
    guest.cpu.run(10)
    assert guest.cpu.raise_irq(0, None if ip is None else guest.symbols[ip])
    guest.cpu.engine.write(ua.UC_ARM64_REG_X27, record)
    guest.cpu.run(40)
    seen = record_of(guest, record)
    assert (seen["vector"], seen["elr"], seen["spsr"] & 0xF) == (0x280, guest.symbols[ip or "spin"], 5)
    assert guest.cpu.gic.execute(ICC_IAR1_EL1, 0) == 0


def test_an_interrupt_of_user_mode_goes_to_the_kernel_stack(guest):
    cpu, record = guest.cpu, guest.vmalloc.vmalloc(4096)
    where = 0x400000 + guest.symbols["user_spin"] - guest.symbols["user"]
    cpu.enter_user(where, 0x7FFF0800, kernel_stack=guest.stack)
    cpu.run(10)
    assert cpu.raise_irq(3)
    cpu.engine.write(ua.UC_ARM64_REG_X27, record)
    cpu.run(100)  # eret leads back into the loop
    seen = record_of(guest, record)
    assert (seen["vector"], seen["elr"], seen["spsr"] & 0xF, seen["sp"]) == (0x480, where, 0, guest.stack)
    assert (cpu.ip, cpu.sp) == (where, 0x7FFF0800)
    assert cpu.gic.execute(ICC_IAR1_EL1, 0) == 3


def test_interrupts_off_keep_an_interrupt_out(guest):
    guest.run("send_masked", guest.vmalloc.vmalloc(4096))
    assert guest.cpu.gic.execute(ICC_IAR1_EL1, 0) == 5
    assert not guest.cpu.raise_irq(0)
    assert not guest.cpu.gic.pending
