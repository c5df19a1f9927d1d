"""The figures of `flexrel.py` from its raw tables: seeds averaged, savings, whether delta helps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from secateur.recipes.bandwidth import Curve, bandwidth_saved, largest_factor
from secateur.recipes.curves import Sweep

DROPS = (1.0, 5.0)  # points of accuracy
Runs = Mapping[str, Mapping[str, Any]]


def report(runs: Runs) -> tuple[list[dict[str, Any]], str]:
    """A summary for every network and setting, and the same as tables."""
    settings: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for run in runs.values():
        key = tuple(run[part] for part in ("rule", "normalise", "scope", "network"))
        settings.setdefault(key, []).append(run)
    summaries = [_summary(several) for several in settings.values()]
    return summaries, _tables(summaries)


def _summary(several: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    sweeps = [_sweep(run["sweep"]) for run in several]
    return {
        **{part: several[0][part] for part in ("network", "rule", "normalise", "scope", "weights")},
        "seeds": [run["seed"] for run in several],
        "dense": _spread([sweep.test[0][0] for sweep in sweeps]),
        "drops": {f"{drop:g}": _at_drop(several, sweeps, drop) for drop in DROPS},
        "inside_against_ends": _inside(sweeps),
    }


def _at_drop(
    several: Sequence[Mapping[str, Any]], sweeps: Sequence[Sweep], drop: float
) -> dict[str, Any]:
    """Largest factors and savings at an accuracy so many points below the dense network's."""
    found: dict[str, list[float]] = {}
    for run, sweep in zip(several, sweeps, strict=True):
        target = sweep.test[0][0] - drop / 100
        curves = {
            "magnitude": sweep.at(0.0),
            "relevance": sweep.at(1.0),
            "flexrel": sweep.flexrel,
            "delta 0.5": sweep.at(0.5),
        }
        if run["random"]:
            curves["random"] = Curve(sweep.factors, tuple(run["random"]), sweep.at(0.0).positions)
        for name, curve in curves.items():
            found.setdefault(f"factor {name}", []).append(largest_factor(curve, target))
        for other in ("magnitude", "relevance"):
            for index in (False, True):
                saved = bandwidth_saved(sweep.flexrel, curves[other], target, index=index)
                cost = " with index" if index else ""
                found.setdefault(f"saved over {other}{cost}", []).append(saved)
    return {name: _spread(values) for name, values in found.items()}


def _inside(sweeps: Sequence[Sweep]) -> dict[str, Any]:
    """Delta in (0, 1) against the better of 0 and 1, in points, factor by factor.

    Of the deltas in (0, 1), held-out data choose. Each difference is averaged over the seeds;
    `worst` is the lowest over the factors. The spread is the larger standard deviation, over the
    seeds, of the difference and of the better end's accuracy.
    """
    factors = sorted(set.intersection(*(set(sweep.factors[1:]) for sweep in sweeps)))
    rows = []
    for factor in factors:
        gaps, ends = [], []
        for sweep in sweeps:
            i = sweep.factors.index(factor)
            inner = range(1, len(sweep.deltas) - 1)
            chosen = max(inner, key=lambda j: sweep.held_out[i][j])
            end = max(sweep.test[i][0], sweep.test[i][-1])
            gaps.append(100 * (sweep.test[i][chosen] - end))
            ends.append(100 * end)
        rows.append(
            {
                "factor": factor,
                "gap": _spread(gaps),
                "accuracy_spread": stdev(ends) if len(ends) > 1 else None,
            }
        )
    return {
        "rows": rows,
        "worst": min(rows, key=lambda row: row["gap"]["mean"]),
        "factors": len(rows),
        "worse_beyond_spread": [row["factor"] for row in rows if _worse(row)],
        "worse_beyond_sd_of_gap": [
            row["factor"] for row in rows if row["gap"]["mean"] < -(row["gap"]["sd"] or 0.0)
        ],
    }


def _worse(row: Mapping[str, Any]) -> bool:
    """Worse than the better end beyond the spread."""
    spread = max(row["gap"]["sd"] or 0.0, row["accuracy_spread"] or 0.0)
    return bool(row["gap"]["mean"] < -spread)


def _sweep(stored: Mapping[str, Any]) -> Sweep:
    def rows(table: Iterable[Iterable[float]]) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(row) for row in table)

    return Sweep(
        tuple(stored["factors"]),
        tuple(stored["deltas"]),
        rows(stored["held_out"]),
        rows(stored["test"]),
        rows(stored["positions"]),
    )


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "mean": round(mean(values), 5),
        "sd": round(stdev(values), 5) if len(values) > 1 else None,
        "each": [round(value, 5) for value in values],
    }


def _tables(summaries: Sequence[Mapping[str, Any]]) -> str:
    lines = ["# FlexRel: largest pruning factor and bandwidth saved", ""]
    lines += [
        "Mean ± standard deviation over the seeds, in percent. Saved: FlexRel over magnitude (M) and",
        "over relevance (R) at equal accuracy, without and with the bits that tell the positions.",
        "Inside: the lowest difference over all factors, in points, between delta in (0, 1), chosen on",
        "held-out images, and the better of delta = 0 and delta = 1.",
    ]
    for drop in DROPS:
        lines += ["", f"## {drop:g} points below dense", "", _row(_HEADS), _row(["---"] * 13)]
        for one in summaries:
            at = one["drops"][f"{drop:g}"]
            cells = [one["network"], one["rule"], one["normalise"], one["scope"]]
            cells += [
                _percent(at[f"factor {name}"]) if f"factor {name}" in at else ""
                for name in ("random", "relevance", "magnitude", "flexrel")
            ]
            cells += [
                _percent(at[f"saved over {other}{cost}"])
                for other in ("magnitude", "relevance")
                for cost in ("", " with index")
            ]
            worst = one["inside_against_ends"]["worst"]["gap"]
            cells.append(f"{worst['mean']:+.2f} ± {worst['sd'] or 0:.2f}")
            lines.append(_row(cells))
    return "\n".join(lines) + "\n"


_HEADS = [
    *("network", "rule", "norm", "scope", "random", "relevance", "magnitude", "FlexRel"),
    *("saved M", "with index", "saved R", "with index", "inside"),
]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _percent(value: Mapping[str, Any]) -> str:
    return f"{100 * value['mean']:.1f} ± {100 * (value['sd'] or 0):.1f}"
