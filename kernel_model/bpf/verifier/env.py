"""The environment of one verification: program, tables, counters, the log, and the path being walked.

Mirrors struct bpf_verifier_env (include/linux/bpf_verifier.h). One Env lives for one bpf_check().
Privileges are fixed: the loader has CAP_BPF and CAP_PERFMON, so pointers may leak, uninitialised stack may be read
and no speculative paths are explored.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from arch.bpf_isa import Insn
from kernel_model.bpf.program import LineInfo, ProgSpec
from kernel_model.bpf.verifier import insn_text, log
from kernel_model.bpf.verifier.btfview import BtfView
from kernel_model.bpf.verifier.errors import Reject
from kernel_model.bpf.verifier.liveness import StackLiveness
from kernel_model.bpf.verifier.log import Log
from kernel_model.bpf.verifier.regs import Reg
from kernel_model.bpf.verifier.result import InsnAux, KfuncCall, Subprog, VerifierMap
from kernel_model.bpf.verifier.scc import SccVisit
from kernel_model.bpf.verifier.state import Frame, Jump, State
from kernel_model.profiles import Profile
from kernel_model.types import BtfType

COMPLEXITY_LIMIT_INSNS = 1_000_000
COMPLEXITY_LIMIT_JMP_SEQ = 8192
MAX_VAR_OFF = 1 << 29


@dataclass(slots=True)
class Pending:
    """A branch still to be walked (struct bpf_verifier_stack_elem)."""

    state: State
    insn_idx: int
    prev_insn_idx: int
    log_pos: int


class Env:
    """Everything one verification knows."""

    def __init__(
        self,
        prog: ProgSpec,
        maps: Sequence[VerifierMap],
        btf: BtfView | None,
        vmlinux: BtfView | None,
        profile: Profile,
        log_level: int,
        arch_name: str,
        test_state_freq: bool = False,
    ) -> None:
        self.prog = prog
        self.insns: list[Insn] = prog.insns
        self.maps = maps
        self.btf = btf
        self.vmlinux = vmlinux
        self.profile = profile
        self.arch_name = arch_name
        self.log = Log(log_level)
        self.test_state_freq = test_state_freq
        self.aux: list[InsnAux] = [InsnAux() for _ in self.insns]
        self.subprogs: list[Subprog] = []
        self.kfuncs: dict[int, KfuncCall] = {}
        self.used_maps: list[int] = []
        self.arena_map: int | None = None
        self.may_goto = False
        self.attach_name = ""  # tracing: the function or tracepoint, and its prototype
        self.attach_proto: BtfType | None = None
        # the walk
        self.insn_idx = 0
        self.prev_insn_idx = -1
        self.cur: State = State()
        self.pending: list[Pending] = []
        self.explored: dict[int, list[State]] = {}
        self.cur_hist: Jump | None = None
        self.scc_visits: dict[tuple[int, ...], SccVisit] = {}
        self.liveness = StackLiveness(self)
        self.id_gen = 0
        self.insn_processed = self.prev_insn_processed = 0
        self.jmps_processed = self.prev_jmps_processed = 0
        self.max_states_per_insn = self.total_states = self.peak_states = 0
        self.explored_size = self.free_list_size = self.num_backedges = 0
        # the log
        self.scratched_regs = 0
        self.scratched_slots = 0
        self.prev_line: LineInfo | None = None
        self.prev_log_pos = 0
        self.prev_insn_print_pos = 0
        self.reason = ""

    # --- the log ------------------------------------------------------------------------------------------------

    @property
    def log1(self) -> bool:
        """Paths are logged (BPF_LOG_LEVEL)."""
        return bool(self.log.level & log.LOG_LEVEL)

    @property
    def log2(self) -> bool:
        """Everything is logged (BPF_LOG_LEVEL2)."""
        return bool(self.log.level & log.LOG_LEVEL2)

    def verbose(self, text: str) -> None:
        """Append to the log."""
        self.log.write(text)

    def fail(self, err: int, text: str) -> NoReturn:
        """Log `text` (one or more whole lines, newline added) and reject with -err."""
        self.verbose(text + "\n")
        raise Reject(err, text)

    def inval(self, text: str) -> NoReturn:
        """fail() with -EINVAL."""
        self.fail(errno.EINVAL, text)

    def access(self, text: str) -> NoReturn:
        """fail() with -EACCES."""
        self.fail(errno.EACCES, text)

    def bug(self, text: str) -> NoReturn:
        """verifier_bug(): an invariant of the verifier itself broke."""
        self.fail(errno.EFAULT, f"verifier bug: {text}")

    def arg_name(self, i: int, before: str = "arg#") -> str:
        """reg_arg_name(): argument `i` (from 0) in a message; `before` is what older kernels put before its number."""
        return f"R{i + 1}" if self.profile.args_by_register else f"{before}{i}"

    def not_modelled(self, what: str) -> NoReturn:
        """Reject what this verifier does not know yet; the kernel may well accept it."""
        self.fail(errno.EOPNOTSUPP, f"kemu's verifier does not model this yet: {what}")

    def verbose_line(self, insn_idx: int, prefix: str) -> None:
        """verbose_linfo(): the source line of an instruction, unless it is the one printed last."""
        line = log.find_line(self.prog.line_info, insn_idx)
        prev = self.prev_line
        if line is None or line is prev or not self.log.level:
            return
        if prev is not None and line.file_name == prev.file_name and line.line_num == prev.line_num:
            return
        name = line.file_name.rsplit("/", 1)[-1]
        self.verbose(f"{prefix}{line.line.lstrip()} @ {name}:{line.line_num}\n")
        self.prev_line = line

    def insn_text(self, idx: int) -> str:
        """verbose_insn() without the newline."""
        return insn_text.text(self, idx)

    def print_state(self, state: State, frameno: int) -> None:
        """print_verifier_state(print_all=true)."""
        self.verbose(log.state_text(state, frameno))

    def print_insn_state(self, state: State, frameno: int) -> None:
        """print_insn_state(): what the last instruction changed, behind it on its line where possible."""
        if self.prev_log_pos and self.prev_log_pos == self.log.end_pos:
            self.log.reset(self.prev_log_pos - 1)
            self.verbose(" " * log.alignment(self.prev_insn_print_pos) + ";")
        else:
            self.verbose(f"{self.insn_idx}:")
        self.verbose(log.state_text(state, frameno, self.scratched_regs, self.scratched_slots))
        self.scratched_regs = self.scratched_slots = 0

    # --- the path being walked ----------------------------------------------------------------------------------

    @property
    def insn(self) -> Insn:
        return self.insns[self.insn_idx]

    @property
    def regs(self) -> list[Reg]:
        """Registers of the innermost frame."""
        return self.cur.frames[self.cur.curframe].regs

    @property
    def cur_aux(self) -> InsnAux:
        return self.aux[self.insn_idx]

    def func(self, reg: Reg) -> Frame:
        """The frame a stack pointer points into."""
        return self.cur.frames[reg.frameno]

    def new_id(self) -> int:
        self.id_gen += 1
        return self.id_gen

    def scratch_slot(self, spi: int) -> None:
        self.scratched_slots |= 1 << spi

    def scratch_all(self) -> None:
        """mark_verifier_state_scratched()."""
        self.scratched_regs = self.scratched_slots = -1

    def reg_read(self, regno: int) -> Reg:
        """check_reg_arg(SRC_OP): the register, which must have been written."""
        if regno >= 11:
            self.inval(f"R{regno} is invalid")
        self.scratched_regs |= 1 << regno
        reg = self.cur.frames[self.cur.curframe].regs[regno]
        if reg.type == 0:
            self.access(f"R{regno} !read_ok")
        return reg

    def reg_write(self, regno: int, mark: bool = True) -> Reg:
        """check_reg_arg(DST_OP or DST_OP_NO_MARK): the register, unknown from now on if `mark`."""
        if regno >= 11:
            self.inval(f"R{regno} is invalid")
        self.scratched_regs |= 1 << regno
        if regno == 10:
            self.access("frame pointer is read only")
        reg = self.cur.frames[self.cur.curframe].regs[regno]
        if mark:
            reg.mark_unknown()
        return reg

    def clear_caller_saved(self, frame: Frame) -> None:
        """clear_caller_saved_regs()."""
        for i in range(6):
            frame.regs[i].mark_not_init()
            self.scratched_regs |= 1 << i

    def push_jump(self, state: State, flags: int = 0, linked: tuple[tuple[int, int, bool], ...] = ()) -> None:
        """push_jmp_history()."""
        entry = self.cur_hist
        if entry is not None:
            entry.flags |= flags
            if linked:
                entry.linked = linked
            return
        entry = Jump(self.insn_idx, self.prev_insn_idx, flags, linked)
        state.jumps.append(entry)
        self.cur_hist = entry

    def push_stack(self, insn_idx: int, prev_insn_idx: int) -> State:
        """push_stack(): queue a copy of the current path, to go on at `insn_idx`; gives the copy."""
        state = self.cur.copy()
        if len(self.pending) >= COMPLEXITY_LIMIT_JMP_SEQ:
            self.fail(errno.E2BIG, f"The sequence of {len(self.pending) + 1} jumps is too complex.")
        self.pending.append(Pending(state, insn_idx, prev_insn_idx, self.log.end_pos))
        if state.parent is not None:
            state.parent.branches += 1
        return state

    def find_subprog(self, start: int) -> int:
        """find_subprog(): number of the function that starts at `start`."""
        for i, sub in enumerate(self.subprogs):
            if sub.start == start:
                return i
        self.bug(f"no program starts at insn {start}")

    def subprog_at(self, insn_idx: int) -> Subprog:
        """bpf_find_containing_subprog()."""
        for sub in self.subprogs:
            if sub.start <= insn_idx < sub.end:
                return sub
        self.bug(f"no function holds insn {insn_idx}")

    @property
    def in_sleepable(self) -> bool:
        """in_sleepable()."""
        return self.prog.sleepable or self.cur.in_sleepable

    @property
    def in_rcu_cs(self) -> bool:
        """in_rcu_cs(): as in 6.18, preemption and interrupts do not count."""
        return self.cur.active_rcu_locks > 0 or self.cur.active_locks > 0 or not self.in_sleepable

    def update_peak_states(self) -> None:
        self.peak_states = max(self.peak_states, self.explored_size + self.free_list_size + self.num_backedges)
