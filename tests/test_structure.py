"""The house: imports go down only, there are no cycles, every module says what it is."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ("arch", "kernel_model", "emu")
MODULES = sorted(p for floor in FLOORS for p in (ROOT / floor).rglob("*.py"))


def _imports(path: Path) -> set[str]:
    """Modules that `path` imports when it is imported itself (not inside functions, not for type checkers only)."""
    found = set()
    pending: list[ast.AST] = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
            continue
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending.extend(ast.iter_child_nodes(node))
    return found


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_imports_go_down(path: Path) -> None:
    floor = FLOORS.index(path.relative_to(ROOT).parts[0])
    above = {name for name in _imports(path) if name.split(".")[0] in FLOORS[floor + 1 :]}
    assert not above, f"{_name(path)} reaches up to {sorted(above)}"
    if floor < 2:
        assert not {n for n in _imports(path) if n.split(".")[0] == "unicorn"}, "only emu may know Unicorn"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_every_module_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) or not tree.body, f"{_name(path)} has no docstring"


def test_no_import_cycles() -> None:
    names = {_name(p): p for p in MODULES}
    graph = {name: {i for i in _imports(p) if i in names and i != name} for name, p in names.items()}
    done: set[str] = set()
    sys.setrecursionlimit(10_000)

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done:
            return
        for target in sorted(graph[name]):
            if not name.startswith(target + "."):  # a package's __init__ may import its modules
                visit(target, (*path, name))
        done.add(name)

    for name in sorted(graph):
        visit(name, ())
