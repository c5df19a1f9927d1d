"""A network by its text: `file.py:factory`, `torchvision:NAME`, `hf:FOLDER`, `demo:NAME` ..."""

from __future__ import annotations

import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from secateur import demo
from secateur.errors import FileError, MissingExtraError, ModelError, OptionError, UnknownNameError
from secateur.lookup import call, check_options, literal, pick, split_options
from secateur.weights import check_finite, load_weights


def load(text: str, weights: str | Path | None = None) -> nn.Module:
    """The network that `text` names, in eval mode, its weights finite.

    `file.py:factory` and `package.module:factory` call the user's function (or take the network of
    that name); `torchvision:NAME` and `timm:NAME` build without fetching weights; `hf:FOLDER` reads
    a folder of transformers, safetensors only; `demo:NAME` is a trained network where its weights
    ship, else an untrained one. Options go to the factory: `net.py:make?width=8`; a demo network
    with options is untrained. Random weights follow `torch.manual_seed`.

    Args:
        weights: a .safetensors file for every parameter and buffer.

    Raises:
        SecateurError: of the kind that fits (UnknownNameError, FileError, ModelError, OptionError,
            MissingExtraError), with a hint. What the user's own code raises is passed on.
    """
    rest, options = split_options(text)
    kind, colon, name = rest.partition(":")
    if not (colon and kind and name):
        raise OptionError(
            f"cannot read the network {text!r}",
            hint="net.py:make, package.module:make, torchvision:resnet18, timm:NAME, hf:FOLDER "
            "or demo:resnet20",
        )
    values = {key: literal(value) for key, value in options.items()}
    if kind == "demo":
        model = _demo(text.removeprefix("demo:"), trained=weights is None)
    elif kind == "torchvision":
        model = _torchvision(name, values)
    elif kind == "timm":
        model = _timm(name, values)
    elif kind == "hf":
        check_options(options, (), text)
        model = _hf(Path(name), trained=weights is None)
    else:
        model = call(rest, **values)
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"gives a {type(model).__name__}, not a network",
            where=text,
            hint="return a torch.nn.Module; weights are given as a file of their own",
        )
    if weights is not None:
        load_weights(model, weights)
    check_finite(model, where=text)
    return model.eval()


def _demo(name: str, trained: bool) -> nn.Module:
    if trained and name in demo.PRETRAINED:
        return demo.pretrained(name)
    return demo.network(name)


def _torchvision(name: str, values: dict[str, Any]) -> nn.Module:
    models = _extra("torchvision.models", "vision")
    pick(name, dict.fromkeys(models.list_models()), "torchvision network")
    # without its default weights a segmentation network would still fetch those of its backbone
    backbone = {"weights_backbone": None} if name in _with_backbone(models) else {}
    return _built(f"torchvision:{name}", models.get_model, name, weights=None, **backbone, **values)


def _with_backbone(models: ModuleType) -> set[str]:
    return {
        *models.list_models(module=models.segmentation),
        *models.list_models(module=models.detection),
    }


def _timm(name: str, values: dict[str, Any]) -> nn.Module:
    timm = _extra("timm", "vision")
    pick(name, dict.fromkeys(timm.list_models()), "timm network")
    return _built(f"timm:{name}", timm.create_model, name, pretrained=False, **values)


def _hf(folder: Path, trained: bool) -> nn.Module:
    """A network of transformers from its folder; nothing is fetched, no code in it is run."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        name = config["architectures"][0]
    except OSError as error:
        raise FileError(
            f"no config.json that can be read: {error.strerror}",
            where=str(folder),
            hint="name a local folder, as save_pretrained writes it",
        ) from error
    except (ValueError, LookupError, TypeError) as error:
        raise FileError("config.json names no architecture", where=str(folder)) from error
    transformers = _extra("transformers", "hf")
    kind = getattr(transformers, name, None) if isinstance(name, str) else None
    if kind is None:
        raise UnknownNameError(f"transformers has no network {name!r}", where=str(folder))
    if not trained:
        return _built(f"hf:{folder}", kind, kind.config_class.from_pretrained(folder))
    if not any(folder.glob("*.safetensors")):
        raise FileError(
            "holds no .safetensors weights",
            where=str(folder),
            hint="save it again with save_pretrained(FOLDER, safe_serialization=True)",
        )
    return _built(
        f"hf:{folder}", kind.from_pretrained, folder, local_files_only=True, use_safetensors=True
    )


def _built(where: str, make: Any, *arguments: Any, **values: Any) -> nn.Module:
    """`make(...)`, with what a library says about its arguments as a `ModelError`."""
    try:
        model: nn.Module = make(*arguments, **values)
    except (TypeError, ValueError, AttributeError, RuntimeError, OSError) as error:
        raise ModelError(f"cannot be built: {error}", where=where) from error
    return model


def _extra(module: str, extra: str) -> ModuleType:
    """An optional package; one that is there but broken is reported in its own words."""
    try:
        return import_module(module)
    except (ImportError, RuntimeError) as error:
        there = find_spec(module.partition(".")[0]) is not None
        advice = (
            "it is installed, but does not fit this torch: install the build that pairs with it"
        )
        raise MissingExtraError(
            f"cannot import {module}: {error}",
            hint=advice if there else f"pip install 'secateur[{extra}]'",
        ) from error
