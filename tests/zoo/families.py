"""torchvision's classification families and a choice of timm's, with random weights.

`SMALL` holds one member of each family, built from the family's own classes and narrow or shallow
enough for a float64 pass in a blink. `FULL` holds members as they are published, for slow runs and
benchmarks. Neither torchvision nor timm is imported before a network is built.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from tests.zoo.net import Expect, Net, image
from tests.zoo.shim import shim_torchvision

CLASSES = 10


def _vision(path: str = "") -> Any:
    shim_torchvision()
    return importlib.import_module("torchvision.models" + path)


def _torchvision(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: getattr(_vision(), name)(num_classes=CLASSES, **options)


def _timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        shim_torchvision()
        return importlib.import_module("timm").create_model(name, num_classes=CLASSES, **options)

    return build


def _narrow_classifier(build: Callable[[], nn.Module], features: int) -> Callable[[], nn.Module]:
    """AlexNet and VGG with 64 and 48 hidden units in place of 4096, which are never allocated."""

    def narrow() -> nn.Module:
        with torch.device("meta"):
            model = build()
        for layer in model.features.to_empty(device="cpu"):
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
        model.classifier = nn.Sequential(
            *(nn.Linear(features, 64), nn.ReLU(inplace=True), nn.Dropout()),
            *(nn.Linear(64, 48), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(48, CLASSES)),
        )
        return model

    return narrow


def _alexnet() -> nn.Module:
    return _vision(".alexnet").AlexNet(CLASSES)


def _vgg() -> nn.Module:
    vgg = _vision(".vgg")
    layers = (16, "M", 24, "M", 32, 32, "M", 40, 40, "M", 40, 48, "M")
    return vgg.VGG(vgg.make_layers(layers, batch_norm=True), CLASSES, init_weights=False)


def _bottlenecks(**options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        resnet = _vision(".resnet")
        return resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1], CLASSES, **options)

    return build


def _densenet() -> nn.Module:
    return _vision(".densenet").DenseNet(12, (3, 2, 3, 2), 24, num_classes=CLASSES)


def _convnext() -> nn.Module:
    convnext = _vision(".convnext")
    sizes = [(24, 32, 1), (32, 48, 2), (48, None, 1)]
    return convnext.ConvNeXt([convnext.CNBlockConfig(*s) for s in sizes], num_classes=CLASSES)


def _swin(version: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        swin = _vision(".swin_transformer")
        options: dict[str, Any] = {}
        if version == 2:
            merging = swin.PatchMergingV2
            options = {"block": swin.SwinTransformerBlockV2, "downsample_layer": merging}
        sizes = ([4, 4], 24, [2, 2], [2, 4], [4, 4])
        return swin.SwinTransformer(*sizes, num_classes=CLASSES, **options)

    return build


def _maxvit() -> nn.Module:
    # input, stem, partition, channels and layers of the blocks, head size, no stochastic depth
    sizes = ((64, 64), 16, 4, [16, 32], [1, 1], 8, 0.0)
    return _vision(".maxvit").MaxVit(*sizes, num_classes=CLASSES)


def _vit() -> nn.Module:
    # image, patch, layers, heads, width, hidden width
    return _vision(".vision_transformer").VisionTransformer(
        32, 8, 2, 3, 48, 80, num_classes=CLASSES
    )


def _timm_models(name: str) -> Any:
    shim_torchvision()
    return importlib.import_module("timm.models." + name)


def _timm_vgg() -> nn.Module:
    layers = (16, "M", 24, "M", 32, "M", 32, "M", 24, "M")
    norm = {"norm_layer": nn.BatchNorm2d}
    return _timm_models("vgg").VGG(list(layers), CLASSES, mlp_ratio=0.01, **norm)


def _timm_mixer() -> nn.Module:
    sizes = {"img_size": 64, "patch_size": 16, "num_blocks": 2, "embed_dim": 48}
    return _timm_models("mlp_mixer").MlpMixer(CLASSES, **sizes)


def _timm_nfnet() -> nn.Module:
    nfnet = _timm_models("nfnet")
    sizes = {
        "depths": (1, 1, 1, 1),
        "channels": (64, 64, 128, 128),
        "num_features": 160,
        "group_size": 16,
    }
    return nfnet.NormFreeNet(replace(nfnet.model_cfgs["nfnet_l0"], **sizes), CLASSES)


def _net(name: str, build: Callable[[], nn.Module], size: int = 64, units: int = 1) -> Net:
    return Net(name, build, image(3, size), Expect(units=units))


TORCHVISION = (
    _net("tv_alexnet", _narrow_classifier(_alexnet, 256 * 36)),
    _net("tv_vgg_bn", _narrow_classifier(_vgg, 48 * 49)),
    _net("tv_resnet18", _torchvision("resnet18")),
    _net("tv_resnet_bottleneck", _bottlenecks()),
    _net("tv_resnext", _bottlenecks(groups=32, width_per_group=4)),
    _net("tv_wide_resnet", _bottlenecks(width_per_group=128)),
    _net("tv_densenet", _densenet),
    _net("tv_mobilenet_v2", _torchvision("mobilenet_v2")),
    _net("tv_mobilenet_v3_small", _torchvision("mobilenet_v3_small")),
    _net("tv_efficientnet_b0", _torchvision("efficientnet_b0")),
    _net("tv_convnext", _convnext),
    _net("tv_vit", _vit, 32),
    _net("tv_swin", _swin(1)),
    _net("tv_swin_v2", _swin(2)),
    _net("tv_maxvit", _maxvit),
    _net("tv_googlenet", _torchvision("googlenet", init_weights=False)),
    _net("tv_inception_v3", _torchvision("inception_v3", init_weights=False), 75),
    _net("tv_squeezenet1_1", _torchvision("squeezenet1_1")),
    _net("tv_shufflenet_v2_x0_5", _torchvision("shufflenet_v2_x0_5")),
    _net("tv_regnet_x_400mf", _torchvision("regnet_x_400mf")),
    _net("tv_regnet_y_400mf", _torchvision("regnet_y_400mf")),
    _net("tv_mnasnet0_5", _torchvision("mnasnet0_5")),
)

_SMALL_VIT = {"img_size": 64, "embed_dim": 48, "depth": 2, "num_heads": 3}
TIMM = (
    _net("timm_vit_tiny", _timm("vit_tiny_patch16_224", **_SMALL_VIT)),
    _net("timm_deit_tiny_distilled", _timm("deit_tiny_distilled_patch16_224", **_SMALL_VIT)),
    _net("timm_mobilenetv2_050", _timm("mobilenetv2_050")),
    _net("timm_efficientnet_lite0", _timm("efficientnet_lite0")),
    _net("timm_vgg_bn", _timm_vgg),
    _net("timm_convnext_atto", _timm("convnext_atto", depths=(1, 1, 2, 1))),
    _net("timm_resnext26ts", _timm("resnext26ts")),
    _net("timm_regnety_002", _timm("regnety_002")),
    _net("timm_mixer", _timm_mixer),
    _net("timm_ghostnet_050", _timm("ghostnet_050")),
    _net("timm_repvgg_a0", _timm("repvgg_a0")),
    _net("timm_res2net", _timm("res2net50_26w_4s", layers=(1, 1, 1, 1))),
    _net("timm_xcit_nano", _timm("xcit_nano_12_p16_224", img_size=64, depth=2)),
    _net(
        "timm_swin",
        _timm(
            "swin_tiny_patch4_window7_224",
            img_size=64,
            window_size=4,
            embed_dim=24,
            depths=(2, 2),
            num_heads=(2, 4),
        ),
    ),
    _net("timm_mobilevit_xxs", _timm("mobilevit_xxs")),
    _net("timm_nfnet", _timm_nfnet),
)

SMALL = (*TORCHVISION, *TIMM)

FULL = (
    *(
        _net(f"torchvision:{name}", _torchvision(name))
        for name in (
            *("alexnet", "vgg11_bn", "vgg16", "resnet18", "resnet50", "resnext50_32x4d"),
            *("wide_resnet50_2", "densenet121", "mobilenet_v2", "mobilenet_v3_large"),
            *("efficientnet_b0", "convnext_tiny", "swin_t", "swin_v2_t", "squeezenet1_1"),
            *("shufflenet_v2_x1_0", "regnet_x_400mf", "regnet_y_400mf", "mnasnet1_0"),
        )
    ),
    _net("torchvision:resnet50@224", _torchvision("resnet50"), 224),
    _net("torchvision:googlenet", _torchvision("googlenet", init_weights=False)),
    _net("torchvision:inception_v3", _torchvision("inception_v3", init_weights=False), 96),
    _net("torchvision:vit_b_16", _torchvision("vit_b_16", image_size=64)),
    _net("torchvision:maxvit_t", _torchvision("maxvit_t"), 224),
    _net("timm:vit_tiny_patch16_224", _timm("vit_tiny_patch16_224", img_size=64)),
    _net("timm:deit_tiny_patch16_224", _timm("deit_tiny_patch16_224", img_size=64)),
    _net("timm:mixer_s32_224", _timm("mixer_s32_224", img_size=64)),
    _net("timm:coat_tiny", _timm("coat_tiny", img_size=64)),
    _net(
        "timm:swin_tiny_patch4_window7_224",
        _timm("swin_tiny_patch4_window7_224", img_size=64, window_size=4),
    ),
    _net("timm:levit_128s", _timm("levit_128s"), 224),
    _net("timm:gmlp_ti16_224", _timm("gmlp_ti16_224"), 224),
    *(
        _net(f"timm:{name}", _timm(name))
        for name in (
            *("mobilenetv2_100", "efficientnet_lite0", "vgg11_bn", "convnext_atto"),
            *("resnext50_32x4d", "regnety_002", "ghostnet_100", "repvgg_a0", "res2net50_26w_4s"),
            *("xcit_nano_12_p16_224", "mobilevit_xxs", "mobilevitv2_050", "nfnet_l0"),
            *("hrnet_w18_small", "poolformer_s12", "dla34"),
        )
    ),
)
