"""One number per unit, for every saliency and group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from secateur import archive
from secateur.errors import UnknownNameError


@dataclass(frozen=True, slots=True, eq=False)
class Scores(Mapping[str, Mapping[str, Tensor]]):
    """`scores[saliency][group]` is float32 (n,); higher is more worth keeping.

    Attributes:
        table: saliency → group → scores.
        about: how each saliency prints itself.
        layers: saliency → group → weight → float32 (n,): what the units score in each of the layers
            that write them, where there are several, as on a residual stream. Other groups have no
            entry.
    """

    table: Mapping[str, Mapping[str, Tensor]]
    about: Mapping[str, Any] = field(default_factory=dict)
    layers: Mapping[str, Mapping[str, Mapping[str, Tensor]]] = field(default_factory=dict)

    def __getitem__(self, saliency: str) -> Mapping[str, Tensor]:
        if saliency not in self.table:
            known = ", ".join(self.table)
            raise UnknownNameError(
                f"there are no {saliency!r} scores", hint=f"scored were: {known}"
            )
        return self.table[saliency]

    def __iter__(self) -> Iterator[str]:
        return iter(self.table)

    def __len__(self) -> int:
        return len(self.table)

    def __str__(self) -> str:
        lines = []
        for name, by_group in self.table.items():
            lines.append(f"{name}: {self.about.get(name, name)}")
            lines += [
                f"    {group}: {values.numel()} units, {float(values.min()):.4g} to"
                f" {float(values.max()):.4g}"
                for group, values in by_group.items()
            ]
        return "\n".join(lines)

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file.

        Raises:
            FileError: the path cannot be written.
        """
        names = [(saliency, group) for saliency in self for group in self[saliency]]
        tensors = {str(i): self[saliency][group] for i, (saliency, group) in enumerate(names)}
        layers = [
            (saliency, group, weight)
            for saliency, by_group in self.layers.items()
            for group, by_weight in by_group.items()
            for weight in by_weight
        ]
        tensors |= {
            f"layer.{i}": self.layers[saliency][group][weight]
            for i, (saliency, group, weight) in enumerate(layers)
        }
        header = {"names": names, "about": dict(self.about), "layers": layers}
        return archive.save(path, "scores", header, tensors)

    @staticmethod
    def load(path: str | Path) -> Scores:
        """Read what `save` wrote.

        Raises:
            FileError: missing, truncated, or not a scores file.
        """
        header, tensors = archive.load(path, "scores")
        values: dict[str, dict[str, Tensor]] = {}
        with archive.malformed(path, "scores"):
            for i, (saliency, group) in enumerate(header["names"]):
                values.setdefault(saliency, {})[group] = tensors[str(i)]
            layers: dict[str, dict[str, dict[str, Tensor]]] = {}
            # files of older versions know no layers
            for i, (saliency, group, weight) in enumerate(header.get("layers", [])):
                by_weight = layers.setdefault(saliency, {}).setdefault(group, {})
                by_weight[weight] = tensors[f"layer.{i}"]
            _check_loaded(header["about"], values, layers)
            return Scores(values, header["about"], layers)


def _check_loaded(about: object, *tables: dict[str, Any]) -> None:
    """Refuse what `save` never wrote; to be called where `ValueError` means a malformed file."""
    if not isinstance(about, dict):
        raise ValueError("about is no table")
    for saliency, by_group in (row for table in tables for row in table.items()):
        for group, found in by_group.items():
            several = found if isinstance(found, dict) else {"": found}
            if not all(isinstance(name, str) for name in (saliency, group, *several)):
                raise ValueError("a name is no text")
            for tensor in several.values():
                if tensor.dim() != 1 or tensor.dtype is not torch.float32:
                    raise ValueError("scores are no row of float32")
