from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from secateur import archive, errors
from secateur.types import Group, Groups, Member, Plan, Role
from tests.types.made import plans
from tests.types.same import same


def _groups(*sizes: int) -> Groups:
    return Groups(
        tuple(
            Group(
                f"g{i}", "channel", n, (Member(f"w{i}", (n,), (0,), torch.arange(n), Role.WRITES),)
            )
            for i, n in enumerate(sizes)
        ),
        shapes={f"w{i}": (n,) for i, n in enumerate(sizes)},
    )


def _plan() -> Plan:
    masks = {"g0": torch.tensor([True, False, True]), "g1": torch.tensor([True, True])}
    return Plan(_groups(3, 2), masks, {"allocator": "Uniform"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plans")


@given(plans())
def test_a_plan_reads_back_as_it_was_written(folder: Path, plan: Plan) -> None:
    assert same(Plan.load(plan.save(folder / "plan.safetensors")), plan)


@given(plans())
def test_equal_plans_give_equal_bytes(folder: Path, plan: Plan) -> None:
    first = plan.save(folder / "first").read_bytes()
    again = Plan.load(folder / "first").save(folder / "again").read_bytes()
    assert first == again


@given(plans(), st.data())
def test_a_flipped_bit_is_an_error(folder: Path, plan: Plan, data: st.DataObject) -> None:
    path = plan.save(folder / "flipped")
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        read = Plan.load(path)
    except errors.FileError:
        return
    assert same(read, plan)  # a blank of the JSON header became another blank: nothing is lost


@given(plans(), st.data())
def test_a_truncated_file_is_an_error(folder: Path, plan: Plan, data: st.DataObject) -> None:
    path = plan.save(folder / "cut")
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(errors.FileError):
        Plan.load(path)


@given(plans(), st.data())
def test_a_damaged_stretch_is_an_error(folder: Path, plan: Plan, data: st.DataObject) -> None:
    path = plan.save(folder / "damaged")
    content = path.read_bytes()
    start = data.draw(st.integers(0, len(content) - 1))
    stretch = data.draw(st.binary(min_size=1, max_size=40))
    changed = content[:start] + stretch + content[start + len(stretch) :]
    assume(changed != content)
    path.write_bytes(changed)
    with pytest.raises(errors.FileError):
        Plan.load(path)


@given(st.binary(max_size=200))
def test_any_other_file_is_an_error(folder: Path, content: bytes) -> None:
    path = folder / "other"
    path.write_bytes(content)
    with pytest.raises(errors.FileError):
        Plan.load(path)


@settings(max_examples=30)
@given(plans(), st.data())
def test_a_header_that_lies_is_an_error(folder: Path, plan: Plan, data: st.DataObject) -> None:
    """Not damage but intent: the checksum is right, what it vouches for is not."""
    assume(len(plan.groups))
    header, tensors = archive.load(plan.save(folder / "lying"), "plan")
    group = data.draw(st.sampled_from(header["groups"]["groups"]))
    group["size"] += data.draw(st.sampled_from([-1, 1, 2**40]))
    archive.save(folder / "lying", "plan", header, tensors)
    with pytest.raises(errors.FileError):
        Plan.load(folder / "lying")


def test_masks_of_another_dtype_in_a_file_are_an_error(folder: Path) -> None:
    header, tensors = archive.load(_plan().save(folder / "floats"), "plan")
    tensors = {name: tensor.float() for name, tensor in tensors.items() if "mask" in name}
    archive.save(folder / "floats", "plan", header, tensors)
    with pytest.raises(errors.FileError):
        Plan.load(folder / "floats")


def test_a_plan_reads_the_same_in_another_process(folder: Path) -> None:
    path = _plan().save(folder / "elsewhere")
    code = "import sys; from secateur.types import Plan; print(Plan.load(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{_plan()}\n"


def test_one_mask_may_serve_two_groups(folder: Path) -> None:
    mask = torch.tensor([True, False])
    plan = Plan(_groups(2, 2), {"g0": mask, "g1": mask})
    assert same(Plan.load(plan.save(folder / "shared")), plan)


def test_masks_may_be_pieces_of_one_vector(folder: Path) -> None:
    first, second = torch.tensor([True, False, True, True, True]).split([3, 2])
    plan = Plan(_groups(3, 2), {"g0": first, "g1": second})
    assert same(Plan.load(plan.save(folder / "pieces")).masks, plan.masks)


def test_a_loaded_plan_does_not_change_with_its_file(folder: Path) -> None:
    path = _plan().save(folder / "overwritten")
    loaded = Plan.load(path)
    with path.open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(b"\0" * 8)
    assert same(loaded, _plan())


@pytest.mark.parametrize(
    "mask",
    [
        torch.tensor([True, False]),
        torch.tensor([[True, False, True]]),
        torch.tensor([1, 0, 1]),
        torch.tensor([1, 0, 1], dtype=torch.uint8),
        torch.tensor([1.0, 0.0, 1.0]),
    ],
)
def test_a_mask_of_another_shape_or_dtype_is_refused(mask: torch.Tensor) -> None:
    with pytest.raises(errors.PlanError, match="bool mask of shape") as caught:
        Plan(_groups(3), {"g0": mask})
    assert caught.value.where == "g0"


def test_every_group_needs_a_mask_and_every_mask_a_group() -> None:
    with pytest.raises(errors.PlanError, match="found none"):
        Plan(_groups(3), {})
    with pytest.raises(errors.PlanError, match="no such group"):
        Plan(_groups(3), {"g0": torch.ones(3).bool(), "g9": torch.ones(3).bool()})


def test_a_group_cannot_go_whole() -> None:
    with pytest.raises(errors.PlanError, match="removes every unit"):
        Plan(_groups(3), {"g0": torch.zeros(3).bool()})


def test_and_keeps_what_both_keep() -> None:
    other = Plan(
        _groups(3, 2), {"g0": torch.tensor([True, True, False]), "g1": torch.tensor([False, True])}
    )
    both = _plan() & other
    assert [mask.tolist() for mask in both.masks.values()] == [
        [True, False, False],
        [False, True],
    ]
    assert (_plan().removed, other.removed, both.removed) == (1, 2, 3)


@pytest.mark.parametrize("sizes", [(3,), (3, 3), (3, 2, 2)])
def test_and_of_plans_about_different_groups_is_refused(sizes: tuple[int, ...]) -> None:
    other = Plan(_groups(*sizes), {f"g{i}": torch.ones(n).bool() for i, n in enumerate(sizes)})
    for left, right in ((_plan(), other), (other, _plan())):
        with pytest.raises(errors.PlanError, match="different groups"):
            _ = left & right


def test_printing_tells_what_is_kept() -> None:
    assert str(_plan()) == "keeps 4 of 5 units\n    g0: 2 of 3\n    g1: 2 of 2"
