"""The kernel's types: BTF read and written, DWARF turned into it, and views of structs in guest memory."""

from kernel_model.types.btf import Btf, BtfType, Kind, Member
from kernel_model.types.views import Array, TypeLookupError, Types, View

__all__ = ["Array", "Btf", "BtfType", "Kind", "Member", "TypeLookupError", "Types", "View"]
