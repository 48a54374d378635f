"""Which registers and stack slots may still be read.

Registers: compute_live_registers() (kernel/bpf/verifier.c), one static pass. Stack: kernel/bpf/liveness.c of
6.18, which collects, per call chain and instruction, the slots that may be read and that are surely written, and
propagates them backwards at the end of every path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arch import bpf_isa as isa
from arch.bpf_isa import Insn
from kernel_model.bpf.verifier import kinds, log
from kernel_model.bpf.verifier.cfg import successors
from kernel_model.bpf.verifier.state import State

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env

_ALL = 0xFFFF
_CALLER_SAVED = 0x3F
_U64 = 0xFFFF_FFFF_FFFF_FFFF


def _atomic_use_def(insn: Insn) -> tuple[int, int]:
    dst, src = 1 << insn.dst, 1 << insn.src
    if insn.imm == isa.BPF_CMPXCHG:
        return 1 | dst | src, 1
    if insn.imm == isa.BPF_LOAD_ACQ:
        return src, dst
    if insn.imm == isa.BPF_STORE_REL:
        return dst | src, 0
    return dst | src, src if insn.imm & isa.BPF_FETCH else 0


def _jump_use_def(env: Env, insn: Insn) -> tuple[int, int]:
    dst, src = 1 << insn.dst, 1 << insn.src
    if insn.op in (isa.BPF_JA, isa.BPF_JCOND):
        return 0, 0
    if insn.op == isa.BPF_EXIT:
        return 1, 0
    if insn.op == isa.BPF_CALL:
        params = kinds.call_traits(env, insn).num_params
        return ((1 << params) - 1) << 1, _CALLER_SAVED
    return dst | src if insn.is_reg else dst, 0


def use_def(env: Env, insn: Insn) -> tuple[int, int]:
    """compute_insn_live_regs(): masks of registers read and written."""
    dst, src = 1 << insn.dst, 1 << insn.src
    cls = insn.cls
    if cls == isa.BPF_LD:
        return (0, dst) if insn.code == isa.LD_IMM64 else (_ALL, 0)
    if cls == isa.BPF_LDX:
        return src, dst
    if cls == isa.BPF_ST:
        return dst, 0
    if cls == isa.BPF_STX:
        return _atomic_use_def(insn) if insn.mode == isa.BPF_ATOMIC else (dst | src, 0)
    if cls in (isa.BPF_ALU, isa.BPF_ALU64):
        if insn.op == isa.BPF_END:
            return dst, dst
        if insn.op == isa.BPF_MOV:
            return src if insn.is_reg else 0, dst
        return dst | src if insn.is_reg else dst, dst
    return _jump_use_def(env, insn)


def compute_live_registers(env: Env) -> None:
    """compute_live_registers(): fill InsnAux.live_regs_before, and print it at log level 2."""
    usedef = [use_def(env, insn) for insn in env.insns]
    succ = [successors(env.insns, i) for i in range(len(env.insns))]
    live_in = [0] * (len(env.insns) + 2)
    changed = True
    while changed:
        changed = False
        for sub in env.subprogs:
            for i in sub.postorder:
                out = 0
                for s in succ[i]:
                    out |= live_in[s]
                use, define = usedef[i]
                new = (out & ~define) | use
                if new != live_in[i]:
                    live_in[i] = new
                    changed = True
    for i, aux in enumerate(env.aux):
        aux.live_regs_before = live_in[i]
    if env.log2:
        _print_live(env)


def _print_live(env: Env) -> None:
    env.verbose("Live regs before insn:\n")
    skip = False
    for i, aux in enumerate(env.aux):
        if skip:
            skip = False
            continue
        scc = f"{aux.scc:3d} " if aux.scc else "    "
        live = "".join(str(r) if aux.live_regs_before >> r & 1 else "." for r in range(10))
        env.verbose(f"{scc}{i:3d}: {live} {env.insn_text(i)}\n")
        skip = env.insns[i].is_ld_imm64


class _Masks:
    """Marks of one frame at one instruction; bit i is stack slot i."""

    __slots__ = ("may_read", "must_write", "must_write_acc", "live_before")

    def __init__(self) -> None:
        self.may_read = self.must_write = self.must_write_acc = self.live_before = 0


class _Instance:
    """A function as reached by one call chain."""

    __slots__ = ("chain", "starts", "frames", "written_set", "updated", "dropped")

    def __init__(self, chain: tuple[int, ...], starts: tuple[int, ...]) -> None:
        self.chain = chain  # call instructions, then the function's first instruction
        self.starts = starts  # first instruction of every function of the chain
        self.frames: list[dict[int, _Masks] | None] = [None] * len(chain)
        self.written_set: set[int] = set()
        self.updated = False
        self.dropped = False

    def masks(self, frame: int, insn: int) -> _Masks | None:
        table = self.frames[frame]
        return None if table is None else _entry(table, insn)

    def ensure(self, frame: int, insn: int) -> _Masks:
        table = self.frames[frame]
        if table is None:
            table = self.frames[frame] = {}
        return _entry(table, insn)

    @property
    def text(self) -> str:
        return f"({','.join(map(str, self.chain))})"


def _entry(table: dict[int, _Masks], insn: int) -> _Masks:
    entry = table.get(insn)
    if entry is None:
        entry = table[insn] = _Masks()
    return entry


class StackLiveness:
    """struct bpf_liveness: collects marks while instructions are checked, answers for state comparison."""

    def __init__(self, env: Env) -> None:
        self.env = env
        self.instances: dict[tuple[int, ...], _Instance] = {}
        self.current: _Instance | None = None
        self.write_idx = 0
        self.writes: list[int] = []
        self._query: list[_Instance] = []
        self._query_state: State | None = None
        self._succ: dict[int, list[int]] = {}

    def _lookup(self, state: State, frameno: int) -> _Instance:
        subprogs = self.env.subprogs
        starts = tuple(subprogs[state.frames[i].subprogno].start for i in range(frameno + 1))
        calls = tuple(state.frames[i + 1].callsite for i in range(frameno))
        return self._get(calls + starts[-1:], starts)

    def _get(self, chain: tuple[int, ...], starts: tuple[int, ...]) -> _Instance:
        found = self.instances.get(chain)
        if found is None:
            found = self.instances[chain] = _Instance(chain, starts)
        return found

    def _cur(self) -> _Instance:
        if self.current is None:
            self.current = self._lookup(self.env.cur, self.env.cur.curframe)
        return self.current

    def reset_callchain(self) -> None:
        """bpf_reset_live_stack_callchain(): another function or path is current from now on."""
        self.current = None

    def mark_read(self, frame: int, insn_idx: int, mask: int) -> None:
        """bpf_mark_stack_read(): slots in `mask` of frame `frame` may be read by `insn_idx`."""
        self._mark_read(self._cur(), frame, insn_idx, mask)

    def _mark_read(self, instance: _Instance, frame: int, insn_idx: int, mask: int) -> None:
        masks = instance.ensure(frame, insn_idx)
        new = masks.may_read | mask
        if new != masks.may_read and new | masks.live_before != masks.live_before:
            instance.updated = True
        masks.may_read = new

    def begin_writes(self, insn_idx: int) -> None:
        """bpf_reset_stack_write_marks()."""
        self._begin(self._cur(), insn_idx)

    def _begin(self, instance: _Instance, insn_idx: int) -> None:
        self.write_idx = insn_idx
        self.writes = [0] * len(instance.chain)

    def mark_write(self, frame: int, mask: int) -> None:
        """bpf_mark_stack_write(): slots in `mask` are surely written by the current instruction."""
        self.writes[frame] |= mask

    def commit_writes(self) -> None:
        """bpf_commit_stack_write_marks()."""
        if self.current is not None:
            self._commit(self.current)

    def _commit(self, instance: _Instance) -> None:
        idx = self.write_idx
        seen = idx in instance.written_set
        for frame in range(len(instance.chain)):
            mask = self.writes[frame]
            if mask == 0 and not seen:
                continue
            masks = instance.ensure(frame, idx)
            old = masks.must_write
            if seen:
                mask &= old
            if old != mask:
                masks.must_write = mask
                instance.updated = True
            if old & ~mask:
                instance.dropped = True
        instance.written_set.add(idx)
        self.write_idx = 0

    def update(self) -> None:
        """bpf_update_live_stack(): propagate what the current path collected, innermost function first."""
        self.current = None
        state = self.env.cur
        for frame in range(state.curframe, -1, -1):
            instance = self._lookup(state, frame)
            if instance.updated:
                self._update_instance(instance)
                instance.updated = instance.dropped = False

    def _update_instance(self, instance: _Instance) -> None:
        env = self.env
        start = instance.starts[-1]
        if instance.dropped:
            for table in instance.frames:
                for masks in (table or {}).values():
                    masks.must_write_acc = 0
        order = env.subprog_at(start).postorder
        rounds = 0
        changed = True
        while changed:
            rounds += 1
            changed = False
            for frame, table in enumerate(instance.frames):
                if table is None:
                    continue
                for idx in order:
                    if self._update_insn(instance, table, frame, idx):
                        changed = True
        if env.log2:
            env.verbose(f"{instance.text} live stack update done in {rounds} iterations\n")
        if len(instance.chain) > 1:
            self._propagate_outward(instance, start)

    def _update_insn(self, instance: _Instance, table: dict[int, _Masks], frame: int, idx: int) -> bool:
        succ = self._succ.get(idx)
        if succ is None:
            succ = self._succ[idx] = successors(self.env.insns, idx)
        if not succ:
            return False
        masks = _entry(table, idx)
        after, acc = 0, _U64
        for s in succ:
            nxt = table.get(s)
            if nxt is None:
                acc = 0
            else:
                after |= nxt.live_before
                acc &= nxt.must_write_acc
        acc |= masks.must_write
        before = (after & ~masks.must_write) | masks.may_read
        changed = before != masks.live_before or acc != masks.must_write_acc
        if self.env.log2 and changed:
            aux = self.env.aux[idx]
            if masks.may_read or masks.must_write or idx == instance.starts[-1] or aux.prune_point:
                self._log_change(instance, "live", frame, idx, masks.live_before, before)
                self._log_change(instance, "written", frame, idx, masks.must_write_acc, acc)
        masks.live_before = before
        masks.must_write_acc = acc
        return changed

    def _log_change(self, instance: _Instance, what: str, frame: int, idx: int, old: int, new: int) -> None:
        if old == new:
            return
        text = f"{instance.text} frame {frame} insn {idx} "
        if new & ~old:
            text += f"+{what} {log.stack_mask_text(new & ~old)} "
        if old & ~new:
            text += f"-{what} {log.stack_mask_text(old & ~new)}"
        self.env.verbose(text + "\n")

    def _propagate_outward(self, instance: _Instance, start: int) -> None:
        outer = self._get(instance.chain[:-2] + instance.starts[-2:-1], instance.starts[:-1])
        callsite = instance.chain[-2]
        self._begin(outer, callsite)
        for frame in range(len(instance.chain) - 1):
            masks = instance.masks(frame, start)
            if masks is None:
                continue
            self.mark_write(frame, masks.must_write_acc)
            self._mark_read(outer, frame, callsite, masks.live_before)
        self._commit(outer)

    def query(self, state: State) -> None:
        """bpf_live_stack_query_init(): slot_alive() answers for `state` from now on."""
        self._query = [self._lookup(state, f) for f in range(state.curframe + 1)]
        self._query_state = state

    def slot_alive(self, frameno: int, spi: int) -> bool:
        """bpf_stack_slot_alive(): the slot may be read at or after the queried state."""
        state = self._query_state
        assert state is not None
        innermost = self._query[-1]
        if _live(innermost, state.insn_idx, frameno, spi):
            return True
        for i in range(frameno, state.curframe):
            callsite = innermost.chain[i]
            at = callsite if self.env.aux[callsite].calls_callback else callsite + 1
            if _live(self._query[i], at, frameno, spi):
                return True
        return False


def _live(instance: _Instance, insn_idx: int, frame: int, spi: int) -> bool:
    table = instance.frames[frame]
    if table is None:
        return False
    masks = table.get(insn_idx)
    return masks is not None and bool(masks.live_before >> spi & 1)
