"""Few bits as the last stage: of any method, in a run, in a bundle, and under budgets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import secateur as sec
from secateur import data as any_data
from secateur.errors import DataError, OptionError, UnknownNameError
from secateur.learn import codes
from secateur.mask.check import named_tensors
from secateur.pipeline import Progress, rebuild, remeasure, run, unpack_run, verify
from secateur.pipeline.job import job
from tests.pipeline.small import data, digests, net, request


def failed(folder: Path) -> list[str]:
    return [check.what for check in verify(folder, any_data.load) if not check.holds]


def pruned(**choices: Any) -> sec.Result:
    values = {"method": "magnitude", "to": "macs=0.6", "samples": 200, **choices}
    return sec.prune(net(), data=data(), **values)


@pytest.mark.parametrize(
    "choices",
    [
        {"granularity": "channels", "method": "taylor"},
        {"granularity": "weights"},
        {"granularity": "kernels"},
        {"granularity": "block:2:4", "to": None},
        {"method": "fair"},
        {"repair": "least_squares", "finetune": 1},
    ],
    ids=str,
)
def test_every_method_can_end_in_four_bits(choices: dict[str, Any]) -> None:
    floats, found = pruned(**choices), pruned(bits=4, **choices)
    stages = list(found.measures["pruned"]["accuracy"])
    assert stages == [*floats.measures["pruned"]["accuracy"], "quantized"]
    assert found.measures["quantized"]["bits"] == 4
    assert found.measures["quantized"]["calibrated"]
    before = named_tensors(floats.model)
    for name, tensor in found.model.named_parameters():
        if tensor.dim() < 2:
            assert torch.equal(tensor, before[name])
            continue
        assert not bool(tensor[before[name] == 0].any())
        assert all(len(row.abs().unique()) <= 8 for row in tensor.flatten(1))
    sizes = [each.measures["pruned"]["packed_bytes"] for each in (floats, found)]
    assert sizes[1] < 0.7 * sizes[0]
    assert "quantised" in str(found)


def test_to_the_nearest_is_what_the_quantiser_says_of_the_floats() -> None:
    floats = pruned(bits=None)
    found = pruned(bits=sec.Quantizer(2, per_channel=False), rounding="nearest")
    for name, tensor in floats.model.named_parameters():
        wanted = tensor
        if tensor.dim() > 1:
            wanted = codes(tensor.detach(), sec.Quantizer(2, per_channel=False)).values()
        assert torch.equal(found.model.get_parameter(name), wanted)
    assert found.measures["quantized"]["calibrated"] == []


def test_statistics_follow_unless_they_are_left_alone() -> None:
    follow, left = pruned(bits=2), pruned(bits=2, recalibrate=False)
    one, other = named_tensors(follow.model), named_tensors(left.model)
    dense = named_tensors(sec.shrink(net(), left.plan))
    assert torch.equal(other["stem.1.running_mean"], dense["stem.1.running_mean"])
    assert not torch.equal(one["stem.1.running_mean"], other["stem.1.running_mean"])


def test_without_data_it_is_the_nearest() -> None:
    found = sec.prune(net(), torch.randn(2, 1, 8, 8), method="magnitude", to="macs=0.6", bits=4)
    assert found.measures["quantized"]["calibrated"] == []
    with pytest.raises(DataError, match="calibrated rounding"):
        sec.prune(
            net(), torch.randn(2, 1, 8, 8), method="magnitude", to="macs=0.6", bits=4,
            rounding="calibrated",
        )  # fmt: skip


def test_what_makes_no_sense_is_refused_before_anything_runs() -> None:
    with pytest.raises(OptionError, match="bits=3"):
        job("taylor", "macs=0.5", bits=3)
    with pytest.raises(OptionError, match="how many bits"):
        job("taylor", "macs=0.5", rounding="nearest")
    with pytest.raises(UnknownNameError, match="calibrated"):
        job("taylor", "macs=0.5", bits=4, rounding="calibrate")
    with pytest.raises(OptionError, match="own quantiser"):
        job("dpp", "units=0.5", bits=sec.Quantizer(4))
    with pytest.raises(OptionError, match="off their 4 bits"):
        job("dpp?bits=4", "units=0.5", bits=8, rounding="nearest")
    assert job("dpp", "units=0.5", bits=4).quantizer is None
    assert job("dpp", "units=0.5", bits=4, rounding="nearest").quantizer == sec.Quantizer(4)


@pytest.mark.parametrize(
    "changes",
    [
        {"bits": 4, "finetune": 0},
        {"bits": 4, "finetune": 0, "rounding": "nearest"},
        {"bits": 2, "finetune": 1, "granularity": "weights", "to": ("params=0.3",)},
    ],
    ids=str,
)
def test_a_run_is_verified_packed_and_measured(changes: dict[str, Any], tmp_path: Path) -> None:
    result = run(request(**changes), tmp_path / "run", data())
    assert failed(tmp_path / "run") == []
    small = rebuild(tmp_path / "run")
    sec.pack(tmp_path / "run", tmp_path / "n.sct")
    found = unpack_run(tmp_path / "n.sct", tmp_path / "again", trust=True)
    for name, tensor in named_tensors(result.model).items():
        assert torch.equal(named_tensors(small)[name], tensor)
        assert torch.equal(named_tensors(found)[name], tensor)
    assert failed(tmp_path / "again") == []
    now = remeasure(tmp_path / "run", any_data.load)
    assert (
        now["pruned"]["accuracy"]["quantized"] == result.measures["pruned"]["accuracy"]["quantized"]
    )
    assert now["quantized"] == json.loads(json.dumps(result.measures["quantized"]))
    assert f"--bits {changes['bits']}" in request(**changes).command()


def test_a_weight_off_its_codes_is_seen(tmp_path: Path) -> None:
    from secateur.pipeline.few_bits import few_bits

    result = run(request(bits=4, finetune=0), tmp_path / "run", data())
    floats = sec.shrink(net(), result.plan)
    assert few_bits(result.model, None, sec.Quantizer(4), nearest=False).holds
    with torch.no_grad():
        result.model.outer.weight[0, 0] += torch.randn(3, 3)
    seen = few_bits(result.model, None, sec.Quantizer(4), nearest=False)
    assert not seen.holds
    assert "outer.weight" in seen.seen
    assert not few_bits(floats, floats, sec.Quantizer(4), nearest=True).holds


@pytest.mark.parametrize("stage", ["quantize", "accuracy, quantised", "latency"])
def test_a_killed_run_ends_with_the_same_bytes(stage: str, tmp_path: Path) -> None:
    def unplug(now: Progress) -> None:
        if now.stage == stage:
            raise KeyboardInterrupt

    asked = request(bits=2, finetune=1)
    run(asked, tmp_path / "whole", data())
    with pytest.raises(KeyboardInterrupt):
        run(asked, tmp_path / "killed", data(), unplug)
    run(asked, tmp_path / "killed", data())
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")
    accuracies = [
        json.loads((tmp_path / name / "measures.json").read_text())["pruned"]["accuracy"]
        for name in ("whole", "killed")
    ]
    assert accuracies[0] == accuracies[1]


def test_budgets_are_measured_with_the_bits() -> None:
    whole = pruned(to="macs=0.9").measures
    found = pruned(to=f"bytes={whole['dense']['packed_bytes'] // 4}", bits=4)
    (budget,) = found.measures["budgets"]
    assert budget["met"]
    assert found.measures["pruned"]["macs"] > 0.9 * whole["dense"]["macs"]  # bits alone do it
