"""What bundles weigh: against the entropy of what they hold, safetensors + zstd, and NNCodec; and how fast.

    python benchmarks/bundle.py --mobilenet mobilenet_v2-b0353104.pth [--nncodec PYTHON]

Five networks: LeNet-300-100 with 90 % of its weights masked, float32; VGG-slim, and a VGG of four times its
width, with half of their kernels masked, 8 bits; MobileNetV2 with channels cut to half of its MACs, 8 bits;
LeNet-300-100 with a tenth of the weights of every row learned by DPP, one bit. Values are equal in all
files that are compared.

The limit is the empirical entropy, in bits, added up over

    masks     log2 C(n, k), of each row where every row keeps k of n, else of the tensor; also of every
              distinct vector of channels that were cut
    codes     order-0 entropy of the codes of each tensor of two dims or more, given its mask
    floats    order-0 entropy of each plane of bytes, the float turned left by one bit (docs/format.md):
              each tensor of two dims or more by itself; all vectors of the network together, and so all
              scales, since of a vector by itself most bytes occur once and its entropy is log2 of its length
    integers  order-0 entropy of each plane of bytes, all together

It holds no tables, no names, no header. "strict" takes every vector by itself. Sizes of bundles are those of
files, header and all, with the MODEL text. Speeds are megabytes of the dense network in float32 over CPU
seconds of one thread, of the fastest of five: others may be at work. Writes benchmarks/results/bundle.json.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import zstandard
from networks import parts, trained
from torch import Tensor, nn

import secateur as sec
from secateur import demo, models
from secateur.files import write_text
from secateur.learn.quantize import Quantizer, along
from secateur.mask.check import named_tensors
from secateur.mask.cut import cut_of
from secateur.pipeline.environment import environment
from secateur.pipeline.rounding import Rounding
from secateur.types.dataset import Dataset

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

OUT = Path("benchmarks/results/bundle.json")
REPEATS = 5
IMAGE = torch.zeros(1, 1, 28, 28)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A network to pack.

    Attributes:
        name: for the table.
        dense: before pruning.
        small: after; its weights of two dims or more lie on the grid of `bits`, if there are some.
        model: the MODEL text.
        rows: whether every row of a masked weight keeps equally many.
    """

    name: str
    dense: nn.Module
    small: nn.Module
    plan: sec.Plan
    model: str
    bits: int | None = None
    rows: bool = False


