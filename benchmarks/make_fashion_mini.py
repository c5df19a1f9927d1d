"""Make `src/secateur/data/packaged/fashion_mini.npz` from the full Fashion-MNIST.

    python benchmarks/make_fashion_mini.py FOLDER OUT.npz

FOLDER holds the four idx files (Debian: /usr/share/datasets/fashion-mnist). The same input gives
the same bytes: 1,000 images of each class from the training part, 200 of each from the test part,
drawn with a fixed seed, in the order of the full set.
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import numpy as np

from secateur.data import read_idx
from secateur.files import write_bytes

SEED = 20170825  # the day of Fashion-MNIST's first release
PER_CLASS = {"train": 1000, "t10k": 200}


def main(folder: Path, out: Path) -> None:
    """Choose the images and write them."""
    random = np.random.default_rng(SEED)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for part, name in (("train", "train"), ("t10k", "test")):
            x = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
            y = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
            rows = [
                random.choice(np.flatnonzero(y == c), PER_CLASS[part], False) for c in range(10)
            ]
            chosen = np.sort(np.concatenate(rows))
            for key, array in ((f"x_{name}", x[chosen]), (f"y_{name}", y[chosen])):
                member = io.BytesIO()
                np.save(member, array, allow_pickle=False)
                # ZipInfo by hand: its default date keeps the bytes the same
                info = zipfile.ZipInfo(f"{key}.npy")
                archive.writestr(info, member.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)
                print(f"{key}: {array.shape} {array.dtype}")
    write_bytes(out, content.getvalue())
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
