from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from secateur import archive, demo
from secateur.demo import Progress, Recipe
from secateur.demo.train import state_file
from secateur.errors import DataError, FileError, ModelError, OptionError
from secateur.types.dataset import Dataset, Split, Stream
from secateur.weights import load_weights

ROOT = Path(__file__).resolve().parents[2]
NET = "vgg-slim?width=2"


def made(n: int = 96, seed: int = 0, channels: int = 1) -> Dataset:
    """Two classes that a small network can tell apart: bright above or below the middle."""
    random = torch.Generator().manual_seed(seed)
    parts = []
    for count in (n, n // 2):
        y = torch.arange(count) % 2
        x = torch.randn(count, channels, 8, 8, generator=random) / 2
        x[y == 0, :, :4] += 1
        x[y == 1, :, 4:] += 1
        parts.append(Split(x, y))
    return Dataset("made", *parts, classes=("up", "down"))


def run(out: Path, data: Dataset | None = None, **changes: object) -> list[Progress]:
    arguments: dict[str, object] = {"epochs": 3, "seed": 7, "recipe": Recipe(batch=32, shift=1)}
    arguments |= changes
    name = str(arguments.pop("name", NET))
    return list(demo.train(name, data or made(), out=out, **arguments))  # type: ignore[arg-type]


def test_it_learns_and_says_how(tmp_path: Path) -> None:
    out = tmp_path / "net.safetensors"
    progress = run(out, epochs=8, name="vgg-slim?width=4")
    assert [(p.epoch, p.step) for p in progress[:-1]] == [
        (epoch, step) for epoch in range(1, 9) for step in range(1, 4)
    ]
    assert progress[-2].loss < progress[2].loss
    assert [p.accuracy for p in progress[:-1]] == [None] * 24
    accuracy = progress[-1].accuracy
    assert accuracy is not None
    assert accuracy > 0.9

    header, tensors = archive.load(out, "network")
    assert header["test_accuracy"] == accuracy
    assert header["test_samples"] == 48
    assert header["config"]["seed"] == 7
    assert "command" not in header  # a recipe of one's own is no option of the command
    model = demo.network("vgg-slim?width=4").eval()
    load_weights(model, out)
    test = made().test
    assert isinstance(test, Split)
    assert float((model(test.x).argmax(1) == test.y).float().mean()) == pytest.approx(accuracy)
    assert {t.dtype for t in tensors.values()} == {torch.float32, torch.int64}


def test_the_command_is_recorded_for_the_networks_own_recipe(tmp_path: Path) -> None:
    out = tmp_path / "net.safetensors"
    run(out, epochs=1, recipe=None)
    command = archive.load(out, "network")[0]["command"]
    assert command == "secateur train demo:vgg-slim?width=2 --data made --epochs 1 --seed 7"


def test_equal_arguments_give_equal_bytes_and_a_seed_matters(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a", "b", "c")]
    for out, seed in zip(files, (7, 7, 8), strict=True):
        run(out, seed=seed)
    first, second, third = (out.read_bytes() for out in files)
    assert first == second
    assert first != third


@pytest.mark.parametrize("stop", [0, 1, 3, 4, 6, 8, 9])
def test_stopped_at_any_step_and_started_again_the_bytes_are_the_same(
    tmp_path: Path, stop: int
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(whole)
    steps = demo.train(NET, made(), epochs=3, seed=7, out=broken, recipe=Recipe(batch=32, shift=1))
    for _ in range(stop):
        next(steps)
    del steps
    torch.manual_seed(stop)  # the global state has no say
    done = max(stop - 1, 0) // 3  # the state is written when the step after an epoch is asked for
    assert len(run(broken)) == 9 - 3 * done + 1
    assert broken.read_bytes() == whole.read_bytes()
    assert not state_file(broken).exists()


SCRIPT = """
import sys
import torch
from secateur import demo
from tests.demo.test_train import NET, Recipe, made
torch.set_num_threads(1)
for progress in demo.train(NET, made(), epochs=60, seed=7, out=sys.argv[1],
                           recipe=Recipe(batch=32, shift=1)):
    print(progress.epoch, flush=True)
"""


def test_killed_outright_and_started_again_the_bytes_are_the_same(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(whole, epochs=60)
    for epoch in (3, 30):  # killed wherever it is then, the writing of a state included
        with subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(broken)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as process:
            for line in process.stdout or ():
                if int(line) >= epoch:
                    process.kill()
                    break
        assert process.returncode == -signal.SIGKILL
        assert state_file(broken).exists()
    run(broken, epochs=60)
    assert broken.read_bytes() == whole.read_bytes()


def test_the_global_random_state_is_left_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    run(tmp_path / "net")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_finished_training_has_nothing_left_to_do(tmp_path: Path) -> None:
    out = tmp_path / "net"
    run(out)
    content = out.read_bytes()
    # a kill after the weights were written and before the state was removed
    state_file(out).write_bytes(b"left over")
    assert run(out) == []
    assert out.read_bytes() == content
    assert not state_file(out).exists()


def begun(out: Path) -> None:
    steps = demo.train(NET, made(), epochs=3, seed=7, out=out, recipe=Recipe(batch=32, shift=1))
    for _ in range(4):
        next(steps)


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 8}, "seed was 7, is 8"),
        ({"epochs": 4}, "epochs was 3, is 4"),
        ({"recipe": Recipe(batch=16, shift=1)}, "recipe was"),
        ({"name": "vgg-slim?width=4"}, "network was vgg-slim.width=2"),
        ({"data": made(seed=1)}, "fingerprint was"),
        ({"data": dataclasses.replace(made(), name="other")}, "data was made, is other"),
    ],
)
def test_another_training_is_not_taken_up(
    tmp_path: Path, changes: dict[str, object], message: str, finished: bool
) -> None:
    out = tmp_path / "net"
    if finished:
        run(out)
    else:
        begun(out)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(FileError, match=message):
        run(out, **changes)  # type: ignore[arg-type]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "net"
    begun(out)
    state = state_file(out)
    whole = state.read_bytes()
    for content in (b"", whole[:100], whole[:-7], b"\0" * 50):
        state.write_bytes(content)
        with pytest.raises(FileError):
            run(out)


