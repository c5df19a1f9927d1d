"""What a network costs: counted from its groups, counted on itself, and measured."""

from secateur.cost.coded import Coded, coded, mask_bits
from secateur.cost.counted import count_macs, count_params, weight_bytes
from secateur.cost.counts import macs, macs_by_module, params
from secateur.cost.latency import Latency, interleaved, latency
from secateur.cost.memory import peak_memory_bytes
from secateur.cost.verdict import verdict, within

__all__ = [
    "Coded",
    "Latency",
    "coded",
    "count_macs",
    "count_params",
    "interleaved",
    "latency",
    "macs",
    "macs_by_module",
    "mask_bits",
    "params",
    "peak_memory_bytes",
    "verdict",
    "weight_bytes",
    "within",
]
