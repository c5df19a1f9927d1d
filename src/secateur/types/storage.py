"""Groups as a JSON header and a few integer tensors, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from secateur.types import equation
from secateur.types.equation import Equation
from secateur.types.group import (
    Activation,
    Contraction,
    Declared,
    Extent,
    Fixed,
    Group,
    Groups,
    Least,
    Member,
    Place,
    Role,
)

_LARGEST = 2**31  # indices are stored as int32


class _Pool:
    """Integer vectors, each stored once: most members of a group share their `unit_of`."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._known: dict[bytes, str] = {}

    def add(self, vector: Tensor) -> str:
        stored = vector.to(torch.int32)
        key = stored.numpy().tobytes()
        if key not in self._known:
            self._known[key] = f"index.{len(self._known)}"
            self.tensors[self._known[key]] = stored
        return self._known[key]


def pack_groups(groups: Groups) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A header of plain JSON values, and the tensors that it names."""
    pool = _Pool()
    header = {
        "groups": [_pack_group(group, pool) for group in groups],
        "fixed": [asdict(fixed) for fixed in groups.fixed],
        "shapes": {name: list(shape) for name, shape in groups.shapes.items()},
        "parameters": sorted(groups.parameters),
        "extents": [
            {"size": e.size, "parts": [[name, pool.add(unit_of)] for name, unit_of in e.parts]}
            for e in groups.extents
        ],
        "contractions": [asdict(contraction) for contraction in groups.contractions],
        "equations": [
            {"is": equation.to_json(e.expression), "extent": e.extent, "where": e.where}
            for e in groups.equations
        ],
    }
    return header, pool.tensors


def _pack_group(group: Group, pool: _Pool) -> dict[str, Any]:
    return {
        "name": group.name,
        "kind": group.kind,
        "size": group.size,
        "members": [
            {
                "name": m.name,
                "dims": m.dims,
                "unit_of": pool.add(m.unit_of),
                "role": m.role.value,
                "masked": m.masked,
                "closes": m.closes,
            }
            for m in group.members
        ],
        "activations": [
            {
                "module": a.module,
                "place": a.place.value,
                "position": a.position,
                "dim": a.dim,
                "unit_of": pool.add(a.unit_of),
                "writer": a.writer,
                "folded": a.folded,
            }
            for a in group.activations
        ],
        "declared": [asdict(declared) for declared in group.declared],
        "pattern": group.pattern,
        "removable": group.removable,
        "least": asdict(group.least),
        "gate": group.gate,
        "modules": group.modules,
    }


def unpack_groups(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Groups:
    """Inverse of `pack_groups`.

    Raises:
        KeyError, TypeError, ValueError: the header is malformed or an index is out of range.
    """
    shapes = {name: tuple(map(int, shape)) for name, shape in header["shapes"].items()}
    groups = tuple(_unpack_group(entry, tensors, shapes) for entry in header["groups"])
    sizes = {group.name: group.size for group in groups}
    if len(sizes) != len(groups):
        raise ValueError("two groups have one name")
    extents = []
    for entry in header["extents"]:
        size = int(entry["size"])
        if not 0 <= size < _LARGEST:
            raise ValueError(f"an extent cannot have {size} indices")
        parts = tuple(
            (name, _vector(tensors[key], size, sizes[name])) for name, key in entry["parts"]
        )
        extents.append(Extent(size, parts))
    contractions = [
        Contraction(
            entry["module"],
            entry["operator"],
            int(entry["fixed"]),
            tuple(map(int, entry["extents"])),
            entry["weight"],
            int(entry["uses"]),
        )
        for entry in header["contractions"]
    ]
    equations = [
        Equation(equation.from_json(entry["is"]), int(entry["extent"]), entry["where"])
        for entry in header["equations"]
    ]
    used = {i for contraction in contractions for i in contraction.extents}
    used |= {e.extent for e in equations}
    used |= {i for e in equations for i in equation.counts(e.expression)}
    if used and not 0 <= min(used) <= max(used) < len(extents):
        raise ValueError("an extent that does not exist is used")
    return Groups(
        groups,
        tuple(Fixed(**entry) for entry in header["fixed"]),
        shapes,
        frozenset(header["parameters"]),
        tuple(extents),
        tuple(contractions),
        tuple(equations),
    )


def _unpack_group(
    entry: Mapping[str, Any], tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> Group:
    size = int(entry["size"])
    members = []
    for m in entry["members"]:
        dims = tuple(map(int, m["dims"]))
        if (dims and dims[0] < 0) or list(dims) != sorted(set(dims)):
            raise ValueError(f"dims ascend from 0, found {dims}")
        shape = shapes[m["name"]]
        length = math.prod(shape[dim] for dim in dims)
        unit_of = _vector(tensors[m["unit_of"]], length, size)
        flags = bool(m["masked"]), bool(m.get("closes", False))
        members.append(Member(m["name"], shape, dims, unit_of, Role(m["role"]), *flags))
    modules = _modules(entry.get("modules", ()), size)
    for member in members:
        if not member.dims:
            _check_inside(member, modules)
    activations = []
    for a in entry["activations"]:
        vector = tensors[a["unit_of"]]
        unit_of = _vector(vector, vector.numel(), size)
        place, position, dim = Place(a["place"]), int(a["position"]), int(a["dim"])
        folded = bool(a.get("folded", False))
        activations.append(
            Activation(a["module"], place, position, dim, unit_of, a["writer"], folded)
        )
    pattern = entry["pattern"]
    if pattern is not None:
        stay, block = map(int, pattern)
        if not 0 < stay <= block or size % block:
            raise ValueError(f"{size} units do not come in blocks of {block} that keep {stay}")
        pattern = (stay, block)
    return Group(
        entry["name"],
        entry["kind"],
        size,
        tuple(members),
        tuple(activations),
        tuple(Declared(**declared) for declared in entry["declared"]),
        pattern,
        bool(entry["removable"]),
        _least(entry.get("least", {}), size),
        entry.get("gate"),
        modules,
    )


def _least(entry: Mapping[str, Any], size: int) -> Least:
    """How many units must stay; older plans do not say, and mean one."""
    units = int(entry.get("units", 1))
    if not 1 <= units <= size:
        raise ValueError(f"{units} of {size} units cannot stay")
    return Least(units, str(entry.get("why", "")))


def _modules(entry: Sequence[str], size: int) -> tuple[str, ...]:
    """One module of one list for each unit, in order, or none."""
    lists = {name.rpartition(".")[0] for name in entry}
    numbers = [name.rpartition(".")[2] for name in entry]
    # counted first: a header may say that there are as many as memory does not hold
    if entry and (len(entry), len(lists)) != (size, 1):
        raise ValueError(f"{size} units are not {len(entry)} modules of {len(lists)} lists")
    if entry and numbers != [str(i) for i in range(size)]:
        raise ValueError(f"{size} units are not the modules {', '.join(entry)[:200]}")
    return tuple(entry)


def _check_inside(member: Member, modules: Sequence[str]) -> None:
    """A tensor that leaves whole leaves with the module that is its unit."""
    unit = int(member.unit_of)
    if not 0 <= unit < len(modules) or not member.name.startswith(f"{modules[unit]}."):
        raise ValueError(f"{member.name} leaves whole, but not with a module")


def _vector(stored: Tensor, length: int, units: int) -> Tensor:
    """A checked `unit_of`."""
    if stored.shape != (length,) or stored.dtype != torch.int32:
        found = f"{stored.dtype} {tuple(stored.shape)}"
        raise ValueError(f"an int32 index of shape ({length},) was expected, found {found}")
    vector = stored.to(torch.int64)
    if length and not -1 <= int(vector.min()) <= int(vector.max()) < units:
        raise ValueError(f"an index points outside the {units} units of its group")
    return vector
