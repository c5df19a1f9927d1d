"""secateur prunes PyTorch networks until they fit a budget that was measured.

The names below are loaded when they are first used: `secateur --help` must not wait for torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

_HOMES = {
    "secateur.accelerate": "accelerate",
    "secateur.allocate": (
        "ByIndex Knapsack RankSum Ranked Steps Tolerance Uniform allocate tolerance_of_difference"
    ),
    "secateur.errors": "SecateurError",
    "secateur.export": "ExecuTorch Onnx OpenVino TorchProgram export",
    "secateur.find": "groups",
    "secateur.granularity": "Block Channels Experts Heads Kernels Weights",
    "secateur.learn": (
        "Course EntropyPenalty Gated LinearDecay Quantizer Sampler fake_quantized gate information"
    ),
    "secateur.mask": "Certificate certify masked shrink",
    "secateur.pipeline": "Result pack prune rebuild unpack",
    "secateur.quantize": "quantize",
    "secateur.recover": "AdamW Cosine SGD Teacher finetune fold_means least_squares recalibrate",
    "secateur.compose": "AsIs BestOf Blend MaxAbs MinMax Product Rank Scope Share Veto",
    "secateur.recipes": "Dpp Fair FlexRel Oracle",
    "secateur.compose.objective": "LossPerWeight LowestLoss",
    "secateur.saliency.lrp": ("Epsilon EpsilonPlus GradTimesActivation Predicted TrueLabel ZPlus"),
    "secateur.saliency": (
        "APoZ ActivationTaylor BatchFisher BatchNormScale Domino Fisher GeometricMedian"
        " HessianDiagonal LAMP Lowest Magnitude MeanActivation MeanGradient MeanSquaredWeights Need"
        " Random Reconstruction Relevance Saliency Taylor Utilization Wanda merge score"
    ),
    "secateur.runtime": "LayerTable OnnxRuntime OpenVinoF32 Stopwatch TorchCompile TorchEager",
    "secateur.types": "Budget Group Groups Plan Scores",
    "secateur.types.budget": "accuracy latency macs memory nbytes params units",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}
__all__ = sorted(_HOME)  # noqa: PLE0605 - listed once; the stub beside this file spells it out


class _Face(ModuleType):
    """A package whose public names win over its folders: `sec.allocate` is the function."""

    def __setattr__(self, name: str, value: object) -> None:
        # Python sets a folder as an attribute of its package, whoever imports it first.
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Face


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
