"""Bad input: a clear error, a hint, exit 2, nothing half-written."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.cli.shell import DATA, NET, PRUNE, alone, refused, secateur
from tests.pipeline.small import net, part

CODE = """
import torch
from torch import nn
from tests.pipeline.small import Net, net, part

def parallel(): return nn.DataParallel(net())
def compiled(): return torch.compile(net(), backend="eager")
def scripted(): return torch.jit.trace(net(), torch.zeros(2, 1, 8, 8))
def distributed():
    torch.distributed.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0,
                                         world_size=1)
    return nn.parallel.DistributedDataParallel(net())
def sick():
    model = net()
    with torch.no_grad():
        model.head.weight[0, 0] = float("nan")
    return model
def frozen(): return net().requires_grad_(False)
def stubborn(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
def changing(width=12): return Net(width)

def nothing(): return [], []
def infinite():
    x, y = part(64, 0).x, part(64, 0).y
    x[3, 0, 0, 0] = float("inf")
    return [(x, y)], [(x, y)]
def once(): return iter([]), iter([])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(CODE)
    return tmp_path


CASES = {
    "an unknown layer": (["--keep", "stemm"], ["keep", "stemm", "did you mean stem"]),
    "a budget out of reach": (["--to", "macs=0.0001"], ["macs=0.0001", "the smallest is macs=0"]),
    "a budget of the wrong form": (["--to", "macs"], ["macs=0.5"]),
    "a budget that removes nothing": (["--to", "macs=1.0", "--to", "params=1.0"], []),
    "an example of the wrong shape": (["--example", "2x3x8x8"], ["2, 3, 8, 8"]),
    "an example that is no shape": (["--example", "2,3;4"], ["--example 2x3x4;"]),
    "an example with commas": (["--example", "1,1,8,8"], ["4 inputs", "--example 1x1x8x8;"]),
    "the same budget twice": (["--to", "macs=0.5", "--to", "macs=0.3"], ["to: ", "two budgets"]),
    "a mistyped option of a recipe": (
        ["--method", "dpp?epoch=3"],
        ["no option 'epoch'", "did you mean epochs?"],
    ),
    "an unknown method": (["--method", "tailor"], ["taylor"]),
    "an unknown network": (["demo:resnet21"], ["resnet20"]),
    "a network that is a file": (["net.pt"], ["net.py:make"]),
    "a network without a file": (["nix.py:make"], ["nix.py"]),
    "unknown data": (["--data", "demo:imagenet"], ["fashion-mini"]),
    "data parallel": (["own.py:parallel"], ["DataParallel", "model.module"]),
    "compiled": (["own.py:compiled"], ["compiled", "_orig_mod"]),
    "distributed": (["own.py:distributed"], ["DistributedDataParallel", "model.module"]),
    "scripted": (["own.py:scripted"], []),
    "NaN in weights": (["own.py:sick"], ["head.weight", "NaN"]),
    "nothing to prune": (["own.py:stubborn"], []),
    "frozen and to be trained": (["own.py:frozen", "--finetune", "1"], ["frozen"]),
    "empty data": (["--data", "own.py:nothing"], []),
    "infinite data": (["--data", "own.py:infinite"], ["batch 0"]),
    "data that can be read once": (["--data", "own.py:once"], ["only once"]),
    "weights of another network": (["--weights", "other.safetensors"], ["other.safetensors"]),
    "weights in a pickle": (["--weights", "net.pth"], ["safetensors"]),
}


@pytest.mark.parametrize("case", CASES)
def test_what_prune_refuses(case: str, folder: Path) -> None:
    changes, words = CASES[case]
    (folder / "net.pth").write_bytes(b"anything")
    safetensors.torch.save_file({"fc.weight": torch.zeros(3)}, folder / "other.safetensors")
    asked = list(PRUNE)
    if not changes[0].startswith("-"):
        asked[1], changes = changes[0], changes[1:]
    if changes[:1] == ["--to"]:
        del asked[asked.index("--to") : asked.index("--to") + 2]
    before = sorted(path.name for path in folder.iterdir())
    done = secateur(*asked, *changes, "-o", "runs/new", cwd=folder)
    refused(done, *words)
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--method", "dpp?epoch=3"], "did you mean epochs?"),
        (["--example", "1,1,8,8"], "1x1x8x8"),
        (["--to", "mcas=0.5"], "no budget"),
        (["--weights", "nix.safetensors"], "nix.safetensors"),
        (["demo:lenett"], "did you mean"),
    ],
)
@pytest.mark.parametrize("verb", ["prune", "score"])
def test_what_is_mistyped_is_said_before_the_place_is_looked_at(
    verb: str, changes: list[str], words: str, folder: Path
) -> None:
    """Of two mistakes the one that is seen at once: the folder may be right for what was meant."""
    if verb == "score" and changes[0] in {"--to", "--method"}:
        pytest.skip("it has no such option")
    asked = ["score", NET, "--data", DATA] if verb == "score" else list(PRUNE)
    if changes[0].startswith("--"):
        asked += changes
    else:
        asked[1] = changes[0]
    (folder / "runs").mkdir()
    (folder / "runs" / "mine").touch()
    place = "runs" if verb == "prune" else "nix/scores.safetensors"
    done = secateur(*asked, "-o", place, cwd=folder)
    refused(done, words)
    assert "mine" not in done.stderr
    assert "no such folder" not in done.stderr
    assert {path.name for path in folder.iterdir()} == {"own.py", "runs"}


