"""Tables of benchmarks/results/dpp.json.

python benchmarks/dpp_report.py            # writes benchmarks/results/dpp.md
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from secateur.files import write_text

RESULTS, OUT = Path("benchmarks/results/dpp.json"), Path("benchmarks/results/dpp.md")
WAYS = ("magnitude", "random", "gradual", "fine-tuned", "dpp", "dpp, quiet", "dpp, settled")
TITLES = {
    "dpp": "DPP",
    "dpp, quiet": "DPP, noise 0.1",
    "dpp, settled": "DPP, noise 0.1, settled",
    "magnitude": "magnitude, one shot",
    "fine-tuned": "magnitude, fine-tuned",
}
BITS, FEW_BITS = (32, 8, 4, 2, 1), "dpp, quiet"


def main() -> None:
    """Write the tables."""
    record = json.loads(RESULTS.read_text())
    found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for row in record["rows"]:
        found[row["network"], row["units"], row["share"], row["way"], row["bits"]].append(row)
    notes = [record["note"], ""] if "note" in record else []
    write_text(OUT, "\n".join([*notes, *_lines(found)]) + "\n")


def _lines(found: Mapping[tuple[Any, ...], list[Mapping[str, Any]]]) -> Iterator[str]:
    yield "Test accuracy, %, mean and standard deviation over the seeds (how many, where not three);"
    yield "`python benchmarks/dpp.py` says how each way trains. BatchNorms were recalibrated in every way."
    yield ""
    yield "| network, units | k / n | dense | " + " | ".join(TITLES.get(w, w) for w in WAYS) + " |"
    yield "|---" * (3 + len(WAYS)) + "|"
    cases = [case for case in dict.fromkeys(key[:3] for key in found) if case[2] != 1.0]
    for network, units, share in cases:
        dense = _accuracy(found.get((network, units, 1.0, "dense", 32), []))
        cells = [_accuracy(found.get((network, units, share, way, 32), [])) for way in WAYS]
        yield f"| {network}, {units} | {share} | {dense} | " + " | ".join(cells) + " |"
    yield ""
    yield "DPP (noise 0.1), weights of fewer bits: accuracy, kilobytes (values, log2 C(n, k) a row,"
    yield "scales, the rest in float32), compression over the dense network in float32, and, where they were"
    yield "packed, kilobytes of the bundle, header and all:"
    yield ""
    yield "| network, units | k / n | " + " | ".join(f"{bits} bits" for bits in BITS) + " |"
    yield "|---" * (2 + len(BITS)) + "|"
    for case in cases:
        rows = [found.get((*case, FEW_BITS, bits), []) for bits in BITS]
        if any(rows[1:]):
            network, units, share = case
            yield f"| {network}, {units} | {share} | " + " | ".join(map(_sized, rows)) + " |"


def _accuracy(rows: list[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    values = [100.0 * row["accuracy"] for row in rows]
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    seeds = "" if len(values) == 3 else f" ({len(values)})"
    return f"{mean(values):.1f}{spread}{seeds}"


def _sized(rows: list[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    size, times = mean(row["bytes"] for row in rows), mean(row["compression"] for row in rows)
    found = [row["packed bytes"] for row in rows if "packed bytes" in row]
    bundle = f"; packed {mean(found) / 1000:,.1f} kB" if found else ""
    return f"{_accuracy(rows)}; {size / 1000:,.1f} kB, {times:.1f}x{bundle}"


if __name__ == "__main__":
    main()
