"""Register types, their flags, and what the verifier knows of one register.

Mirrors enum bpf_reg_type, enum bpf_type_flag and struct bpf_reg_state (include/linux/bpf.h, bpf_verifier.h). The
kernel's union of per-type fields is spread out into named fields here; `exact_key()` compares what its memcmp() does.
Left out: socket types, dynptr slices of packets, flow keys, TP buffers.
"""

from __future__ import annotations

from typing import Any

from kernel_model.bpf.verifier import tnum
from kernel_model.bpf.verifier.tnum import Tnum

# enum bpf_reg_type
(
    NOT_INIT,
    SCALAR_VALUE,
    PTR_TO_CTX,
    CONST_PTR_TO_MAP,
    PTR_TO_MAP_VALUE,
    PTR_TO_MAP_KEY,
    PTR_TO_STACK,
    PTR_TO_PACKET_META,
    PTR_TO_PACKET,
    PTR_TO_PACKET_END,
    PTR_TO_BTF_ID,
    PTR_TO_MEM,
    PTR_TO_ARENA,
    PTR_TO_FUNC,
    CONST_PTR_TO_DYNPTR,
) = range(15)

BASE_MASK = 0xFF
# enum bpf_type_flag
PTR_MAYBE_NULL = 1 << 8
MEM_RDONLY = 1 << 9
MEM_RINGBUF = 1 << 10
MEM_USER = 1 << 11
MEM_PERCPU = 1 << 12
PTR_UNTRUSTED = 1 << 13
MEM_ALLOC = 1 << 14
PTR_TRUSTED = 1 << 15
MEM_RCU = 1 << 16
NON_OWN_REF = 1 << 17

PTR_TO_MAP_VALUE_OR_NULL = PTR_TO_MAP_VALUE | PTR_MAYBE_NULL

_NAMES = (
    "?", "scalar", "ctx", "map_ptr", "map_value", "map_key", "fp", "pkt_meta", "pkt", "pkt_end", "ptr_", "mem",
    "arena", "func", "dynptr_ptr",
)  # fmt: skip
_PREFIXES = (
    (MEM_RDONLY, "rdonly_"), (MEM_RINGBUF, "ringbuf_"), (MEM_USER, "user_"), (MEM_PERCPU, "percpu_"),
    (MEM_RCU, "rcu_"), (PTR_UNTRUSTED, "untrusted_"), (PTR_TRUSTED, "trusted_"),
)  # fmt: skip

U64_MAX = tnum.U64
U32_MAX = tnum.U32
S64_MIN, S64_MAX = -(1 << 63), (1 << 63) - 1
S32_MIN, S32_MAX = -(1 << 31), (1 << 31) - 1

# flags in Reg.id of a scalar that is another one plus the constant Reg.off
ADD_CONST64 = 1 << 31
ADD_CONST32 = 1 << 30
ADD_CONST = ADD_CONST64 | ADD_CONST32


def type_str(kind: int) -> str:
    """reg_type_str(): e.g. `map_value_or_null`, `rcu_ptr_or_null_`."""
    base = kind & BASE_MASK
    prefix = "".join(text for flag, text in _PREFIXES if kind & flag)
    postfix = ""
    if kind & PTR_MAYBE_NULL:
        postfix = "or_null_" if base == PTR_TO_BTF_ID else "_or_null"
    return f"{prefix}{_NAMES[base]}{postfix}"