def test_a_state_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "net"
    begun(out)
    header, tensors = archive.load(state_file(out), "training")
    inner = {key: header[key] for key in ("config", "epoch")}
    for changed, left in (
        (inner | {"epoch": 9}, tensors),
        (inner | {"epoch": -1}, tensors),
        (inner | {"epoch": "x"}, tensors),
        ({"epoch": 1}, tensors),
        (inner | {"config": []}, tensors),
        (inner, {k: v for k, v in tensors.items() if k != "generator"}),
        (inner, {k: v for k, v in tensors.items() if k != "model.head.bias"}),
    ):
        archive.save(state_file(out), "training", changed, left)
        with pytest.raises(FileError):
            run(out)


def test_it_fails_before_the_first_step(tmp_path: Path) -> None:
    data = made()
    with pytest.raises(OptionError, match="0 epochs"):
        run(tmp_path / "net", epochs=0)
    with pytest.raises(DataError, match="in memory"):
        run(tmp_path / "net", dataclasses.replace(data, train=Stream([(0, 0)])))
    with pytest.raises(ModelError, match=r"samples of \(3, 8, 8\)[^\n]*\n.*channels=3"):
        run(tmp_path / "net", made(channels=3))
    with pytest.raises(ModelError, match=r"samples of \(1, 8, 8\)"):
        run(tmp_path / "net", name="lenet300")
    with pytest.raises(ModelError, match="has 1 outputs, label 1"):
        run(tmp_path / "net", name="vgg-slim?classes=1")
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileError, match="cannot write"):
        run(tmp_path / "absent" / "net")


def test_a_training_that_diverges_says_so_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"diverged in epoch 1, step \d+\n.*lower rate"):
        run(tmp_path / "net", name="lenet300?size=8", recipe=Recipe(batch=32, rate=1e30))
    assert not (tmp_path / "net").exists()
