"""What NNCodec makes of the codes of a network; runs in an environment of its own, never in ours.

    python benchmarks/_bundle_nncodec.py codes.safetensors

It codes whole numbers as they are, and quantises all else. So it is given the codes alone; the other tensors
are counted in float32, as they are. Prints {"codes": bytes, "floats": bytes, "all": bytes}.
"""

from __future__ import annotations

import json
import sys
from unittest.mock import MagicMock

import numpy as np
import safetensors.numpy
import torch

_lib = torch.library.Library("torchvision", "DEF")  # what torchvision lacks beside a CPU-only torch
for _name in ("nms", "qnms"):
    _lib.define(_name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

for _ in range(
    50
):  # data sets, federated learning, logging: imported at once, and no part of coding
    try:
        from nncodec import nnc
    except ModuleNotFoundError as error:
        stub = MagicMock()
        stub.__path__, stub.__spec__ = [], None
        sys.modules[str(error.name)] = stub
    else:
        break


def main() -> None:
    """Compress, decompress, compare."""
    given = safetensors.numpy.load_file(sys.argv[1])
    codes = {
        name: array.astype(np.int32) for name, array in given.items() if array.dtype == np.int8
    }
    floats = sum(array.nbytes for array in given.values() if array.dtype != np.int8)
    stream = nnc.compress(
        dict(codes),
        bitstream_path="/dev/null",
        use_dq=False,
        param_opt=False,
        row_skipping=True,
        return_bitstream=True,
        verbose=False,
    )
    back = nnc.decompress(bytearray(stream))
    for name, array in codes.items():
        if not np.array_equal(back[name], array):
            raise SystemExit(f"{name} did not come back as it was")
    print(json.dumps({"codes": len(stream), "floats": floats, "all": len(stream) + floats}))


if __name__ == "__main__":
    main()