def test_data_files_that_are_not_right(folder: Path) -> None:
    x, y = part(64, seed=0).x.numpy(), part(64, seed=0).y.numpy()
    bad = x.copy()
    bad[5, 0, 2, 2] = np.nan
    np.savez(folder / "nan.npz", x=bad, y=y)
    np.savez(folder / "empty.npz", x=x[:0], y=y[:0])
    for name, words in (
        ("nan", ["sample 5"]),
        ("empty", ["no samples"]),
        ("nix", ["no such file"]),
    ):
        data = f"npz:{name}.npz"
        done = secateur("prune", NET, "--data", data, "--to", "macs=0.5", "-o", "run", cwd=folder)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert all(word in done.stderr for word in words), done.stderr
        assert not (folder / "run").exists()


def test_where_nothing_can_be_written(folder: Path) -> None:
    (folder / "file").write_text("mine")
    for out in ("file", "file/run", "/proc/nowhere/run", "/proc"):
        refused(secateur(*PRUNE, "-o", out, cwd=folder), out.partition("/run")[0])
    assert (folder / "file").read_text() == "mine"


@pytest.mark.parametrize("kilobytes", [1, 4])
def test_a_disk_that_is_full(folder: Path, kilobytes: int) -> None:
    done = alone(*PRUNE, "-o", "run", cwd=folder, limit=kilobytes)
    assert done.returncode == 2, done.stdout
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "run").exists()
    assert secateur(*PRUNE, "-o", "run", cwd=folder).returncode == 0


def test_a_run_whose_parts_do_not_fit(folder: Path) -> None:
    made = secateur("prune", "own.py:changing", *PRUNE[2:], "-o", "run", cwd=folder)
    assert made.returncode == 0, made.stderr
    shutil.copytree(folder / "run", folder / "cut")
    plan = folder / "cut" / "plan.safetensors"
    plan.write_bytes(plan.read_bytes()[:-100])
    refused(secateur("measure", "cut", cwd=folder), "plan.safetensors")
    verified = secateur("verify", "cut", cwd=folder)
    assert verified.returncode == 1
    assert "FAILED  plan.safetensors" in verified.stdout

    (folder / "own.py").write_text(CODE.replace("width=12", "width=14"))
    refused(secateur("measure", "run", cwd=folder), "the plan was made for shape")
    verified = secateur("verify", "run", cwd=folder)
    assert verified.returncode == 1
    assert "FAILED  dense network" in verified.stdout
    refused(secateur("prune", "own.py:changing", *PRUNE[2:], "-o", "run", cwd=folder), "changed")


def test_what_is_no_run(folder: Path) -> None:
    for verb in ("verify", "measure"):
        for path in (".", "nix", "own.py"):
            refused(secateur(verb, path, cwd=folder), "not the folder of a run")


def test_the_network_that_was_given_is_untouched(folder: Path) -> None:
    path = folder / "weights.safetensors"
    safetensors.torch.save_file(net().state_dict(), path)
    before = path.read_bytes()
    done = secateur("prune", NET, "--weights", path, "--data", DATA, "--to", "macs=0.5",
                    "-o", "run", cwd=folder)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == before
