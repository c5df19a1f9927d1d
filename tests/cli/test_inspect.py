"""`inspect` and `methods`."""

from __future__ import annotations

from pathlib import Path

import secateur as sec
from secateur.pipeline import SALIENCIES
from tests.cli.shell import DATA, NET, document, refused, secateur
from tests.pipeline.small import net, part


def test_it_prints_what_groups_prints(tmp_path: Path) -> None:
    done = secateur("inspect", NET, "--data", DATA, cwd=tmp_path)
    groups = sec.groups(net(), part(1, seed=0).x)
    assert done.returncode == 0, done.stderr
    assert "on an input of 1x1x8x8" in done.stdout
    for line in str(groups).splitlines():
        if "held by" not in line:  # where the line of code is that of the caller
            assert line in done.stdout


def test_json_tells_the_same(tmp_path: Path) -> None:
    found = document(
        secateur(
            "inspect", NET, "--example", "2x1x8x8", "--keep", "inner.0", "--json", cwd=tmp_path
        )
    )
    groups = sec.groups(net(), part(2, seed=0).x, sec.Channels(["inner.0"]))
    assert found["units"] == groups.units
    assert [group["name"] for group in found["groups"]] == [group.name for group in groups]
    assert {fixed["operator"] for fixed in found["fixed"]} >= {"keep", "output"}
    members = {m["name"] for group in found["groups"] for m in group["members"]}
    assert "stem.0.weight" in members
    assert found["example"] == [[2, 1, 8, 8]]


def test_demo_networks_bring_their_input(tmp_path: Path) -> None:
    done = secateur("inspect", "demo:lenet300", "--granularity", "weights", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "266,610 parameters; 266,200 MACs on an input of 1x1x28x28" in done.stdout


def test_a_network_without_an_input(tmp_path: Path) -> None:
    refused(secateur("inspect", NET, cwd=tmp_path), "example")


def test_methods_lists_the_tables(tmp_path: Path) -> None:
    listed = document(secateur("methods", "--json", cwd=tmp_path))
    assert [row["name"] for row in listed["saliencies"]] == list(SALIENCIES)
    assert {row["name"] for row in listed["allocators"]} == {
        "ranked",
        "uniform",
        "knapsack",
        "tolerance",
    }
    kinds = {"channels", "heads", "experts", "weights", "kernels", "block"}
    assert {row["name"] for row in listed["granularities"]} == kinds
    assert all(row["about"] for rows in listed.values() for row in rows)
    taylor = next(row for row in listed["saliencies"] if row["name"] == "taylor")
    assert taylor["paper"].startswith("Molchanov")
    text = secateur("methods", cwd=tmp_path).stdout
    assert all(row["name"] in text for rows in listed.values() for row in rows)
