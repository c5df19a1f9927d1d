"""What `import secateur` adds to `import torch`: bare, and with the first use of every public name.

    python benchmarks/import_time.py

Every process imports torch first, then secateur; CPU seconds of both, the median of nine processes.
Writes benchmarks/results/import_time.json.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

from secateur.files import write_text
from secateur.pipeline.environment import environment

OUT = Path("benchmarks/results/import_time.json")
REPEATS = 9
MEASURE = """
import gc, json, time
gc.disable()  # when a walk over all of torch's objects falls due is chance, and costs 0.1 s
times = [time.process_time()]
import torch
times.append(time.process_time())
import secateur
times.append(time.process_time())
public = [getattr(secateur, name) for name in secateur.__all__]
times.append(time.process_time())
print(json.dumps([b - a for a, b in zip(times, times[1:])]))
"""


def main() -> None:
    """Measure, print and write."""
    _once()  # the first import after a change compiles
    runs = [_once() for _ in range(REPEATS)]
    torch, bare, rest = (round(statistics.median(run), 4) for run in zip(*runs, strict=True))
    found = {
        "torch_s": torch,
        "bare_s": bare,
        "every_name_s": round(bare + rest, 4),
        "bare_over_torch": round(bare / torch, 3),
        "every_name_over_torch": round((bare + rest) / torch, 3),
    }
    print(found)
    command = "python benchmarks/import_time.py"
    text = {"command": command, "repeats": REPEATS, "machine": environment(), **found}
    write_text(OUT, json.dumps(text, indent=1) + "\n")


def _once() -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True
    )
    times: list[float] = json.loads(done.stdout)
    return times


if __name__ == "__main__":
    main()
