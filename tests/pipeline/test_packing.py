"""Networks, results and runs into bundles, and back."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import secateur as sec
from secateur import data as any_data
from secateur import demo
from secateur.errors import FileError, ModelError, OptionError, PlanError
from secateur.mask.check import named_tensors
from secateur.pipeline import rebuild, remeasure, run, unpack_run, verify
from secateur.pipeline.packed import packed
from secateur.wire import entropy
from tests.pipeline.small import NET, data, net, request
from tests.wire.networks import same


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "run"
    run(request(finetune=0), path, data())
    return path


def _failed(path: Path) -> list[str]:
    return [f"{c.what}: {c.seen}" for c in verify(path, any_data.load) if not c.holds]


def test_a_network_and_a_result(tmp_path: Path) -> None:
    model = net()
    x = torch.randn(4, 1, 8, 8)
    result = sec.prune(model, x, None, method="magnitude", to="macs=0.5")
    for number, (what, more) in enumerate(
        [(result, {}), (result.model, {"plan": result.plan}), (result.model, {})]
    ):
        path = tmp_path / f"{number}.sct"
        told = sec.pack(what, path, **more)
        assert told.bytes == path.stat().st_size
        same(sec.unpack(path, result.model), result.model)
        if more or number == 0:
            same(sec.unpack(path, net()), result.model)
            same(sec.unpack(path, NET), result.model)
        else:
            with pytest.raises(FileError, match="in the network"):
                sec.unpack(path, net())
    assert (tmp_path / "0.sct").stat().st_size == result.measures["pruned"]["packed_bytes"]
    with pytest.raises(PlanError):
        sec.pack(model, tmp_path / "n.sct", plan=result.plan)


def test_a_text_that_the_bundle_brings(tmp_path: Path) -> None:
    model = demo.network("vgg-slim")
    groups = sec.groups(model, torch.zeros(1, 1, 28, 28))
    plan = sec.allocate(
        groups, sec.score(model, groups, None, [sec.Magnitude()]), sec.Ranked(by="magnitude"),
        sec.params(0.4),
    )  # fmt: skip
    small = sec.shrink(model, plan)
    sec.pack(small, tmp_path / "n.sct", plan=plan, model="demo:vgg-slim")
    same(sec.unpack(tmp_path / "n.sct"), small)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not say"),
        (NET, "is code"),
        ("os:system?command=true", "is code"),
        ("torchvision:resnet18?weights_backbone=DEFAULT", "is code"),
        ("demo:resnet20?width=4000", "far larger"),
    ],
)
def test_what_a_stranger_may_not_name(tmp_path: Path, text: str, message: str) -> None:
    sec.pack(net(), tmp_path / "n.sct", model=text)
    with pytest.raises(FileError, match=message) as caught:
        sec.unpack(tmp_path / "n.sct")
    assert caught.value.where == str(tmp_path / "n.sct")
    assert caught.value.hint


def test_trust(tmp_path: Path) -> None:
    sec.pack(net(), tmp_path / "n.sct", model=NET)
    same(sec.unpack(tmp_path / "n.sct", trust=True), net())


@pytest.mark.parametrize(("bits", "least"), [(8, 3), (4, 5.5), (2, 9), (1, 10)])
def test_rounded_weights(tmp_path: Path, bits: int, least: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(60, 80), nn.ReLU(), nn.Linear(80, 10)).eval()
    told = sec.pack(model, tmp_path / "n.sct", bits=bits)
    assert told.dense_bytes / told.bytes > least
    found = sec.unpack(tmp_path / "n.sct", model)
    quantizer = sec.Quantizer(bits)
    for name, tensor in named_tensors(model).items():
        if tensor.dim() == 1:
            assert torch.equal(named_tensors(found)[name], tensor)
            continue
        scale = quantizer.scale(tensor)
        assert torch.equal(
            named_tensors(found)[name], quantizer.round(tensor, scale) * scale[:, None]
        )
    sec.pack(found, tmp_path / "again.sct", bits=bits)
    same(sec.unpack(tmp_path / "again.sct", model), found)  # on the grid already: nothing moves


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_shorter_floats(tmp_path: Path, dtype: str) -> None:
    model = net()
    whole = sec.pack(model, tmp_path / "w.sct")
    told = sec.pack(model, tmp_path / "n.sct", dtype=dtype)
    assert told.bytes < 0.65 * whole.bytes
    found = named_tensors(sec.unpack(tmp_path / "n.sct", model))
    kind = getattr(torch, dtype)
    for name, tensor in named_tensors(model).items():
        wanted = tensor.to(kind).to(tensor.dtype) if tensor.is_floating_point() else tensor
        assert torch.equal(found[name], wanted)


def test_what_cannot_be_rounded(tmp_path: Path) -> None:
    model, path = net(), tmp_path / "n.sct"
    for options in ({"bits": 3}, {"dtype": "int8"}):
        with pytest.raises(OptionError):
            sec.pack(model, path, **options)  # type: ignore[arg-type]
    with torch.no_grad():
        model.head.weight[0, 0] = 1e6
    with pytest.raises(ModelError, match="too large for float16"):
        sec.pack(model, path, dtype="float16")
    with torch.no_grad():
        model.head.weight[0, 0] = float("nan")
    with pytest.raises(ModelError, match="finite"):
        sec.pack(model, path, bits=8)
    assert not list(tmp_path.iterdir())
    sec.pack(model, path)  # as it is, it can
    same(sec.unpack(path, net()), model)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"finetune": 1},
        {"granularity": "kernels", "to": ("params=0.5",), "finetune": 1},
        {"granularity": "weights", "to": ("params=0.2",), "recalibrate": False},
        {"granularity": "weights", "to": ("params=0.2",), "finetune": 0, "bits packed": 4},
        {"finetune": 0, "bits packed": 8},
        {"data": None, "example": "2x1x8x8", "method": "magnitude", "finetune": 0},
    ],
)
def test_a_run_there_and_back(tmp_path: Path, changes: dict[str, object]) -> None:
    changes = {"finetune": 0, **changes}
    bits = changes.pop("bits packed", None)
    run(request(**changes), tmp_path / "run", None if "data" in changes else data())
    told = sec.pack(tmp_path / "run", tmp_path / "n.sct", bits=bits)  # type: ignore[arg-type]
    assert told.record > 0
    found = unpack_run(tmp_path / "n.sct", tmp_path / "again", trust=True)
    assert _failed(tmp_path / "again") == []
    same(rebuild(tmp_path / "again"), found)
    if bits is None:
        same(rebuild(tmp_path / "run"), found)
    old = json.loads((tmp_path / "run" / "measures.json").read_text())
    now = remeasure(tmp_path / "again", any_data.load)
    assert now["pruned"]["macs"] == old["pruned"]["macs"]
    sec.pack(tmp_path / "again", tmp_path / "again.sct")
    same(unpack_run(tmp_path / "again.sct", tmp_path / "third", trust=True), found)
    assert _failed(tmp_path / "third") == []
    with pytest.raises(OptionError, match="once more"):
        sec.pack(tmp_path / "again", tmp_path / "x.sct", bits=2)


def test_what_is_changed_afterwards_is_seen(made: Path, tmp_path: Path) -> None:
    sec.pack(made, tmp_path / "n.sct")
    for name in ("cut.safetensors", "packed.json", "model.safetensors"):
        unpack_run(tmp_path / "n.sct", tmp_path / name, trust=True)
        path = tmp_path / name / name
        content = bytearray(path.read_bytes())
        content[-2] ^= 1
        path.write_bytes(content)
        assert _failed(tmp_path / name) == [f"{name}: changed since"]


def test_a_run_is_not_trusted(made: Path, tmp_path: Path) -> None:
    sec.pack(made, tmp_path / "n.sct")
    with pytest.raises(FileError, match="which is code"):
        unpack_run(tmp_path / "n.sct", tmp_path / "out")
    with pytest.raises(FileError, match="names code as its data"):
        unpack_run(tmp_path / "n.sct", tmp_path / "out", NET)
    assert not (tmp_path / "out").exists()


def test_folders_that_are_taken(made: Path, tmp_path: Path) -> None:
    sec.pack(made, tmp_path / "n.sct")
    with pytest.raises(FileError, match="holds a run"):
        unpack_run(tmp_path / "n.sct", Path(shutil.copytree(made, tmp_path / "r")), trust=True)
    assert _failed(tmp_path / "r") == []
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(FileError, match="holds mine"):
        unpack_run(tmp_path / "n.sct", tmp_path / "full", trust=True)


class _Killed(BaseException):
    """Nothing is cleaned up after it, as after SIGKILL."""


@pytest.mark.parametrize("renames", [1, 2, 5, 12])
def test_an_unpacking_that_was_killed_begins_anew(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    sec.pack(made, tmp_path / "n.sct", bits=8)
    left, rename = [renames], Path.replace

    def replace(self: Path, target: Path) -> Path:
        if left[0] == 0:
            raise _Killed
        left[0] -= 1
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(_Killed):
            unpack_run(tmp_path / "n.sct", tmp_path / "out", trust=True)
    unpack_run(tmp_path / "n.sct", tmp_path / "out", trust=True)
    assert _failed(tmp_path / "out") == []
    with pytest.raises(FileError, match="holds a run"):  # it is whole now
        unpack_run(tmp_path / "n.sct", tmp_path / "out", trust=True)


def test_a_run_that_began_is_no_unpacking(made: Path, tmp_path: Path) -> None:
    sec.pack(made, tmp_path / "n.sct")
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(made / "run.json", begun)
    lines = (made / "journal.jsonl").read_text().splitlines(keepends=True)
    (begun / "journal.jsonl").write_text("".join(lines[:2]))
    with pytest.raises(FileError, match="holds a run"):
        unpack_run(tmp_path / "n.sct", begun, trust=True)
    assert (begun / "journal.jsonl").read_text() == "".join(lines[:2])


def test_the_base_is_not_overwritten(tmp_path: Path) -> None:
    model, base = net(), tmp_path / "n.sct"
    sec.pack(model, base)
    (tmp_path / "link").symlink_to(tmp_path)
    for path in (base, tmp_path / "link" / "n.sct"):
        with pytest.raises(OptionError, match="is the base"):
            sec.pack(model, path, base=base)
        with pytest.raises(OptionError, match="is the base"):
            sec.pack(model, path, base=[tmp_path / "more.sct", base])
    same(sec.unpack(base, net()), model)


class Odd(nn.Module):
    """State that is neither parameter nor buffer, and buffers that are views of a special kind."""

    def __init__(self, state: object = None) -> None:
        super().__init__()
        self.state = state
        whole = torch.randn(3, 4, dtype=torch.complex64)
        self.conjugate = nn.Parameter(whole.conj())
        self.register_buffer("negative", whole.conj().imag)
        self.one = nn.Linear(3, 3)
        self.tied = self.one

    def get_extra_state(self) -> object:
        return self.state

    def set_extra_state(self, state: object) -> None:
        self.state = state


def test_state_that_would_be_lost_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "n.sct"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)))
    for model, name in ((quantised, "0.scale"), (Odd({"scale": 3}), "_extra_state")):
        with pytest.raises(ModelError, match="would be lost") as caught:
            sec.pack(model, path)
        assert caught.value.where.startswith(name)
    assert not path.exists()


def test_conjugates_and_negatives(tmp_path: Path) -> None:
    model = Odd().eval()
    assert model.conjugate.is_conj()
    assert model.negative.is_neg()
    sec.pack(model, tmp_path / "n.sct")
    found = sec.unpack(tmp_path / "n.sct", Odd())
    assert torch.equal(found.conjugate, model.conjugate)
    assert torch.equal(found.negative, model.negative)


def test_what_is_no_network_to_pack(tmp_path: Path) -> None:
    path, model = tmp_path / "n.sct", net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, of torch.jit
        compiled = torch.compile(model)
    for what, message in (
        (3, "found int"),
        (nn.Linear, "the class Linear"),
        (nn.LazyLinear(3), "no values yet"),
        (nn.Linear(2, 2, device="meta"), "meta device"),
        (compiled, "is compiled"),
    ):
        with pytest.raises(ModelError, match=message):
            sec.pack(what, path)  # type: ignore[arg-type]
    for options in ({"model": 3}, {"base": 3}, {"base": [3]}):
        with pytest.raises(OptionError):
            sec.pack(model, path, **options)  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="plan was expected"):
        sec.pack(model, path, plan=3)  # type: ignore[arg-type]
    assert not path.exists()


def test_what_is_no_network_to_unpack(tmp_path: Path) -> None:
    path = tmp_path / "n.sct"
    sec.pack(nn.Sequential(nn.Linear(3, 3)), path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        normed = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 3)))
    sec.pack(normed, tmp_path / "w.sct")
    for file, model, message in (
        (path, nn.Linear, "the class Linear"),
        (path, 3, "found int"),
        (path, nn.Sequential(nn.LazyLinear(3)), "no values yet"),
        (path, nn.Sequential(nn.Linear(3, 3, device="meta")), "meta device"),
        (tmp_path / "w.sct", normed, "cannot be copied"),
    ):
        with pytest.raises(ModelError, match=message):
            sec.unpack(file, model)  # type: ignore[arg-type]


@pytest.mark.parametrize(("bits", "coding"), [(8, "8 bits"), (4, "4 bits"), (1, "signs")])
def test_rounded_float64_is_found_as_codes(tmp_path: Path, bits: int, coding: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(60, 80)).double().eval()
    sec.quantize(model, sec.Quantizer(bits))
    told = sec.pack(model, tmp_path / "n.sct")
    assert told.tensors[0].coding.startswith(coding)
    assert told.tensors[0].bytes < 4800 * bits / 8 + 80 * 4
    same(sec.unpack(tmp_path / "n.sct", model), model)


def test_a_bare_bundle(made: Path, tmp_path: Path) -> None:
    whole = sec.pack(made, tmp_path / "w.sct")
    told = sec.pack(made, tmp_path / "n.sct", bare=True)
    assert (told.record, told.bytes < whole.bytes - whole.record) == (0, True)
    same(sec.unpack(tmp_path / "n.sct", net()), rebuild(made))
    with pytest.raises(FileError, match="no run"):
        unpack_run(tmp_path / "n.sct", tmp_path / "out", trust=True)
    with pytest.raises(OptionError):
        sec.pack(made, tmp_path / "n.sct", model="demo:vgg-slim")


def test_a_difference_between_runs(made: Path, tmp_path: Path) -> None:
    run(request(finetune=0, to=("macs=0.4",), recalibrate=False), tmp_path / "r1", data())
    run(request(finetune=0, to=("macs=0.3",), recalibrate=False), tmp_path / "r2", data())
    old, new, whole = (tmp_path / name for name in ("old.sct", "new.sct", "whole.sct"))
    sec.pack(tmp_path / "r1", old)
    told = sec.pack(tmp_path / "r2", new, base=old)
    assert told.bytes - told.record < 0.6 * sec.pack(tmp_path / "r2", whole, bare=True).bytes
    same(sec.unpack(new, net(), base=old), rebuild(tmp_path / "r2"))
    unpack_run(new, tmp_path / "out", base=old, trust=True)
    assert _failed(tmp_path / "out") == []
    with pytest.raises(FileError, match="only what differs"):
        sec.unpack(new, net())


def test_without_the_extra_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    model = net()
    groups = sec.groups(model, torch.zeros(1, 1, 8, 8))
    plan = sec.Plan(groups, {g.name: torch.arange(g.size) > 0 for g in groups})
    small = sec.shrink(model, plan)
    sizes, why = packed((model, small), plan)
    assert sizes[0] > sizes[1] > 0  # type: ignore[operator]
    assert why == {}
    monkeypatch.setitem(sys.modules, "constriction", None)
    entropy._stream.cache_clear()
    sizes, why = packed((model, small), plan)
    entropy._stream.cache_clear()
    assert sizes == (None, None)
    assert "secateur[wire]" in why["unmeasured"]["packed_bytes"]
