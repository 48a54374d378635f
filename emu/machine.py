"""The machine: RAM, two vCPUs and the gate through which guest text calls the kernel model.

Mirrors no Linux file. It implements kernel_model.protocols.Guest. The gate is one address: guest stubs leave index and
arguments in a per-CPU mailbox and step on it; the answer goes back the same way, so that no register of the engine
is touched on the way.
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from emu.watchdog import WATCHDOG
from kernel_model.errors import BudgetExceededError, KemuError
from kernel_model.image import Image
from kernel_model.memory import GuestMemory
from kernel_model.mm.access import KernelSpace

_CALL = struct.Struct("<7Q")  # index, args[6]
_RESULT_OFFSET, _FRAME_POINTER_OFFSET = 56, 64
NR_CPUS = 2
WATCHDOG_SECONDS = 60.0  # of host time in one run() without a budget: only a guest that runs wild gets there
USER_SLICE = 10_000  # blocks of user code from one timer interrupt to the next
_USER_LOW, _USER_HIGH = 0x1000, (1 << 47) - 1
CALL_RED_ZONE = 256  # left free below the interrupted code's stack pointer


class Machine:
    """vCPUs over one RAM. Addresses are guest virtual."""

    def __init__(self, arch_name: str, memory: GuestMemory, space: KernelSpace, image: Image) -> None:
        self.memory = memory
        self.space = space
        self.image = image
        cpu_module = importlib.import_module(f"emu.cpu.{arch_name}")
        self.cpus: list[Any] = [cpu_module.Cpu(number, memory) for number in range(NR_CPUS)]
        self.current_cpu = 0
        self._kcalls: Sequence[Callable[..., int]] = ()
        self._names: list[str] = []
        self._kcall_returns: dict[str, int] = {}
        self._mailboxes: list[int] = []  # physical
        self.kcall_count = 0
        self.on_kcall: Callable[[str, tuple[int, ...]], None] | None = None
        self.idle_stacks: list[int] = []
        self.depth = 0  # runs of engines inside each other
        self.calls = 0  # how many of them are call()s
        self.sleeping: Callable[[str, Any], bool] = lambda name, generator: False
        self.returned: Callable[[], None] = lambda: None
        self.returning: Callable[[int, int], bool] = lambda address, sp: False
        self._watched: set[int] = set()
        self.budget = 0  # instructions that one run() may execute, 0: no limit
        self._finished = False
        self.watchdog_seconds = WATCHDOG_SECONDS
        self._expired = False
        self._stop_wanted = False  # the engine stopped because the kernel wanted it to
        self.user_slice = USER_SLICE
        self._slice = 0  # blocks of user code that are left of it
        self._slice_over = False

    def bind(self, table: list[tuple[str, str]], kcalls: Sequence[Callable[..., int]], mailboxes: list[int]) -> None:
        """Connect the gate: `kcalls` by index, `mailboxes` the kernel address of each CPU's kcall_mailbox."""
        self._kcalls = kcalls
        self._names = [name for name, _ in table]
        trap, stop = self.image.addresses["kcall_trap"], self.image.addresses["guest_call_return"]
        for cpu, mailbox in zip(self.cpus, mailboxes, strict=True):
            pa = self.space.translate(mailbox)
            self._mailboxes.append(pa)
            cpu.engine.hook_address(trap, self._gate(cpu.number, pa))
            cpu.engine.hook_address(stop, self._return_hook(cpu))
            cpu.engine.hook_blocks(_USER_LOW, _USER_HIGH, self._user_block(cpu))

    def _user_block(self, cpu: Any) -> Callable[[], None]:
        machine, stop = self, cpu.stop

        def block() -> None:
            machine._slice -= 1
            if not machine._slice:
                machine._slice_over = machine._stop_wanted = True
                stop()

        return block

    def take_slice_over(self) -> bool:
        """Whether the last resume() ended because user code has used up its slice."""
        over, self._slice_over = self._slice_over, False
        return over

    def _gate(self, number: int, mailbox_pa: int) -> Callable[[], None]:
        window = self.memory.view(mailbox_pa, 72)
        unpack, pack = _CALL.unpack_from, struct.Struct("<Q").pack_into
        machine, stop = self, self.cpus[number].stop

        def gate() -> None:
            index, *arguments = unpack(window, 0)
            machine.current_cpu = number
            machine.kcall_count += 1
            if machine.on_kcall is not None:
                machine.on_kcall(machine._names[index], tuple(arguments))
            result = machine._kcalls[index](*arguments)
            if type(result) is int:
                pack(window, _RESULT_OFFSET, result)
            elif not machine.sleeping(machine._names[index], result):
                machine._stop_wanted = True
                stop()

        return gate

    def _return_hook(self, cpu: Any) -> Callable[[], None]:
        def returned() -> None:
            self._finished = True
            if not self.calls:
                self._stop_wanted = True
                self.returned()
            cpu.stop()

        return returned

    def kcall_return(self, name: str) -> int:
        """Address in the stub of kcall `name` where a guest function returns to that the kcall asked for."""
        address = self._kcall_returns.get(name)
        if address is None:
            stub = next(s for s in self.image.symbols if s.name == name)
            address = self._kcall_returns[name] = stub.address + stub.size - self.cpus[0].NOP_SIZE
            for cpu in self.cpus:
                cpu.engine.hook_address(address, self._return_hook(cpu))
                cpu.flush_code()
        return address

    def watch_return(self, address: int) -> None:
        """Let a CPU that comes by `address` ask `returning` whether a function that a kcall asked for ends there."""
        if address in self._watched:
            return
        self._watched.add(address)
        for cpu in self.cpus:
            cpu.engine.hook_address(address, self._watch_hook(cpu, address))
            cpu.engine.remove_code(address, address + 4)  # code translated before does not know the hook

    def _watch_hook(self, cpu: Any, address: int) -> Callable[[], None]:
        returned = self._return_hook(cpu)

        def passing() -> None:
            self.current_cpu = cpu.number
            if not self.calls and self.returning(address, cpu.sp):
                returned()

        return passing

    def take_return(self) -> bool:
        """Whether a guest function that a kcall asked for has returned since this was asked."""
        finished, self._finished = self._finished, False
        return finished

    def answer(self, result: int) -> None:
        """The result of the kcall that the current vCPU waits for at the gate."""
        self.memory.write_u64(self._mailboxes[self.current_cpu] + _RESULT_OFFSET, result)

    @property
    def kcall_frame_pointer(self) -> int:
        """Frame pointer of the kcall gate's frame: in a kcall, before it calls guest functions itself."""
        return self.memory.read_u64(self._mailboxes[self.current_cpu] + _FRAME_POINTER_OFFSET)

    # -- Guest protocol ----------------------------------------------------------------------------------------------

    def symbol(self, name: str) -> int:
        """Address of a symbol of the image; KeyError names it."""
        return self.image.addresses[name]

    def call(
        self, function: str | int, *args: int, return_address: int | None = None, frame_pointer: int = 0,
        frames: Sequence[int] = (),
    ) -> int:
        """Run a guest function on the current vCPU to its return; see kernel_model.protocols.Guest.

        `frame_pointer` is the caller's as the function finds it. `frames` are return addresses, outermost first: for
        each a frame record is put on the stack, so that a stack walk passes through them.
        """
        cpu = self.cpus[self.current_cpu]
        outer = cpu.engine.snapshot()
        base = cpu.sp if self.depth else self.idle_stacks[cpu.number]
        self.enter_call(cpu, function, args, base, return_address=return_address, frame_pointer=frame_pointer,
                        frames=frames)
        self.depth += 1
        self.calls += 1
        try:
            self._run_to_return(cpu, 0 if return_address is None else return_address)
            result: int = cpu.result
        finally:
            self.depth -= 1
            self.calls -= 1
            cpu.engine.resume(outer)
        return result

    def interrupt_idle(self, number: int, irq: int) -> None:
        """Let CPU `number`, which is idle, take interrupt `irq`, and run its handler to the end."""
        cpu, before = self.cpus[number], self.current_cpu
        self.current_cpu = number
        cpu.enter_kernel(self.symbol("guest_call_return"), (self.idle_stacks[number] - CALL_RED_ZONE) & ~15)
        cpu.raise_irq(irq)
        self.depth += 1
        self.calls += 1
        try:
            self._run_to_return(cpu, 0)
        finally:
            self.depth -= 1
            self.calls -= 1
            self.current_cpu = before

    def enter_call(
        self, cpu: Any, function: str | int, args: Sequence[int], base: int, *, return_address: int | None = None,
        frame_pointer: int = 0, frames: Sequence[int] = (),
    ) -> int:
        """Registers and stack of a call of a guest function, below stack address `base`; see `call`.

        The stack pointer that the function has when it has returned.
        """
        target = self.symbol(function) if isinstance(function, str) else function
        sp = (base - CALL_RED_ZONE) & ~15
        for address in frames:
            sp -= 16
            self.space.write_u64(sp, frame_pointer)
            self.space.write_u64(sp + 8, address)
            frame_pointer = sp
        entry_sp = cpu.push_return(sp, self.symbol("guest_call_return") if return_address is None else return_address)
        cpu.enter_kernel(target, entry_sp, args, fp=frame_pointer)
        return sp

    def _run_to_return(self, cpu: Any, until: int) -> None:
        self._finished = False
        with self.watchdog():
            cpu.run(self.budget, until)
        if not self._finished if until == 0 else cpu.ip != until:
            raise self._stopped(cpu)
        self._finished = False

    def resume(self, cpu: Any, ip: int) -> None:
        """Let a vCPU go on at `ip` until a hook stops it, or until user code has run for a slice.

        BudgetExceededError where the guest uses up its budget; KemuError where the CPU stops by itself.
        """
        self._stop_wanted = False
        self._slice = self.user_slice
        cpu.engine.start(ip, self.budget, 0)
        if not self._stop_wanted:
            raise self._stopped(cpu)

    def check_watchdog(self) -> None:
        """BudgetExceededError where the watchdog has barked between two runs of an engine."""
        if self._expired:
            raise self._stopped(self.cpus[self.current_cpu])

    def _stopped(self, cpu: Any) -> KemuError:
        where = f"CPU {cpu.number} at {cpu.ip:#x}"
        if self._expired:
            # no address: where the host's clock caught the guest differs from run to run
            return BudgetExceededError(f"CPU {cpu.number}: the guest runs wild: no end in {self.watchdog_seconds:g} s")
        if self.budget:
            return BudgetExceededError(f"{where}: the budget of {self.budget} instructions is used up")
        return KemuError(f"{where}: the CPU halted and nothing will wake it")

    @contextmanager
    def watchdog(self) -> Iterator[None]:
        """Ends an outermost run that has no budget of instructions after a long time; results never depend on it."""
        if self.depth > 1 or self.budget:
            yield
            return

        def expire() -> None:
            self._expired = True
            self.cpus[self.current_cpu].stop()

        self._expired = False
        number = WATCHDOG.arm(self.watchdog_seconds, expire)
        try:
            yield
        finally:
            WATCHDOG.disarm(number)

    def flush_tlb_kernel_range(self, start: int, end: int) -> None:
        """Invalidate [start, end) on every vCPU. The engines only know how to forget everything."""
        for cpu in self.cpus:
            cpu.flush_tlb()

    def flush_icache_range(self, start: int, end: int) -> None:
        """Code in [start, end) was written from outside; the range must be mapped."""
        for cpu in self.cpus:
            if self.depth:  # a hook is running: the code that called it must stay
                cpu.engine.remove_code(start, end)
            else:
                cpu.flush_code()
