"""BPF object files by libbpf's conventions."""

from kernel_model.bpf.object.loader import BpfObject, Variable, load_object

__all__ = ["BpfObject", "Variable", "load_object"]
