"""The bundle: a network in one small file, for thin links. `docs/format.md` describes it."""

from secateur.wire.header import Header
from secateur.wire.load import Loaded, load
from secateur.wire.packed import Packed, PackedTensor
from secateur.wire.read import stored
from secateur.wire.write import Contents, measured, write

__all__ = [
    "Contents",
    "Header",
    "Loaded",
    "Packed",
    "PackedTensor",
    "load",
    "measured",
    "stored",
    "write",
]
