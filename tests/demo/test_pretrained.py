from __future__ import annotations

from importlib import resources

import pytest
import torch

from secateur import data, demo
from secateur.data import Split
from secateur.errors import UnknownNameError
from secateur.measure.accuracy import accuracy

FOLDER = resources.files("secateur.demo") / "checkpoints"


@pytest.fixture(scope="module")
def test_part() -> Split:
    part = data.load("demo:fashion-mini").test
    assert isinstance(part, Split)
    return part


@pytest.mark.parametrize("name", demo.PRETRAINED)
def test_each_is_as_good_as_it_says(name: str, test_part: Split) -> None:
    model = demo.pretrained(name)
    assert not model.training
    reached = accuracy(model, test_part.batches(500)).value
    how = demo.trained_how(name)
    assert reached >= 0.90
    # 2,000 of the 10,000 images of which the accuracy is recorded: within three standard errors
    said = how["test_accuracy"]
    assert abs(reached - said) < 3 * (said * (1 - said) / len(test_part)) ** 0.5
    assert not torch.equal(next(model.parameters()), next(demo.network(name).parameters()))


@pytest.mark.parametrize("name", demo.PRETRAINED)
def test_each_says_how_it_was_made(name: str) -> None:
    how = demo.trained_how(name)
    config = how["config"]
    assert how["command"] == (
        f"secateur train demo:{name} --data demo:fashion-mnist "
        f"--epochs {config['epochs']} --seed {config['seed']}"
    )
    # trained on the official training part, of which fashion-mini's test part holds nothing
    assert config["data"] == "demo:fashion-mnist"
    assert how["test_samples"] == 10_000
    assert (FOLDER / f"{name}.safetensors").stat().st_size < 1.5e6  # type: ignore[attr-defined]


def test_no_trained_weights_under_that_name() -> None:
    hint = r"resnet20, vgg-slim.*secateur train demo:lenet5"
    for ask in (demo.pretrained, demo.trained_how):
        with pytest.raises(UnknownNameError, match=hint):
            ask("lenet5")
