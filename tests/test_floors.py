"""The house has floors: imports point downwards, in no circle, and stand where they can be seen."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.source import PACKAGE, Import, Source, imports, modules

# From the ground up. A trailing slash marks a folder: a wing of its own, which knows nothing of the
# other folders on its floor. What is on no floor may not be in the house.
FLOORS = (
    ("types/", "attention", "errors", "extras", "files", "archive"),
    ("trace/",),
    ("granularity/", "mask/", "cost/"),
    ("find", "compose/"),
    ("saliency/", "allocate/"),
    ("learn/", "recover/", "measure/", "wire/", "export/"),
    ("runtime/",),
    ("recipes/", "quantize/", "accelerate/"),
    (
        "pipeline/",
        "data/",
        "demo/",
        "integrations/",
        "distributed",
        "lookup",
        "models",
        "report",
        "weights",
    ),
    ("sweep",),
    ("cli/", "__main__"),
)

# What may be imported inside a function: extras, which a plain install lacks.
EXTRAS = frozenset(
    {
        "PIL",
        "constriction",
        "executorch",
        "highspy",
        "mlxtend",
        "onnx",
        "onnx_ir",
        "onnxruntime",
        "onnxscript",
        "openvino",
        "sklearn",
        "timm",
        "torchvision",
        "transformers",
    }
)

# Who may load a module by a name in a string, which no import statement shows, and why.
BY_NAME = {
    "secateur": "its public names come late, so that `secateur --help` does not wait for torch",
    "secateur.cli.app": "a verb's own code is loaded when it is asked for, for the same reason",
    "secateur.lookup": "the user's own file or package, named on the command line",
    "secateur.models": "torchvision, timm and transformers, which a plain install lacks",
}


def problems(sources: Mapping[str, Source], floors: Sequence[Sequence[str]]) -> list[str]:
    """Every breach of the rules, each as one line that names the place."""
    found = imports(sources)
    return [
        *_homeless(sources, floors),
        *(line for entry in found for line in _misplaced(entry, sources, floors)),
        *(line for entry in found for line in _concealed(entry)),
        *(line for source in sources.values() for line in _by_name(source)),
        *_circles(found, sources),
    ]


def _top(module: str) -> str:
    """The folder or file directly under the package: "types" of "secateur.types.plan"."""
    return [*module.split("."), ""][1]


def _floor(module: str, floors: Sequence[Sequence[str]]) -> int:
    """The floor of a module; the package's own face stands above all."""
    for number, tops in enumerate(floors):
        if _top(module) in {top.rstrip("/") for top in tops}:
            return number
    return len(floors)


def _homeless(sources: Mapping[str, Source], floors: Sequence[Sequence[str]]) -> list[str]:
    known = {top.rstrip("/") for tops in floors for top in tops}
    tops = {_top(name) for name in sources} - {""}
    return [f"{top} is on no floor" for top in sorted(tops - known)]


def _misplaced(
    entry: Import, sources: Mapping[str, Source], floors: Sequence[Sequence[str]]
) -> list[str]:
    if entry.target.startswith("."):
        return [f"{entry.module}:{entry.line}: a relative import"]
    if entry.target not in sources:
        return []
    here, there = _floor(entry.module, floors), _floor(entry.target, floors)
    wings = {top.rstrip("/") for tops in floors for top in tops if top.endswith("/")}
    both = {_top(entry.module), _top(entry.target)}
    if there > here or (entry.target.count(".") == 0 and entry.module.count(".")):
        return [f"{entry.module}:{entry.line}: imports {entry.target}, which stands higher"]
    if there == here and len(both) == 2 and both <= wings:
        return [f"{entry.module}:{entry.line}: imports {entry.target}, its neighbour"]
    return []


def _concealed(entry: Import) -> list[str]:
    if not entry.hidden or entry.target.split(".")[0] in EXTRAS:
        return []
    return [f"{entry.module}:{entry.line}: imports {entry.target} inside a function"]


def _by_name(source: Source) -> list[str]:
    if source.name in BY_NAME:
        return []
    called = [node.func for node in ast.walk(source.tree) if isinstance(node, ast.Call)]
    loads = [func for func in called if ast.unparse(func).split(".")[-1] in _LOADERS]
    return [f"{source.name}:{func.lineno}: loads a module by name" for func in loads]


_LOADERS = {"__import__", "import_module", "module_from_spec", "exec_module"}


def _circles(found: Sequence[Import], sources: Mapping[str, Source]) -> list[str]:
    graph: dict[str, set[str]] = {name: set() for name in sources}
    for entry in found:
        if entry.target in sources:
            graph[entry.module].add(entry.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return ["a circle: " + " <- ".join(error.args[1])]
    return []


def test_imports_point_downwards_and_are_in_sight() -> None:
    assert not problems(modules(), FLOORS)


def test_who_may_load_by_name_does_and_gives_a_reason() -> None:
    sources = modules()
    for name, reason in BY_NAME.items():
        assert reason
        assert any(loader in sources[name].text for loader in _LOADERS)


def test_every_folder_of_the_package_is_a_package() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"low/a.py": "from house.high import b\n", "high/b.py": ""}, "which stands higher"),
        ({"low/a.py": "import house.high.b\n", "high/b.py": ""}, "which stands higher"),
        ({"low/a.py": "import house\n"}, "which stands higher"),
        ({"low/a.py": "from house import Face\n"}, "which stands higher"),
        ({"low/a.py": "from ..high import b\n", "high/b.py": ""}, "relative import"),
        ({"west/a.py": "from house.east.b import f\n", "east/b.py": ""}, "its neighbour"),
        ({"low/a.py": "def f():\n    import torch\n"}, "inside a function"),
        ({"low/a.py": "f = lambda: __import__\nasync def g():\n    import os\n"}, "inside a func"),
        ({"low/a.py": "def f():\n    importlib.import_module('torch')\n"}, "by name"),
        ({"low/a.py": "t = __import__('torch')\n"}, "by name"),
        ({"attic/a.py": ""}, "attic is on no floor"),
        ({"low/a.py": "import house.low.b\n", "low/b.py": "from house.low import a\n"}, "circle"),
        (
            {"low/a.py": "if TYPE_CHECKING:\n    from house.high import b\n", "high/b.py": ""},
            "high",
        ),
    ],
)
def test_each_breach_is_seen(tmp_path: Path, files: dict[str, str], problem: str) -> None:
    assert any(problem in line for line in _problems_of(tmp_path, files))


@pytest.mark.parametrize(
    "files",
    [
        {"low/a.py": "import torch\n", "high/b.py": "from house.low.a import f\n"},
        {"east/a.py": "from house.low import b\n", "low/b.py": "", "low/c.py": ""},
        {"single.py": "import house.low.a\n", "low/a.py": "def f():\n    import torchvision\n"},
        {"__init__.py": "from house.high.b import f\n", "high/b.py": ""},
        {"low/a.py": "import house.single\n", "single.py": ""},
    ],
)
def test_what_is_allowed_is_not_reported(tmp_path: Path, files: dict[str, str]) -> None:
    assert not _problems_of(tmp_path, files)


def _problems_of(folder: Path, files: dict[str, str]) -> list[str]:
    """The problems of a made-up package of four folders on three floors."""
    for name, text in ({"__init__.py": ""} | files).items():
        path = folder / "house" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return problems(modules(folder / "house"), (("low/", "single"), ("west/", "east/"), ("high/",)))
