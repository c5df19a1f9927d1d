"""What each verb can be asked: one frozen value a verb, whose fields are its options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

Model = Annotated[
    str,
    Argument(
        metavar="MODEL",
        help="file.py:factory, package.module:factory, torchvision:NAME, timm:NAME, hf:FOLDER or "
        "demo:NAME; options follow as ?width=8",
        show_default=False,
    ),
]
Weights = Annotated[
    str | None, Option(metavar="FILE", help="A .safetensors file of the network's weights.")
]
Data = Annotated[
    str | None,
    Option(
        metavar="DATA",
        help="demo:NAME, folder:PATH (one folder per class), npz:FILE, idx:FOLDER or "
        "file.py:factory.",
    ),
]
Example = Annotated[
    str | None,
    Option(
        metavar="SHAPE",
        help="Run the network on random numbers of this shape, as 2x1x28x28, instead of on the "
        "data's first sample.",
    ),
]
Granularity = Annotated[
    str,
    Option(
        metavar="NAME",
        help="channels, heads, experts, weights, kernels, or block:K:N[:DIM] (K of every N).",
    ),
]
Keep = Annotated[
    list[str] | None,
    Option(metavar="NAME", help="A layer or glob that stays whole; may be given several times."),
]
Samples = Annotated[
    int,
    Option(metavar="N", min=1, help="Training samples that scoring and recalibration see at most."),
]
Seed = Annotated[int, Option(metavar="N", help="Of everything that is drawn.")]
Run = Annotated[
    Path, Argument(metavar="RUN", help="The folder that prune wrote.", show_default=False)
]
Json = Annotated[bool, Option("--json", help="One JSON document on stdout, nothing else.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspect:
    """Show what can be pruned, and what cannot and why."""

    model: Model
    weights: Weights = None
    data: Data = None
    example: Example = None
    granularity: Granularity = "channels"
    keep: Keep = None
    json: Json = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Score every unit once; `prune --scores` then decides for any budget without data.

    Exit code 0: done; 2: it could not run, and no file was written.
    """

    model: Model
    weights: Weights = None
    data: Data = None
    example: Example = None
    method: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="As `secateur methods` lists them, or file.py:Name. Not given: taylor.",
        ),
    ] = None
    saliency: Annotated[
        list[str] | None,
        Option(
            metavar="NAME",
            help="In the place of a method; may be given several times: all are scored in one pass.",
        ),
    ] = None
    granularity: Granularity = "channels"
    keep: Keep = None
    samples: Samples = 4096
    seed: Seed = 0
    out: Annotated[
        Path,
        Option("--out", "-o", metavar="FILE", help="The .safetensors file to write.",
               show_default=False),
    ]  # fmt: skip
    json: Json = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """Prune a network until it fits its budgets, and prove what was removed.

    Killed at any moment and started again, it goes on where it was, and ends with the same bytes.

    Exit code 0: done; 1: done, but a budget was missed or the certificate does not hold;
    2: it could not run, and the folder is as it was.
    """

    model: Model
    weights: Weights = None
    data: Data = None
    example: Example = None
    method: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="As `secateur methods` lists them, or file.py:Name. Not given: taylor, or the "
            "first of the scores.",
        ),
    ] = None
    scores: Annotated[
        str | None,
        Option(
            metavar="FILE",
            help="Decide by what `secateur score` wrote, or by the scores in the folder of a run: "
            "then no data are needed.",
        ),
    ] = None
    to: Annotated[
        list[str] | None,
        Option(
            metavar="BUDGET",
            help="What must hold, as what is kept: macs=0.5, params=200k, units=0.4, bytes=200kB, "
            "memory=2MB, latency=0.5, accuracy=-1.0 (points that may be lost); may be given several times.",
        ),
    ] = None
    granularity: Granularity = "channels"
    keep: Keep = None
    allocator: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="ranked (over the whole network, the default), uniform, knapsack, or "
            "tolerance?protect=NAME.",
        ),
    ] = None
    floor: Annotated[
        str,
        Option(metavar="X", help="What stays of every group: 0.1 is a tenth of it, 4 four units."),
    ] = "1"
    round_to: Annotated[int, Option(metavar="N", min=1, help="Widths become multiples of N.")] = 1
    samples: Samples = 4096
    repair: Annotated[
        list[str] | None,
        Option(
            metavar="NAME",
            help="fold_means or least_squares: give layers back what they miss, without labels; may be "
            "given several times; none: not even the method's own.",
        ),
    ] = None
    recalibrate: Annotated[
        bool | None,
        Option(
            "--recalibrate/--no-recalibrate",
            help="Measure the statistics of BatchNorms again; not given: unless least squares repaired.",
        ),
    ] = None
    finetune: Annotated[
        int, Option(metavar="EPOCHS", min=0, help="Epochs of training on, after that.")
    ] = 0
    bits: Annotated[
        int | None,
        Option(
            metavar="N",
            help="8, 4, 2 or 1 for each weight, as the last step of all; dpp trains the weights with them.",
        ),
    ] = None
    rounding: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="How --bits are reached: nearest, or calibrated on the data, without labels. Not given: "
            "calibrated if there are data. With it dpp trains in float32, and rounds in the end.",
        ),
    ] = None
    measure: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="counted: only what needs no timing and no packing; `secateur measure RUN` does the "
            "rest later. Not given: all.",
        ),
    ] = None
    runtime: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="What latencies are taken on: eager, compile, onnxruntime or openvino, on the CPU. Not "
            "given: PyTorch as it is.",
        ),
    ] = None
    batch: Annotated[
        int | None,
        Option(metavar="N", min=1, help="Samples that a latency is of. Not given: the example's."),
    ] = None
    threads: Annotated[
        int | None, Option(metavar="N", min=1, help="That a latency is taken with. Not given: 1.")
    ] = None
    layers: Annotated[
        bool | None,
        Option(
            "--layers/--no-layers",
            help="Aim at a latency, and round widths, by measured times of single layers, which are kept "
            "for the next time in $SECATEUR_CACHE; not given: with --runtime, unless that is compile.",
        ),
    ] = None
    seed: Seed = 0
    out: Annotated[
        Path,
        Option("--out", "-o", metavar="RUN", help="The folder to write, new or empty.",
               show_default=False),
    ]  # fmt: skip
    json: Json = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """Check a run: every file's hash, and the certificate once more against the dense network."""

    run: Run
    json: Json = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """Measure a run again, here and now; the folder is left as it is."""

    run: Run
    json: Json = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Time a run's dense and pruned network in turns, in every installed runtime.

    Exit code 0: done; 2: it could not run, or a runtime that was asked for is not installed.
    """

    run: Run
    batch: Annotated[
        list[int] | None,
        Option(metavar="N", help="May be given several times. Not given: 1 and 16."),
    ] = None
    runtime: Annotated[
        list[str] | None,
        Option(
            metavar="NAME",
            help="eager, compile, onnxruntime or openvino; may be given several times. Not given: all "
            "that are installed.",
        ),
    ] = None
    threads: Annotated[
        int, Option(metavar="N", min=1, help="Of every runtime; 1 is honest on a shared machine.")
    ] = 1
    repeats: Annotated[int, Option(metavar="N", min=1, help="Of each network.")] = 50
    json: Json = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Write a run's network for another runtime, load it back there, and compare it with PyTorch.

    Exit code 0: done; 2: it could not, or the two differ by more than is allowed: no file was written.
    """

    run: Run
    format: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="onnx, torch, openvino or executorch, with options as onnx?opset=20, or file.py:Name. "
            "Not given: by the ending of FILE.",
        ),
    ] = None
    tolerance: Annotated[
        float | None,
        Option(
            metavar="X",
            help="The difference that is allowed of each output, over its largest element. Not given: "
            "1e-4; 2e-3 where outputs are float16, 2e-2 where they are bfloat16.",
        ),
    ] = None
    out: Annotated[
        Path,
        Option("--out", "-o", metavar="FILE", help="The file to write; its certificate lies beside it.",
               show_default=False),
    ]  # fmt: skip
    json: Json = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """Write a run's network as a bundle: one small file, for thin links.

    Nothing is lost unless --bits or --dtype round the weights.

    Exit code 0: done; 2: it could not run, and no file was written.
    """

    run: Run
    base: Annotated[
        list[str] | None,
        Option(
            metavar="OLD.sct",
            help="A bundle that the receiver has: only what differs is written. Where that is a "
            "difference itself, its own base follows as another --base.",
        ),
    ] = None
    bits: Annotated[
        int | None,
        Option(metavar="N", help="8, 4, 2 or 1 for each weight, rounded to the nearest."),
    ] = None
    dtype: Annotated[
        str | None, Option(metavar="NAME", help="bfloat16 or float16, for all other floats.")
    ] = None
    bare: Annotated[
        bool, Option("--bare", help="The network alone: nothing to verify it by, or to measure it.")
    ] = False
    out: Annotated[
        Path,
        Option("--out", "-o", metavar="FILE", help="The file to write, as net.sct.",
               show_default=False),
    ]  # fmt: skip
    json: Json = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpack:
    """Make the folder of a run again from a bundle, for rebuild, verify and measure.

    Exit code 0: done; 2: it could not run, and the folder is as it was.
    """

    file: Annotated[
        Path, Argument(metavar="FILE", help="A bundle, as net.sct.", show_default=False)
    ]
    model: Annotated[
        str | None,
        Option(
            metavar="MODEL",
            help="The dense network here, where the bundle's own text does not name it.",
        ),
    ] = None
    base: Annotated[
        list[str] | None,
        Option(metavar="OLD.sct", help="What a difference was packed against, as for pack."),
    ] = None
    trust: Annotated[
        bool, Option("--trust", help="Run code of yours that the bundle names, as net.py:make.")
    ] = False
    out: Annotated[
        Path,
        Option("--out", "-o", metavar="RUN", help="The folder to write, new or empty.",
               show_default=False),
    ]  # fmt: skip
    json: Json = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """Train a demo network; killed and started again, it goes on after its last whole epoch."""

    model: Annotated[
        str, Argument(metavar="demo:NAME", help="As demo:resnet20.", show_default=False)
    ]
    data: Annotated[
        str | None, Option(metavar="DATA", help="The network's own data where not given.")
    ] = None
    epochs: Annotated[int, Option(metavar="N", min=1)] = 10
    seed: Annotated[int, Option(metavar="N")] = 0
    out: Annotated[
        Path | None,
        Option("--out", "-o", metavar="FILE", help="Where the weights go; NAME.safetensors here."),
    ] = None
    json: Json = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Methods:
    """List the saliencies, allocators, granularities and recipes, with their papers."""

    json: Json = False
