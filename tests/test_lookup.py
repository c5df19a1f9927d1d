from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import FileError, OptionError, UnknownNameError
from secateur.lookup import call, check_options, literal, pick, split_options

WORDS = st.text("abcxyz019.,-_/", min_size=1)


@given(rest=st.text("abc:/.\\"), options=st.dictionaries(WORDS, WORDS, max_size=4))
def test_options_are_read_as_they_are_written(rest: str, options: dict[str, str]) -> None:
    text = rest
    if options:
        text += "?" + "&".join(f"{name}={value}" for name, value in options.items())
    assert split_options(text) == (rest, options)


@pytest.mark.parametrize("query", ["size", "size=", "=3", "a=1&", "a=1&a=2", "&a=1"])
def test_options_that_cannot_be_read(query: str) -> None:
    with pytest.raises(OptionError, match="cannot read the option"):
        split_options(f"x?{query}")


def test_literals() -> None:
    found = [literal(text) for text in ("3", "-3", "1e-3", "true", "false", "True", "a b")]
    assert found == [3, -3, 1e-3, True, False, "True", "a b"]
    assert type(found[0]) is int


def test_unknown_options_and_names_are_answered_with_known_ones() -> None:
    check_options(["a"], ["a", "b"], "")
    with pytest.raises(OptionError, match=r"no option 'c'\n.*a, b"):
        check_options(["c"], ["a", "b"], "here")
    with pytest.raises(OptionError, match=r"did you mean epochs\? options here: bits, epochs"):
        check_options(["epoch"], ["epochs", "bits"], "here")
    assert pick("a", {"a": 1}, "letter") == 1
    with pytest.raises(
        UnknownNameError,
        match=r"no letter 'resnet2'\n.*did you mean resnet20\? known are resnet20, vgg$",
    ):
        pick("resnet2", {"resnet20": 1, "vgg": 2}, "letter")
    with pytest.raises(UnknownNameError, match="known are a, b"):
        pick("zzz", {"b": 1, "a": 2}, "letter")


def test_a_file_may_import_its_neighbours_also_when_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "neighbour_a.py").write_text("value = 20\n")
    (tmp_path / "neighbour_b.py").write_text("value = 1\n")
    (tmp_path / "main.py").write_text(
        "from neighbour_a import value\n"
        "def make(plus=0):\n    import neighbour_b\n    return value + neighbour_b.value + plus\n"
    )
    before = list(sys.path)
    assert call(f"{tmp_path}/main.py:make", plus=2) == 23
    assert sys.path == before
    for name in ("neighbour_a", "neighbour_b"):
        del sys.modules[name]


def test_an_unchanged_file_runs_once_and_a_changed_one_again(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text("class A: pass\n")
    first = call(f"{path}:A")
    assert type(call(f"{path}:A")) is type(first)
    path.write_text("class A: changed = True\n")
    assert call(f"{path}:A").changed


def test_a_dataclass_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass A:\n    x: int = 3\n"
    )
    assert call(f"{path}:A", x=4).x == 4


def test_a_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert call("fractions:Fraction", numerator=3) == 3
    (tmp_path / "my_module_here.py").write_text("def make(): return 7\n")
    monkeypatch.chdir(tmp_path)
    assert call("my_module_here:make") == 7
    (tmp_path / "my_module_there.py").write_text("import no_such_module_at_all\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        call("my_module_there:make")


@pytest.mark.parametrize("text", ["net.py", "net.py:", ":make", "net.py:a b", "net.py:a.b", ""])
def test_text_of_another_form(text: str) -> None:
    with pytest.raises(OptionError, match=r"not of the form.*\n.*net.py:make"):
        call(text)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"no module 'no.such.module'\n.*installed"):
        call("no.such.module:make")
    with pytest.raises(UnknownNameError, match=r"no module 'fractions\.deeper'"):
        call("fractions.deeper:make")
    with pytest.raises(UnknownNameError, match=r"'Fractoin'\n.*Fraction"):
        call("fractions:Fractoin")
    with pytest.raises(FileError, match="cannot read"):
        call(f"{tmp_path}/absent.py:make")


@pytest.mark.parametrize("content", [b"def make(:\n", b"\xff\xfe", b"x = 1\0\n"])
def test_a_file_that_is_no_python(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.py").write_bytes(content)
    before = set(sys.modules)
    with pytest.raises(FileError, match="is not a Python file"):
        call(f"{tmp_path}/net.py:make")
    assert set(sys.modules) == before


def test_what_the_users_code_raises_is_passed_on(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("def make(): return 1 / 0\n")
    (tmp_path / "top.py").write_text("1 / 0\n")
    for name in ("net", "top", "top"):
        with pytest.raises(ZeroDivisionError):
            call(f"{tmp_path}/{name}.py:make")


def test_arguments_that_have_no_default(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("def make(width): return width\n")
    with pytest.raises(OptionError, match=r"missing a required argument: 'width'\n.*\?width=8"):
        call(f"{tmp_path}/net.py:make")
    assert call(f"{tmp_path}/net.py:make", width=8) == 8
