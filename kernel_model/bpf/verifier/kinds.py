"""Small questions about instructions and calls that several passes ask.

Mirrors bpf_pseudo_call(), is_sync_callback_calling_function() and the like (kernel/bpf/verifier.c, 6.18).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arch import bpf_isa as isa
from arch.bpf_isa import Insn

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env

# helper numbers (include/uapi/linux/bpf.h) that the verifier treats specially
FUNC_MAP_LOOKUP_ELEM, FUNC_MAP_UPDATE_ELEM, FUNC_MAP_DELETE_ELEM = 1, 2, 3
FUNC_TAIL_CALL = 12
FUNC_SPIN_LOCK, FUNC_SPIN_UNLOCK = 93, 94
FUNC_RINGBUF_RESERVE, FUNC_RINGBUF_SUBMIT, FUNC_RINGBUF_DISCARD = 131, 132, 133
FUNC_FOR_EACH_MAP_ELEM = 164
FUNC_TIMER_SET_CALLBACK = 170
FUNC_FIND_VMA = 180
FUNC_LOOP = 181
FUNC_USER_RINGBUF_DRAIN = 209
SYNC_CALLBACK_HELPERS = (FUNC_FOR_EACH_MAP_ELEM, FUNC_FIND_VMA, FUNC_LOOP, FUNC_USER_RINGBUF_DRAIN)

# kfunc flags (include/linux/btf.h, 6.18)
KF_ACQUIRE, KF_RELEASE, KF_RET_NULL = 1 << 0, 1 << 1, 1 << 2
KF_TRUSTED_ARGS, KF_SLEEPABLE, KF_DESTRUCTIVE, KF_RCU = 1 << 4, 1 << 5, 1 << 6, 1 << 7
KF_ITER_NEW, KF_ITER_NEXT, KF_ITER_DESTROY, KF_RCU_PROTECTED = 1 << 8, 1 << 9, 1 << 10, 1 << 11
KF_FASTCALL, KF_ARENA_RET, KF_ARENA_ARG1, KF_ARENA_ARG2 = 1 << 12, 1 << 13, 1 << 14, 1 << 15


def is_pseudo_call(insn: Insn) -> bool:
    """A call of a function of the program itself."""
    return insn.code == isa.BPF_JMP | isa.BPF_CALL and insn.src == isa.BPF_PSEUDO_CALL


def is_helper_call(insn: Insn) -> bool:
    return insn.code == isa.BPF_JMP | isa.BPF_CALL and insn.src == 0


def is_pseudo_func(insn: Insn) -> bool:
    """A ldimm64 of the address of a function of the program."""
    return insn.code == isa.LD_IMM64 and insn.src == isa.BPF_PSEUDO_FUNC


def is_may_goto(insn: Insn) -> bool:
    return insn.code == isa.BPF_JMP | isa.BPF_JCOND and insn.src == isa.BPF_MAY_GOTO


def is_atomic_load(insn: Insn) -> bool:
    return insn.cls == isa.BPF_STX and insn.mode == isa.BPF_ATOMIC and insn.imm == isa.BPF_LOAD_ACQ


def is_sync_callback_call(insn: Insn) -> bool:
    """is_sync_callback_calling_insn(), without the kfuncs (bpf_rbtree_add) that are not modelled."""
    return is_helper_call(insn) and insn.imm in SYNC_CALLBACK_HELPERS


def jump_offset(insn: Insn) -> int:
    """bpf_jmp_offset(): gotol keeps its distance in imm."""
    return insn.imm if insn.code == isa.BPF_JMP32 | isa.BPF_JA else insn.off


@dataclass(slots=True)
class CallTraits:
    """What control-flow analysis must know of a call."""

    sync_callback: bool = False
    async_callback: bool = False
    iter_next: bool = False
    might_sleep: bool = False
    changes_pkt_data: bool = False
    num_params: int = 5


def call_traits(env: Env, insn: Insn) -> CallTraits:
    """Traits of a BPF_CALL; unknown functions get the cautious defaults and are refused when reached."""
    from kernel_model.bpf.verifier import helpers, kfuncs  # they need Env's type, which needs this module

    traits = CallTraits()
    if insn.src == isa.BPF_PSEUDO_KFUNC_CALL:
        kfuncs.fill_traits(env, insn, traits)
    elif insn.src == 0:
        traits.sync_callback = insn.imm in SYNC_CALLBACK_HELPERS
        traits.async_callback = insn.imm == FUNC_TIMER_SET_CALLBACK
        helpers.fill_traits(insn, traits)
    return traits
