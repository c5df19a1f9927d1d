"""Torch's own modules: which of their int attributes repeat a size of their parameters."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from secateur.types.equation import Attribute

# module class → attribute → (tensor, dim)
_SIZES: dict[type[nn.Module], dict[str, tuple[str, int]]] = {
    nn.Linear: {"out_features": ("weight", 0), "in_features": ("weight", 1)},
    nn.Bilinear: {
        "out_features": ("weight", 0),
        "in1_features": ("weight", 1),
        "in2_features": ("weight", 2),
    },
    nn.Embedding: {"num_embeddings": ("weight", 0), "embedding_dim": ("weight", 1)},
    nn.EmbeddingBag: {"num_embeddings": ("weight", 0), "embedding_dim": ("weight", 1)},
    nn.modules.batchnorm._NormBase: {"num_features": ("weight", 0)},
    nn.GroupNorm: {"num_channels": ("weight", 0)},
    nn.PReLU: {"num_parameters": ("weight", 0)},
    nn.RNNBase: {"input_size": ("weight_ih_l0", 1), "hidden_size": ("weight_hh_l0", 1)},
    nn.RNNCellBase: {"input_size": ("weight_ih", 1), "hidden_size": ("weight_hh", 1)},
}


def size_attributes(model: nn.Module) -> Iterator[tuple[str, int, Attribute]]:
    """(parameter or buffer name, dim, the attribute that repeats its size)."""
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        for kind, sizes in _SIZES.items():
            if isinstance(module, kind):
                for attribute, (tensor, dim) in sizes.items():
                    yield from _direct(module, path, prefix, attribute, tensor, dim)
        if isinstance(module, nn.modules.conv._ConvNd):
            yield from _convolution(module, path, prefix)
        if isinstance(module, nn.LayerNorm | nn.RMSNorm) and module.weight is not None:
            for i, size in enumerate(module.normalized_shape):
                yield f"{prefix}weight", i, Attribute(path, "normalized_shape", i, int(size))
        if isinstance(module, nn.MultiheadAttention):
            yield from _attention(module, path, prefix)
        if isinstance(module, nn.LSTM) and module.proj_size > 0:
            yield from _direct(module, path, prefix, "proj_size", "weight_hr_l0", 0)
            yield from _direct(module, path, prefix, "hidden_size", "weight_hr_l0", 1)


def _direct(
    module: nn.Module, path: str, prefix: str, attribute: str, tensor: str, dim: int
) -> Iterator[tuple[str, int, Attribute]]:
    name = _name(module, tensor)
    projected = isinstance(module, nn.LSTM) and module.proj_size > 0
    if name is None or (
        projected and tensor == "weight_hh_l0"
    ):  # there it is the projection's size
        return
    yield prefix + name, dim, Attribute(path, attribute, None, int(getattr(module, attribute)))


def _convolution(
    module: nn.modules.conv._ConvNd, path: str, prefix: str
) -> Iterator[tuple[str, int, Attribute]]:
    """(out, in / groups, ...), or (in, out / groups, ...) where it is transposed."""
    whole, shared = ("in", "out") if module.transposed else ("out", "in")
    yield from _direct(module, path, prefix, f"{whole}_channels", "weight", 0)
    if module.groups == 1:
        yield from _direct(module, path, prefix, f"{shared}_channels", "weight", 1)


def _attention(
    module: nn.MultiheadAttention, path: str, prefix: str
) -> Iterator[tuple[str, int, Attribute]]:
    """Widths of what it is given; its own code tells the number of heads and their width."""
    apart = module.in_proj_weight is None
    for attribute, letter in (("embed_dim", "q"), ("kdim", "k"), ("vdim", "v")):
        tensor = f"{letter}_proj_weight" if apart else "in_proj_weight"
        yield from _direct(module, path, prefix, attribute, tensor, 1)


def input_attribute(module: nn.Module, path: str) -> Attribute | None:
    """The attribute that repeats the number of channels of the input, where no parameter tells it."""
    if isinstance(module, nn.modules.conv._ConvNd) and module.groups > 1 and not module.transposed:
        return Attribute(path, "in_channels", None, int(module.in_channels))
    if isinstance(module, nn.modules.batchnorm._NormBase) and not module.affine:
        return Attribute(path, "num_features", None, int(module.num_features))
    if isinstance(module, nn.GroupNorm) and not module.affine:
        return Attribute(path, "num_channels", None, int(module.num_channels))
    return None


def output_attribute(module: nn.Module, path: str) -> Attribute | None:
    """The attribute that repeats the number of channels of the output, where no parameter tells it."""
    if isinstance(module, nn.modules.conv._ConvNd) and module.groups > 1 and module.transposed:
        return Attribute(path, "out_channels", None, int(module.out_channels))
    return None


def _name(module: nn.Module, tensor: str) -> str | None:
    """Where a module keeps a tensor; parametrised ones keep it elsewhere."""
    if getattr(module, tensor, None) is None:
        return None
    if "parametrizations" in dict(module.named_children()):
        original = f"parametrizations.{tensor}.original"
        stored = dict(module.named_parameters())
        if original in stored:
            return original
        if f"{original}1" in stored:  # weight norm keeps the direction second
            return f"{original}1"
    return tensor
