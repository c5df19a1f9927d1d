"""Build the wheel; check that it holds every file of the package, and works without the source.

The wheel goes into a fresh environment that sees the dependencies installed beside this
interpreter, but not the source tree.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"

# Runs in the fresh environment, in an empty folder. The extras are there, but hidden: a plain
# install has to do without them, and what is written for one of them has to say so.
PROBE = """
import importlib, pkgutil, sys
extras = "PIL accelerate hypothesis lightning mlxtend pytest pytorch_lightning sklearn tensorboard"
extras += " timm torch_pruning torchvision transformers"
sys.modules.update(dict.fromkeys(extras.split()))
import secateur
from secateur.errors import MissingExtraError
if not secateur.__file__.startswith(sys.prefix):
    sys.exit(f"imported from {secateur.__file__}, not from the wheel")
names = [found.name for found in pkgutil.walk_packages(secateur.__path__, "secateur.")]
for name in names:
    if name.endswith("__main__"):
        continue
    try:
        importlib.import_module(name)
    except MissingExtraError:
        if not name.startswith("secateur.integrations."):
            raise
print(f"{len(names)} modules import from the wheel")
"""


def run(*command: str | Path, cwd: Path) -> None:
    """Run a command; leave with its output where it fails."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"failed: {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    print(done.stdout, end="")


def package_files() -> set[str]:
    """What belongs in the wheel: the files under src/ that git tracks or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "src"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = (ROOT / line for line in listed.stdout.splitlines())
    return {path.relative_to(SOURCE).as_posix() for path in paths if path.is_file()}


def missing(wheel: Path) -> list[str]:
    """Files of the package that are not in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return sorted(package_files() - set(archive.namelist()))


def main() -> None:
    """Build, compare, install, import."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        run(*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
        (wheel,) = folder.glob("*.whl")
        if left_out := missing(wheel):
            sys.exit("not in the wheel:\n" + "\n".join(left_out))
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, nothing of the package left out")

        fresh = folder / "fresh"
        venv.create(fresh)
        python = fresh / "bin" / "python"
        paths = {"base": str(fresh), "platbase": str(fresh)}
        site = Path(sysconfig.get_path("purelib", "venv", vars=paths))
        # A plain line makes the dependencies visible; .pth files over there, such as the editable
        # install's, are not read.
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        install = ["--python", python, "install", "--no-deps", "--force-reinstall", wheel]
        run(*pip, *install, cwd=folder)
        run(python, "-I", "-c", PROBE, cwd=folder)
        run(fresh / "bin" / "secateur", "--help", cwd=folder)


if __name__ == "__main__":
    main()
