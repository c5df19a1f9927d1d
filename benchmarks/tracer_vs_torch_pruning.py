"""Our tracer against Torch-Pruning on the same networks, in one run.

    python benchmarks/tracer_vs_torch_pruning.py --peer-python PYTHON_WITH_TORCH_PRUNING

Every tool meets every network in a process of its own, one after the other, on one thread. Seconds
are CPU seconds in float32, as people work; equality is judged in float64. Of every group 30 % of
random units are removed. Asked is: does the pruned network run, has its output the same shape, has
it fewer than 0.9 of the parameters ("handled"), and does it equal the original with the same parts
set to zero ("exact", 1e-9)? Our trial of what was found is counted apart. Writes
`results/tracer.json` and `.md`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
sys.path.insert(0, str(ROOT))

from tests.zoo import families, more, traps  # noqa: E402 - the path is set above

TOOLS = ("secateur", "torch-pruning")
CHAINS = (10, 20, 40, 80)
Row = dict[str, Any]


def names(sets: list[str]) -> list[str]:
    """Networks by set; ResNet-50 is among the families."""
    shelves = {
        "families": [net.name for net in families.FULL],
        "traps": [f"trap:{net.name}" for net in traps.NETS],
        "zoo": [f"zoo:{net.name}" for net in more.NETS],
        "chains": [f"chain:{blocks}" for blocks in CHAINS],
    }
    return [name for key in sets for name in shelves[key]]


def work(python: str, tool: str, name: str, options: argparse.Namespace) -> Row:
    """One tool on one network; a process that dies or hangs is a result."""
    worker = str(ROOT / "benchmarks" / "_tracer_worker.py")
    command = [python, worker, tool, name, str(options.seed), str(options.repeats)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    row: Row = {"tool": tool, "net": name}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=options.timeout,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return row | {"verdict": "timeout"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit {done.returncode}"]
        return row | {"verdict": "died", "error": last[0].partition(":")[0]}
    return row | json.loads(lines[-1])


def handled(row: Row) -> bool:
    """It runs, keeps its shape, and is clearly smaller."""
    return row["verdict"] in ("exact", "declared", "inherent", "wrong") and row["kept"] < 0.9


def machine(peer_python: str) -> dict[str, Any]:
    """What the numbers depend on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = models[0].partition(":")[2].strip() if models else cpu
    asked = "import importlib.metadata as m; print(m.version('torch'), m.version('torch-pruning'))"
    versions = subprocess.run(
        [peer_python, "-c", asked], capture_output=True, text=True, check=True
    )
    torch_version, peer_version = versions.stdout.split()
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch_version,
        "torch-pruning": peer_version,
        "threads": 1,
        "load": round(os.getloadavg()[0], 1),
    }


def summary(rows: list[Row], prefix: tuple[str, ...]) -> list[str]:
    """One table line a tool: how many networks came to which end, and at what price."""
    ends = "exact | declared | inherent | wrong | broken | crash, timeout | nothing removed"
    lines = [
        f"| tool | networks | handled | {ends} | median s | worst s | median MB |",
        "|---" * 13 + "|",
    ]
    for tool in TOOLS:
        mine = [row for row in rows if row["tool"] == tool and row["net"].startswith(prefix)]
        verdicts = [row["verdict"] for row in mine]
        seconds = [row["trace_s"] + row["cut_s"] for row in mine if "cut_s" in row] or [math.nan]
        memory = [row["peak_bytes"] / 1e6 for row in mine if "peak_bytes" in row] or [math.nan]
        counts = [
            verdicts.count(end) for end in ("exact", "declared", "inherent", "wrong", "broken")
        ]
        counts.append(sum(verdicts.count(end) for end in ("crash", "timeout", "died")))
        counts.append(verdicts.count("nothing removed"))
        cells = [tool, len(mine), sum(map(handled, mine)), *counts]
        cells += [f"{statistics.median(seconds):.2f}", f"{max(seconds):.1f}"]
        cells.append(f"{statistics.median(memory):.0f}")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def details(rows: list[Row]) -> list[str]:
    """One line a network, both tools beside each other."""
    one = "kept | trace + cut s | MB"
    head = f"| network | operators | ours | {one} | trial s | Torch-Pruning | {one} |"
    lines = [head, "|---" * 11 + "|"]
    by_key = {(row["net"], row["tool"]): row for row in rows}
    for name in dict.fromkeys(row["net"] for row in rows):
        cells = [name, str(by_key[name, TOOLS[0]].get("operators", ""))]
        for tool in TOOLS:
            row = by_key[name, tool]
            cells.append(row["verdict"])
            cells.append(f"{row['kept']:.2f}" if "kept" in row else "")
            timed = "cut_s" in row
            cells.append(f"{row['trace_s']:.2f} + {row['cut_s']:.2f}" if timed else "")
            cells.append(f"{row['peak_bytes'] / 1e6:.0f}" if timed else "")
            if tool == TOOLS[0]:
                cells.append(f"{row['trial_s']:.2f}" if timed else "")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def table(rows: list[Row]) -> str:
    """Markdown for the docs."""
    parts = []
    titles = {
        "Families of torchvision and timm": ("torchvision:", "timm:"),
        "Trap networks": ("trap:",),
        "The rest of the zoo": ("zoo:",),
        "Chains of residual blocks": ("chain:",),
    }
    for title, prefix in titles.items():
        chosen = [row for row in rows if row["net"].startswith(prefix)]
        if chosen:
            parts += [f"### {title}", "", *summary(rows, prefix), "", *details(chosen), ""]
    return "\n".join(parts)


def main() -> int:
    """Run, print a line a network to stderr, write both files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peer-python", default=sys.executable, help="has torch-pruning")
    parser.add_argument("--sets", nargs="+", default=["families", "traps", "chains"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3, help="median of so many")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds a network and tool")
    parser.add_argument("--only", nargs="*", help="names of networks; printed, not written")
    parser.add_argument("--out", help="a name for the results of --only, which are then written")
    options = parser.parse_args()
    pythons = dict(zip(TOOLS, (sys.executable, options.peer_python), strict=True))
    rows: list[Row] = []
    for name in options.only or names(options.sets):
        for tool in TOOLS:
            rows.append(work(pythons[tool], tool, name, options))
            seconds = sum(rows[-1].get(key, 0) for key in ("trace_s", "cut_s"))
            print(
                f"{name:45s} {tool:14s} {rows[-1]['verdict']:16s} {seconds:7.2f} s", file=sys.stderr
            )
    arguments = [f"--sets {' '.join(options.sets)}", f"--seed {options.seed}"]
    arguments += [f"--repeats {options.repeats}", f"--timeout {options.timeout:g}"]
    if options.only:
        arguments += [f"--only {' '.join(options.only)}", f"--out {options.out}"]
    arguments.append("--peer-python PYTHON")
    result = {
        "command": " ".join(["python benchmarks/tracer_vs_torch_pruning.py", *arguments]),
        "seed": options.seed,
        "machine": machine(options.peer_python),
        "rows": rows,
    }
    name = options.out if options.only else "tracer"
    if name:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        (RESULTS / f"{name}.md").write_text(table(rows))
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
