"""The package's own source as syntax trees, for the tests that hold the rules of the house."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "secateur"


@dataclass(frozen=True, slots=True)
class Import:
    """One module named by an import statement."""

    module: str  # the module that imports
    target: str  # the module that is imported, as exactly as can be told
    line: int
    hidden: bool  # inside a function


@dataclass(frozen=True, slots=True)
class Source:
    """One module."""

    name: str  # "secateur.types.plan"; a package's __init__ has the package's name
    path: Path
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, str(self.path))


def modules(package: Path = PACKAGE) -> dict[str, Source]:
    """Module name → source, of a whole package."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = Source(name, path, path.read_text())
    return found


def imports(sources: Mapping[str, Source]) -> list[Import]:
    """Every import statement, with `from package import module` resolved to the module."""
    return [entry for source in sources.values() for entry in _imports_of(source, sources)]


def _imports_of(source: Source, sources: Mapping[str, Source]) -> Iterator[Import]:
    tree = source.tree
    hidden = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            exact = [f"{base}.{alias.name}" for alias in node.names]
            targets = sorted({name if name in sources else base for name in exact})
        else:
            continue
        for target in targets:
            yield Import(source.name, target, node.lineno, id(node) in hidden)