class Reg:
    """What is known of one register or spilled register. Bounds: s* signed, u* unsigned; *32 of the low half."""

    __slots__ = (
        "type", "off", "id", "ref_obj_id", "precise", "frameno",
        "map", "range", "mem_size", "btf", "btf_id", "subprogno", "iter_name", "iter_state", "iter_depth",
        "irq_class", "dynptr_type", "dynptr_first",
        "var_off", "smin", "smax", "umin", "umax", "s32min", "s32max", "u32min", "u32max",
    )  # fmt: skip

    type: int
    off: int
    id: int
    ref_obj_id: int
    precise: bool
    frameno: int
    map: Any  # VerifierMap of map pointers, values and keys
    range: int  # packet pointers: bytes known to be accessible
    mem_size: int
    btf: Any  # BtfView that btf_id belongs to
    btf_id: int
    subprogno: int
    iter_name: str
    iter_state: int
    iter_depth: int
    irq_class: int
    dynptr_type: int
    dynptr_first: bool
    var_off: Tnum
    smin: int
    smax: int
    umin: int
    umax: int
    s32min: int
    s32max: int
    u32min: int
    u32max: int

    def __init__(self, kind: int = NOT_INIT) -> None:
        self.precise = False
        self.frameno = 0
        self.reset(kind)
        self.set_unbounded()
        self.var_off = tnum.UNKNOWN

    def reset(self, kind: int) -> None:
        """Forget everything but bounds and frame: the register is of type `kind` at offset 0."""
        self.type = kind
        self.off = self.id = self.ref_obj_id = 0
        self.map = self.btf = None
        self.range = self.mem_size = self.btf_id = self.subprogno = 0
        self.iter_name = ""
        self.iter_state = self.iter_depth = self.irq_class = self.dynptr_type = 0
        self.dynptr_first = False

    def copy(self) -> Reg:
        """A separate record with the same knowledge."""
        new = Reg.__new__(Reg)
        new.assign(self)
        return new

    def assign(self, src: Reg) -> None:
        """copy_register_state(): become what `src` is."""
        self.type = src.type
        self.off = src.off
        self.id = src.id
        self.ref_obj_id = src.ref_obj_id
        self.precise = src.precise
        self.frameno = src.frameno
        self.map = src.map
        self.range = src.range
        self.mem_size = src.mem_size
        self.btf = src.btf
        self.btf_id = src.btf_id
        self.subprogno = src.subprogno
        self.iter_name = src.iter_name
        self.iter_state = src.iter_state
        self.iter_depth = src.iter_depth
        self.irq_class = src.irq_class
        self.dynptr_type = src.dynptr_type
        self.dynptr_first = src.dynptr_first
        self.var_off = src.var_off
        self.smin = src.smin
        self.smax = src.smax
        self.umin = src.umin
        self.umax = src.umax
        self.s32min = src.s32min
        self.s32max = src.s32max
        self.u32min = src.u32min
        self.u32max = src.u32max

    # --- bounds -----------------------------------------------------------------------------------------------

    def set_unbounded64(self) -> None:
        self.smin, self.smax, self.umin, self.umax = S64_MIN, S64_MAX, 0, U64_MAX

    def set_unbounded32(self) -> None:
        self.s32min, self.s32max, self.u32min, self.u32max = S32_MIN, S32_MAX, 0, U32_MAX

    def set_unbounded(self) -> None:
        """__mark_reg_unbounded()."""
        self.set_unbounded64()
        self.set_unbounded32()

    def set_value(self, imm: int) -> None:
        """___mark_reg_known(): bounds of a constant; identity and type stay."""
        value = imm & U64_MAX
        low = imm & U32_MAX
        self.var_off = Tnum(value, 0)
        self.umin = self.umax = value
        self.smin = self.smax = value - (1 << 64) if value >> 63 else value
        self.u32min = self.u32max = low
        self.s32min = self.s32max = low - (1 << 32) if low >> 31 else low

    def set_low_value(self, imm: int) -> None:
        """__mark_reg32_known(): the lower half is `imm`."""
        low = imm & U32_MAX
        self.var_off = tnum.with_subreg(self.var_off, Tnum(low, 0))
        self.u32min = self.u32max = low
        self.s32min = self.s32max = low - (1 << 32) if low >> 31 else low

    # --- whole-register marks ---------------------------------------------------------------------------------

    def mark_known(self, imm: int) -> None:
        """__mark_reg_known(): type stays; offset, identity and per-type fields are cleared."""
        self.reset(self.type)
        self.set_value(imm)

    def mark_known_zero(self, kind: int) -> None:
        """A pointer of type `kind` with no offset at all."""
        self.reset(kind)
        self.set_value(0)

    def mark_scalar(self, imm: int) -> None:
        """A scalar constant."""
        self.reset(SCALAR_VALUE)
        self.precise = False
        self.set_value(imm)

    def mark_unknown(self) -> None:
        """__mark_reg_unknown(): a scalar of which nothing is known."""
        self.reset(SCALAR_VALUE)
        self.frameno = 0
        self.precise = False
        self.var_off = tnum.UNKNOWN
        self.set_unbounded()

    def mark_not_init(self) -> None:
        """__mark_reg_not_init()."""
        self.mark_unknown()
        self.type = NOT_INIT

    # --- questions --------------------------------------------------------------------------------------------

    @property
    def base(self) -> int:
        """base_type()."""
        return self.type & BASE_MASK

    @property
    def maybe_null(self) -> bool:
        """type_may_be_null()."""
        return bool(self.type & PTR_MAYBE_NULL)

    def is_null(self) -> bool:
        """register_is_null(): a scalar constant zero."""
        return self.type == SCALAR_VALUE and self.var_off == tnum.ZERO

    def is_const(self, subreg32: bool = False) -> bool:
        """is_reg_const(): a scalar whose value (or low half) is known."""
        return self.type == SCALAR_VALUE and not (self.var_off.mask & (U32_MAX if subreg32 else U64_MAX))

    def const_value(self, subreg32: bool = False) -> int:
        """reg_const_value(), unsigned."""
        return self.var_off.value & (U32_MAX if subreg32 else U64_MAX)

    def width(self) -> int:
        """get_reg_width(): bits needed for the largest unsigned value."""
        return self.umax.bit_length()

    @property
    def is_pkt(self) -> bool:
        return self.type in (PTR_TO_PACKET, PTR_TO_PACKET_META)

    @property
    def is_pkt_any(self) -> bool:
        return self.type in (PTR_TO_PACKET, PTR_TO_PACKET_META, PTR_TO_PACKET_END)

    def kind_key(self) -> tuple[Any, ...]:
        """Type, offset and per-type fields: the part of the kernel's record before var_off."""
        return (
            self.type, self.off, id(self.map) if self.map is not None else 0, self.range, self.mem_size,
            id(self.btf) if self.btf is not None else 0, self.btf_id, self.subprogno, self.iter_name,
            self.iter_state, self.iter_depth, self.irq_class, self.dynptr_type, self.dynptr_first,
        )  # fmt: skip

    def bounds_key(self) -> tuple[Any, ...]:
        return (
            self.var_off, self.smin, self.smax, self.umin, self.umax,
            self.s32min, self.s32max, self.u32min, self.u32max,
        )  # fmt: skip

    def exact_key(self) -> tuple[Any, ...]:
        """Everything that regs_exact() compares byte for byte (identities are compared apart)."""
        return self.kind_key() + self.bounds_key()

    def __repr__(self) -> str:
        return f"<Reg {type_str(self.type)} off={self.off} id={self.id} {self.var_off} [{self.umin},{self.umax}]>"
