"""Habits of the house that no linter holds: small files, small functions, errors that teach."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Callable, Iterator

import pytest

from tests.source import Source, modules

LINES_OF_A_FILE = 450  # one long heart at most
LINES_OF_THE_MEDIAN_FILE = 120
LINES_OF_A_FUNCTION = 80
ARGUMENTS_OF_A_FUNCTION = 9
DRAWERS_FOR_ANYTHING = {"utils", "util", "common", "helpers", "misc", "tools"}
# Loading one of these runs whatever the file says.
PICKLES = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}
WORKING_STATE = ("secateur.trace.",)  # where a dataclass may change while a function works on it
NOT_OURS = {"Exception", "BaseException", "RuntimeError", "AssertionError", "NotImplementedError"}

Rule = Callable[[Source], Iterator[str]]
RULES: list[Rule] = []


def rule(check: Rule) -> Rule:
    """Put a check in the table that every module of the package is held to."""
    RULES.append(check)
    return check


@rule
def no_long_file(source: Source) -> Iterator[str]:
    lines = source.text.count("\n")
    if lines > LINES_OF_A_FILE:
        yield f"{lines} lines: more than one idea"


@rule
def no_long_or_wide_function(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > LINES_OF_A_FUNCTION:
            yield f"line {node.lineno}: {node.name} has {lines} lines"
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        arguments = [a for a in arguments if a.arg not in {"self", "cls"}]
        if len(arguments) > ARGUMENTS_OF_A_FUNCTION:
            yield f"line {node.lineno}: {node.name} has {len(arguments)} arguments"


@rule
def no_assert(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Assert):
            yield f"line {node.lineno}: an assert, which python -O drops"


@rule
def no_broad_except(source: Source) -> Iterator[str]:
    """Catching everything is for cleaning up, and ends in a bare `raise`."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = [node.type] if not isinstance(node.type, ast.Tuple) else node.type.elts
        names = {ast.unparse(kind) if kind else "Exception" for kind in caught}
        last = node.body[-1]
        raises_on = isinstance(last, ast.Raise) and last.exc is None
        if names & {"Exception", "BaseException"} and not raises_on:
            yield f"line {node.lineno}: a broad except"
        if all(isinstance(step, ast.Pass) for step in node.body):
            yield f"line {node.lineno}: an error that is passed over"


@rule
def no_foreign_error(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Raise) and node.exc is not None:
            called = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if ast.unparse(called) in NOT_OURS:
                yield f"line {node.lineno}: raises {ast.unparse(called)}, which teaches nothing"


@rule
def no_unfinished_work(source: Source) -> Iterator[str]:
    for number, line in enumerate(source.text.splitlines(), 1):
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", line):
            yield f"line {number}: unfinished work: {line.strip()}"


@rule
def no_pickle(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            names = [module] if module else [alias.name for alias in node.names]
            if {name.split(".")[0] for name in names} & PICKLES:
                yield f"line {node.lineno}: imports a pickle"
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            said = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if said.get("weights_only") != "True":
                yield f"line {node.lineno}: torch.load without weights_only=True"
        pickles = isinstance(node, ast.keyword) and node.arg == "allow_pickle"
        if pickles and ast.unparse(node.value) != "False":
            yield f"line {node.value.lineno}: allows a pickle"


@rule
def no_loose_dataclass(source: Source) -> Iterator[str]:
    """Data are frozen and slotted, so that a value stays what it was when it was handed on."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ClassDef):
            continue
        for decorator in node.decorator_list:
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            if ast.unparse(called) not in {"dataclass", "dataclasses.dataclass"}:
                continue
            words = decorator.keywords if isinstance(decorator, ast.Call) else []
            said = {word.arg: ast.unparse(word.value) for word in words}
            frozen = said.get("frozen") == "True" or source.name.startswith(WORKING_STATE)
            if not (frozen and said.get("slots") == "True"):
                yield f"line {node.lineno}: {node.name} is not frozen and slotted"


@rule
def no_drawer_for_anything(source: Source) -> Iterator[str]:
    if source.path.stem in DRAWERS_FOR_ANYTHING:
        yield "a file is named for its idea"


@rule
def a_docstring_on_every_file(source: Source) -> Iterator[str]:
    if not ast.get_docstring(source.tree):
        yield "says nothing about itself"


@pytest.mark.parametrize("check", RULES, ids=lambda check: check.__name__)
def test_the_package_keeps(check: Rule) -> None:
    found = [f"{source.path}: {line}" for source in modules().values() for line in check(source)]
    assert not found, "\n" + "\n".join(found)


def test_the_median_file_is_short() -> None:
    lines = [
        source.text.count("\n") for source in modules().values() if source.text.count("\n") > 5
    ]
    assert statistics.median(lines) < LINES_OF_THE_MEDIAN_FILE


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (no_long_file, "x = 1\n" * 451),
        (no_long_or_wide_function, "def f():\n" + "    x = 1\n" * 80),
        (no_long_or_wide_function, "def f(a, b, c, d, e, *, f, g, h, i, j): ...\n"),
        (no_assert, "assert x\n"),
        (no_broad_except, "try:\n    f()\nexcept Exception as e:\n    g(e)\n"),
        (no_broad_except, "try:\n    f()\nexcept:\n    g()\n"),
        (no_broad_except, "try:\n    f()\nexcept (OSError, BaseException):\n    g()\n"),
        (no_broad_except, "try:\n    f()\nexcept OSError:\n    pass\n"),
        (no_foreign_error, "raise NotImplementedError\n"),
        (no_foreign_error, "raise RuntimeError('x')\n"),
        (no_unfinished_work, "x = 1  # TO" + "DO: more\n"),
        (no_pickle, "import pickle\n"),
        (no_pickle, "from joblib import load\n"),
        (no_pickle, "torch.load(path)\n"),
        (no_pickle, "numpy.load(path, allow_pickle=True)\n"),
        (no_loose_dataclass, "@dataclass(frozen=True)\nclass A: ...\n"),
        (no_loose_dataclass, "@dataclass\nclass A: ...\n"),
        (a_docstring_on_every_file, "x = 1\n"),
    ],
)
def test_a_breach_is_seen(check: Rule, text: str) -> None:
    example = Source("secateur.example", next(iter(modules().values())).path, text)
    assert list(check(example))


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (no_broad_except, "try:\n    f()\nexcept BaseException:\n    g()\n    raise\n"),
        (no_broad_except, "try:\n    f()\nexcept OSError:\n    g()\n"),
        (no_pickle, "torch.load(path, weights_only=True)\n"),
        (no_loose_dataclass, "@dataclass(frozen=True, slots=True, eq=False)\nclass A: ...\n"),
        (no_long_or_wide_function, "def f(self, a, b, c, d, e, *, f, g, h, i): ...\n"),
    ],
)
def test_what_is_allowed_is_not_reported(check: Rule, text: str) -> None:
    example = Source("secateur.example", next(iter(modules().values())).path, text)
    assert not list(check(example))