def main() -> None:
    """Prune, pack, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mobilenet", type=Path, default=None)
    parser.add_argument("--nncodec", type=Path, default=None, help="a Python that has nncodec")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    makers: list[Callable[[], Case]] = [_lenet, _vgg_slim, _vgg, _dpp]
    if asked.mobilenet is not None:
        makers.append(lambda: _mobilenet(asked.mobilenet))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for make in makers:
            rows.append(_row(make(), Path(folder), asked.nncodec))
            print({name: v for name, v in rows[-1].items() if name != "tensors"}, flush=True)
    command = "python benchmarks/bundle.py"
    command += f" --mobilenet {asked.mobilenet.name}" if asked.mobilenet else ""
    command += " --nncodec PYTHON" if asked.nncodec else ""
    record = {"command": command, "machine": environment(), "rows": rows}
    write_text(OUT, json.dumps(record, indent=1) + "\n")


def _pruned(
    model: nn.Module, example: Any, granularity: Any, budget: Any
) -> tuple[nn.Module, sec.Plan]:
    groups = sec.groups(model, example, granularity)
    scores = sec.score(model, groups, None, [sec.Magnitude()])
    plan = sec.allocate(groups, scores, sec.Ranked(by="magnitude", floor=0.05), budget)
    return sec.shrink(model, plan).eval(), plan


def _lenet() -> Case:
    model = trained("lenet300", 0)
    small, plan = _pruned(model, IMAGE, sec.Weights(), sec.units(0.1))
    return Case(
        "LeNet-300-100, 90 % of weights masked, float32", model, small, plan, "demo:lenet300"
    )


def _vgg_slim() -> Case:
    return _fewer_kernels("vgg-slim", "VGG-slim")


def _vgg() -> Case:
    return _fewer_kernels("vgg-slim?width=64", "VGG of width 64")


def _fewer_kernels(network: str, name: str) -> Case:
    model = trained(network, 0)
    small, plan = _pruned(model, IMAGE, sec.Kernels(), sec.units(0.5))
    name = f"{name}, half of kernels masked, 8 bits"
    return Case(name, model, _quantised(small, 8), plan, f"demo:{network}", 8)


def _mobilenet(weights: Path) -> Case:
    from tests.zoo.shim import shim_torchvision

    shim_torchvision()  # before torchvision is imported
    model = models.load("torchvision:mobilenet_v2")
    model.load_state_dict(torch.load(weights, weights_only=True))
    small, plan = _pruned(model, torch.zeros(1, 3, 224, 224), sec.Channels(), sec.macs(0.5))
    name = "MobileNetV2, channels cut to half the MACs, 8 bits"
    return Case(name, model, _quantised(small, 8), plan, "torchvision:mobilenet_v2", 8)


def _dpp() -> Case:
    model = demo.network("lenet300").eval()
    ours = parts()
    result = sec.prune(
        model,
        IMAGE,
        Dataset("demo:fashion-mini", ours.train, ours.test),
        method=sec.Dpp(bits=1, epochs=5),
        granularity=sec.Weights(),
        to="units=0.1",
    )
    name = "LeNet-300-100, DPP, a tenth of every row, one bit"
    return Case(name, model, result.model, result.plan, "demo:lenet300", 1, rows=True)


def _quantised(model: nn.Module, bits: int) -> nn.Module:
    with torch.no_grad():
        own = named_tensors(model)
        parameters = dict(model.named_parameters()).keys()
        for name, tensor in Rounding(bits).of(own, parameters).items():
            own[name].copy_(tensor)
    return model


def _row(case: Case, folder: Path, nncodec: Path | None) -> dict[str, Any]:
    path = folder / "net.sct"
    told = sec.pack(case.small, path, plan=case.plan, model=case.model)
    found = sec.unpack(path, case.dense)
    back = named_tensors(found)
    for name, tensor in named_tensors(case.small).items():
        if _bits(tensor) != _bits(back[name]):
            raise SystemExit(f"{case.name}: {name} did not come back as it was")
    limit, strict = _limit(case, together=True), _limit(case, together=False)
    dense = sum(4 * parameter.numel() for parameter in case.dense.parameters())
    others = {"safetensors, float32": _zstd(dict(named_tensors(case.small)))}
    codes = _codes(case)
    if case.bits is not None:
        others["safetensors, codes as int8 and scales"] = _zstd(codes)
    if nncodec is not None and case.bits is not None:  # it rounds all floats
        others["NNCodec"] = _nncodec(nncodec, codes, folder)
    pack = _fastest(lambda: sec.pack(case.small, path, plan=case.plan, model=case.model))
    unpack = _fastest(lambda: sec.unpack(path, case.dense))
    return {
        "network": case.name,
        "dense_bytes": dense,
        "bundle_bytes": told.bytes,
        "header_bytes": told.header,
        "limit_bytes": limit,
        "over_limit": told.bytes / limit - 1,
        "strict_limit_bytes": strict,
        "others_bytes": others,
        "pack_mb_per_s": dense / 1e6 / pack,
        "unpack_mb_per_s": dense / 1e6 / unpack,
        "codings": {tensor.name: [tensor.coding, tensor.bytes] for tensor in told.tensors},
    }


def _fastest(work: Callable[[], object]) -> float:
    found = []
    for _ in range(REPEATS):
        begin = time.process_time()
        work()
        found.append(time.process_time() - begin)
    return min(found)


def _codes(case: Case) -> dict[str, Tensor]:
    """What has to be stored: codes and scales where weights lie on a grid, else the tensors."""
    stored = {}
    parameters = dict(case.small.named_parameters()).keys()
    for name, tensor in named_tensors(case.small).items():
        if case.bits is None or name not in parameters or tensor.dim() < 2:
            stored[name] = tensor
            continue
        quantizer = Quantizer(case.bits)
        scale = quantizer.scale(tensor)
        codes = quantizer.round(tensor, scale)
        if not torch.equal(codes * along(scale, tensor.dim()), tensor):
            raise SystemExit(f"{case.name}: {name} is not on its grid")
        stored[f"{name} scale"], stored[name] = scale, codes.to(torch.int8)
    return stored


def _limit(case: Case, *, together: bool) -> float:
    """Bytes."""
    bits, pools = 0.0, defaultdict[tuple[str, int], list[np.ndarray]](list)
    for name, tensor in _codes(case).items():
        values = tensor.detach()
        matrix = values.dim() > 1
        if matrix:
            live = values != 0
            bits += _mask_bits(live, case)
            values = values[live]
        for number, plane in enumerate(_planes(values)):
            key = "scale" if name.endswith(" scale") else str(values.dtype)
            pools[(name if matrix or not together else key), number].append(plane)
    bits += sum(_entropy(np.concatenate(pool)) for pool in pools.values())
    vectors = {
        vector.numpy().tobytes(): vector
        for dims in cut_of(case.plan).kept.values()
        for vector in dims.values()
    }
    bits += sum(_binomial(v.numel(), int(v.sum())) for v in vectors.values())
    return bits / 8


def _mask_bits(live: Tensor, case: Case) -> float:
    """Of the units of a tensor: kernels where they are masked, else single numbers."""
    if bool(live.all()):
        return 0.0
    kind = next(iter(case.plan.groups)).kind
    if kind == "kernel" and live.dim() == 4:
        units = live.any(3).any(2)
        inside = live[units]
        return _binomial(units.numel(), int(units.sum())) + _binomial(
            inside.numel(), int(inside.sum())
        )
    rows = live.flatten(1)
    counts = rows.sum(1)
    if case.rows and bool((counts == counts[0]).all()):
        return len(rows) * _binomial(rows.shape[1], int(counts[0]))
    return _binomial(live.numel(), int(live.sum()))


def _binomial(n: int, k: int) -> float:
    logs = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return logs / math.log(2)


def _planes(values: Tensor) -> list[np.ndarray]:
    size = values.element_size()
    flat = values.contiguous().reshape(-1).view(torch.uint8).numpy()
    if values.is_floating_point() and size > 1:
        whole = flat.view(f"<u{size}")
        flat = (whole << 1 | whole >> (8 * size - 1)).view(np.uint8)
    return list(flat.reshape(-1, size).T)


def _entropy(symbols: np.ndarray) -> float:
    counts = np.bincount(symbols)
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / max(1, counts.sum()))).sum())


def _bits(tensor: Tensor) -> bytes:
    flat = tensor.detach().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy())


def _zstd(tensors: dict[str, Tensor]) -> int:
    content = safetensors.torch.save({n: t.detach().contiguous() for n, t in tensors.items()})
    return len(zstandard.ZstdCompressor(level=19).compress(content))


def _nncodec(python: Path, codes: dict[str, Tensor], folder: Path) -> Any:
    """Bytes, or why there are none."""
    source = folder / "codes.safetensors"
    safetensors.torch.save_file({n: t.detach().contiguous() for n, t in codes.items()}, source)
    worker = Path(__file__).parent / "_bundle_nncodec.py"
    done = subprocess.run(
        [python, worker, source], capture_output=True, text=True, check=False, timeout=900
    )
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else done.stderr[-300:]


if __name__ == "__main__":
    main()
