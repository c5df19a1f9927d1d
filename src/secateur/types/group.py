"""What is found: groups of units, their members, and what cannot be pruned."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from secateur.errors import UnknownNameError
from secateur.types.equation import Equation


class Role(enum.Enum):
    """How a member takes part in its units."""

    WRITES = "writes"  # its slices produce the unit's output: filters, biases
    SCALES = "scales"  # applied element by element to what was written: normalisation, gains
    READS = "reads"  # its slices consume the unit's output: input channels of the next layer


class Place(enum.Enum):
    """On which side of a module a tensor is."""

    INPUT = "input"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One parameter's (or float buffer's) share in a group.

    `unit_of[i]` is the unit that index i belongs to, -1 for none. With several dims the index runs
    over their product in row-major order, so single weights are `dims=(0, 1)` with
    `unit_of=arange(numel)`. Without dims there is one index, the whole tensor: it comes and goes
    with its unit.
    """

    name: str  # as in named_parameters / named_buffers: first name of a shared tensor
    shape: tuple[int, ...]  # of the whole tensor
    dims: tuple[int, ...]
    unit_of: Tensor  # int64, shape (prod of the sizes of dims,)
    role: Role
    masked: bool = True  # False: cut, but never multiplied by a mask (it is normalised away)
    closes: bool = False  # it is added to what a gate returns: masked, it is set below all others


@dataclass(frozen=True, slots=True, eq=False)
class Activation:
    """A tensor on which the units of a group can be seen: what a module is given, or returns."""

    module: str
    place: Place
    position: int  # among the module's tensors on that side
    dim: int  # of that tensor
    unit_of: Tensor  # int64, shape (size of dim,); -1 for none
    writer: str | None  # the weight whose whole work it is; None for a part, or the work of several
    folded: bool = False  # its first dim holds the positions of one sample after the other


@dataclass(frozen=True, slots=True)
class Declared:
    """A place where masking and removing differ, because statistics over the pruned dim change."""

    operator: str
    where: str  # "module.path (file.py:12)"


@dataclass(frozen=True, slots=True)
class Least:
    """How many units of a group must stay, whatever the budget, and why."""

    units: int = 1
    why: str = ""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Units that cannot be pruned, and why."""

    name: str  # the parameter they live in
    units: int  # how many of its indices
    operator: str  # the operator (or "keep") that holds them
    where: str
    why: str


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Group:
    """A row of `size` units of one kind that compete with each other.

    Any subset of the units may be removed, as long as `least` stay. With `pattern=(k, m)` the units
    come in blocks of m consecutive ones, of which exactly k stay. Units that a network chooses from by
    the numbers that a gate gives them, as experts, are masked by closing the gate as well: no zero
    would keep them from being chosen.
    """

    name: str
    kind: str  # "channel", "head", "weight", "kernel", ...
    size: int
    members: tuple[Member, ...]
    activations: tuple[Activation, ...] = ()  # in the order of the run
    declared: tuple[Declared, ...] = ()
    pattern: tuple[int, int] | None = None
    removable: bool = True  # False: the units can only be masked, never cut out
    least: Least = Least()
    gate: str | None = None  # a module; what it returns has one column a unit, in its last dim
    modules: tuple[str, ...] = ()  # unit i is module i of a list, where units are whole modules

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.size} {self.kind}s"]
        for member in self.members:
            dims = ",".join(map(str, member.dims))
            if not member.dims:
                if int(member.unit_of) == 0:  # the others hold the same
                    whole = f"whole, as of every {self.kind}"
                    lines.append(f"    {member.role.value:<6} {member.name} [{whole}]")
                continue
            held = int((member.unit_of >= 0).sum()) / self.size
            each = "" if held == 1 else f", {held:g} a {self.kind}"
            lines.append(f"    {member.role.value:<6} {member.name} [dim {dims}{each}]")
        if self.least.why:
            lines.append(f"    at least {self.least.units} stay: {self.least.why}")
        lines += [f"    declared: {place.operator} at {place.where}" for place in self.declared]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, eq=False)
class Extent:
    """A tensor dim as rows of indices that belong to units.

    Index i is live iff for every part (group name, unit_of) either `unit_of[i] == -1` or the mask
    of that group is True there.
    """

    size: int
    parts: tuple[tuple[str, Tensor], ...] = ()  # (group name, int64 (size,))

    def live(self, masks: Mapping[str, Tensor]) -> Tensor:
        """bool (size,): which indices are left. Groups without a mask are kept whole."""
        alive = torch.ones(self.size, dtype=torch.bool)
        for name, unit_of in self.parts:
            if name in masks:
                mask = torch.cat([masks[name], masks[name].new_ones(1)])  # -1 reads the last
                alive &= mask[unit_of]
        return alive

    def count(self, masks: Mapping[str, Tensor]) -> int:
        """How many indices are left. A dim without parts may stand for any number in the code."""
        return int(self.live(masks).sum()) if self.parts else self.size


@dataclass(frozen=True, slots=True, eq=False)
class Contraction:
    """One product of the forward pass: its MACs = `fixed` x the extents' live counts."""

    module: str  # path of the innermost module that ran it
    operator: str
    fixed: int
    extents: tuple[int, ...]  # positions in Groups.extents; one per labelled dim
    weight: str | None  # the parameter among its operands, if there is one
    uses: int = 1  # how often each element of the weight is used: MACs = uses x numel(weight)


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """All groups of a network, and all that is needed to act on them without tracing again.

    Iterating gives `Group`s; indexing takes a group's name.
    """

    groups: tuple[Group, ...]
    fixed: tuple[Fixed, ...] = ()
    # of every parameter and buffer
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    parameters: frozenset[str] = frozenset()  # which of `shapes` are parameters
    extents: tuple[Extent, ...] = ()
    contractions: tuple[Contraction, ...] = ()
    equations: tuple[Equation, ...] = ()

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    def __contains__(self, name: object) -> bool:
        return any(group.name == name for group in self.groups)

    def __getitem__(self, name: str) -> Group:
        for group in self.groups:
            if group.name == name:
                return group
        known = [group.name for group in self.groups[:8]] + ["..."] * (len(self) > 8)
        hint = f"known groups: {', '.join(known)}" if known else "nothing here can be pruned"
        raise UnknownNameError(f"there is no group {name!r}", hint=hint)

    @property
    def units(self) -> int:
        """How many units there are in all groups together."""
        return sum(group.size for group in self.groups)

    def __str__(self) -> str:
        lines = [f"{len(self)} groups, {self.units} units that can be pruned"]
        lines += [str(group) for group in self.groups]
        if self.fixed:
            lines.append(f"{len(self.fixed)} parameters with units that cannot be pruned:")
        for fixed in self.fixed:
            place = f" at {fixed.where}" if fixed.where else ""
            lines.append(
                f"    {fixed.name}: {fixed.units} held by {fixed.operator}{place}: {fixed.why}"
            )
        return "\n".join(lines)
