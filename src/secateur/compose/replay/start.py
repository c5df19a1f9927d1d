"""Where in a run the removal of a unit begins to matter, and what is known before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from secateur.compose.replay.calls import Call
from secateur.types.group import Activation, Group, Groups, Member, Place, Role


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """How a run without some unit of one group differs from the run that was recorded.

    Attributes:
        group: the group, of the network that runs.
        first: number of the first call that must run; those that end before it are as recorded.
        zeroed: calls before it whose outputs show the group: the unit is zero there.
        reader: where the first call is a linear layer, the member through which it reads the group:
            what it returns is what was recorded, less the share of the unit.
        hidden: members that must be masked, since calls from the first on use them.
    """

    group: Group
    first: int
    zeroed: Mapping[int, Activation]
    reader: Member | None
    hidden: tuple[Member, ...]

    @property
    def name(self) -> str:
        """The group's name."""
        return self.group.name


class Uses:
    """Which calls of a run may use a tensor: those of the modules that hold it.

    A module that is never called itself leaves its tensors to the modules around it.
    """

    def __init__(self, network: nn.Module, calls: Sequence[Call]) -> None:
        self.network, self.calls = network, calls
        self._paths: dict[int, list[str]] = {}
        self._calls: dict[str, list[int]] = {}
        for path, module in network.named_modules():
            for tensor in (*module._parameters.values(), *module._buffers.values()):
                self._paths.setdefault(id(tensor), []).append(path)
        for number, call in enumerate(calls):
            self._calls.setdefault(call.path, []).append(number)

    def of(self, name: str) -> list[int]:
        """Numbers of calls, ascending; never empty, since the whole run is a call."""
        found: set[int] = set()
        path, _, last = name.rpartition(".")
        for holder in self._paths[id(getattr(self.network.get_submodule(path), last))]:
            while holder not in self._calls:
                holder = holder.rpartition(".")[0]
            found.update(self._calls[holder])
        return sorted(found)


def start_of(seen: Uses, groups: Groups, group: Group) -> Start:
    """Where the removal of a unit of the group begins to matter.

    A call matters from the moment it uses a member. Before the first layer that READS the units,
    nothing but the units themselves changes: a module that only writes or scales them would return
    what was recorded, and zeros for the unit. What happens there outside of such modules is run.
    Where units meet in a product of two activations, as in attention, others change before a layer
    reads them; then that layer is run as well.
    """
    members = [member for member in group.members if member.masked]
    uses = {member: seen.of(member.name) for member in members}
    readers = [min(numbers) for m, numbers in uses.items() if m.role is Role.READS]
    everything = sorted({number for numbers in uses.values() for number in numbers})
    if not readers or not group.removable or group.declared:
        return Start(group, everything[0], {}, None, tuple(members))
    first, zeroed = min(readers), dict[int, Activation]()
    for number in everything[: everything.index(first)]:
        shown = _shown(seen.calls, number, group)
        if shown is None:
            first = number
            break
        zeroed[number] = shown
    there = [member for member in members if first in uses[member]]
    alone = len(there) == 1 and uses[there[0]] == [first] and not _meets(groups, group)
    reader = there[0] if alone and _is_linear(seen, first, there[0]) else None
    hidden = tuple(m for m in members if uses[m][-1] >= first and m is not reader)
    return Start(group, first, zeroed, reader, hidden)


def whole_run(group: Group) -> Start:
    """A start that reuses nothing."""
    return Start(group, 0, {}, None, tuple(member for member in group.members if member.masked))


def skipped(calls: Sequence[Call], start: Start) -> list[int]:
    """The calls that need not run: no part of a longer one, over before the first that must run."""
    found: list[int] = []
    number = 0
    touched = min([start.first, *start.zeroed])
    while number < start.first:
        before = calls[number].end <= touched or number in start.zeroed
        if calls[number].whole and before:
            found.append(number)
            number = calls[number].end
        else:
            number += 1
    return found


def _shown(calls: Sequence[Call], number: int, group: Group) -> Activation | None:
    """Where the output of a single module's call shows the units."""
    call = calls[number]
    if call.end != number + 1 or not (call.whole and call.single):
        return None
    outputs = [
        a
        for a in group.activations
        if (a.module, a.place, a.position) == (call.path, Place.OUTPUT, 0) and a.dim > 0
    ]
    return outputs[0] if len(outputs) == 1 else None


def _meets(groups: Groups, group: Group) -> bool:
    """Whether the units meet each other in a product without a weight."""
    return any(
        name == group.name
        for contraction in groups.contractions
        if contraction.weight is None
        for extent in contraction.extents
        for name, _ in groups.extents[extent].parts
    )


_LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _is_linear(seen: Uses, number: int, member: Member) -> bool:
    """Whether the call is that of a plain linear layer or convolution that reads by this weight."""
    call = seen.calls[number]
    module = seen.network.get_submodule(call.path)
    if type(module) not in _LINEAR or member.name != f"{call.path}.weight" or member.dims != (1,):
        return False
    if member.role is not Role.READS or not (call.whole and call.single):
        return False
    if "forward" in vars(module):  # someone's own
        return False
    grouped = getattr(module, "groups", 1) != 1
    return not grouped and getattr(module, "padding_mode", "zeros") == "zeros"
