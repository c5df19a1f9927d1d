from __future__ import annotations

import pytest
import torch

from secateur import demo
from secateur.errors import OptionError, UnknownNameError

PARAMETERS = {  # counted by hand from the papers' widths
    "lenet300": 28 * 28 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10,
    "lenet5": 20 * 26 + 50 * (20 * 25 + 1) + 500 * (800 + 1) + 10 * 501,
    "vgg-slim": 9 * (16 + 16 * 32 + 32 * 64 + 64 * 64) + 2 * (16 + 32 + 64 + 64) + 650,
}


@pytest.mark.parametrize("name", sorted(demo.DEMO_NETWORKS))
def test_each_takes_what_its_data_give_and_learns_from_all_of_it(name: str) -> None:
    model = demo.network(name)
    x = torch.randn(4, 1, 28, 28)
    logits = model(x)
    assert logits.shape == (4, 10)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    row = demo.DEMO_NETWORKS[name]
    assert row.data == "demo:fashion-mini"
    count = sum(p.numel() for p in model.parameters())
    assert count == PARAMETERS.get(name, count)
    assert f"{count / 1000:.0f} k parameters" in row.about or name.startswith("lenet")


@pytest.mark.parametrize(
    ("text", "shape", "classes"),
    [
        ("lenet300?channels=3&size=8&classes=4", (3, 8, 8), 4),
        ("lenet5?channels=2&size=20", (2, 20, 20), 10),
        ("vgg-slim?width=4&channels=3", (3, 32, 32), 10),
        ("resnet20?width=4&classes=2", (1, 8, 8), 2),
        ("resnet56?width=2", (1, 28, 28), 10),
        ("mobilenet?width=8&channels=3", (3, 32, 32), 10),
    ],
)
def test_options_change_what_they_say(text: str, shape: tuple[int, ...], classes: int) -> None:
    assert demo.network(text)(torch.randn(2, *shape)).shape == (2, classes)


def test_the_depth_of_a_resnet_counts_its_layers() -> None:
    for name, depth in (("resnet20", 20), ("resnet56", 56), ("resnet20?depth=8", 8)):
        layers = [
            module
            for where, module in demo.network(name).named_modules()
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear) and "shortcut" not in where
        ]
        assert len(layers) == depth


def test_the_weights_follow_the_seed() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.nn.utils.parameters_to_vector(demo.network("vgg-slim").parameters())

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("resnet2", UnknownNameError, "resnet20"),
        ("", UnknownNameError, "known are lenet300"),
        ("resnet20?depth=21", OptionError, r"6n \+ 2"),
        ("resnet20?wide=3", OptionError, r"no option 'wide'\n.*width"),
        ("lenet300?width=3", OptionError, "no option 'width'"),
        ("resnet20?width=0", OptionError, "whole number from 1"),
        ("resnet20?width=1.5", OptionError, "whole number from 1"),
        ("resnet20?width=true", OptionError, "whole number from 1"),
        ("lenet5?size=12", OptionError, "16 pixels"),
    ],
)
def test_networks_that_do_not_exist(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        demo.network(text)
