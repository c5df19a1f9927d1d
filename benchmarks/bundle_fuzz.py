"""A hundred thousand bundles with something wrong in them, in one process.

    python benchmarks/bundle_fuzz.py [--files 100000] [--seeds 4]

Five good files (tests/wire/mutated.py: cut, masked, quantised, a difference, long rows of one number) are
changed in many ways; 85 of 100 get checksums that are right again, so that what is behind them is reached.
Each must end in a SecateurError, or load as a network of its kind, within a second; the networks that are
handed over must be left as they are. The process may not grow by more than 256 MB: what a file promises
beyond that would raise MemoryError, which counts as a crash. Writes benchmarks/results/bundle_fuzz.json.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from secateur.files import write_text
from secateur.pipeline.environment import environment
from tests.wire.mutated import Case, cases, contents, load, mutated

OUT = Path("benchmarks/results/bundle_fuzz.json")
MEMORY = Path("/dev/shm")  # a hundred thousand files on a disk take longer than all else
GROWTH = 256 << 20
EVERY = 5000


def main() -> None:
    """Mutate, load, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=4)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        found = cases(Path(folder))
        size = _bytes_of("VmSize") + GROWTH
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        before = [contents(case.network) for case in found]
        rows = [
            _seed(seed, asked.files // asked.seeds, found, Path(folder) / "f")
            for seed in range(asked.seeds)
        ]
        untouched = [contents(case.network) for case in found] == before
    record = {
        "environment": environment(),
        "files": sum(row["files"] for row in rows),
        "crashes": sum(len(row["crashes"]) for row in rows),
        "slowest_s": max(row["slowest_s"] for row in rows),
        "networks_untouched": untouched,
        "growth_allowed_bytes": GROWTH,
        "peak_resident_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "seeds": rows,
    }
    write_text(OUT, json.dumps(record, indent=1) + "\n")
    print({name: value for name, value in record.items() if name not in {"seeds", "environment"}})


def _seed(seed: int, files: int, found: list[Case], path: Path) -> dict[str, Any]:
    draw, others = random.Random(seed), [case.content for case in found]
    ended: Counter[str] = Counter()
    crashes: list[str] = []
    slowest = 0.0
    for number in range(files):
        case = draw.choice(found)
        content = mutated(case.content, others, draw)
        begin = time.process_time()
        try:
            ended[load(case, content, path)] += 1
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            crashes.append("".join(traceback.format_exception(error)[-3:])[-1500:])
        slowest = max(slowest, time.process_time() - begin)
        if number % EVERY == 0:
            print(seed, number, dict(ended), len(crashes), flush=True)
    return {
        "seed": seed,
        "files": files,
        "ended": dict(ended),
        "crashes": crashes,
        "slowest_s": slowest,
    }


def _bytes_of(name: str) -> int:
    """A figure of this process, as Linux tells it in kB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise SystemExit(f"{name} is not told here")


if __name__ == "__main__":
    main()
