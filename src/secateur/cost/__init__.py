"""What a network costs: counted from its groups, counted on itself, and measured."""

from secateur.cost.coded import Coded, coded, mask_bits
from secateur.cost.counted import count_macs, count_params, weight_bytes
from secateur.cost.counts import macs, macs_by_module, params
from secateur.cost.latency import Latency, interleaved, latency
from secateur.cost.layers import Layer, Placed, placed
from secateur.cost.machine import processor
from secateur.cost.memory import peak_memory_bytes
from secateur.cost.prices import Prices
from secateur.cost.surface import Surface, points
from secateur.cost.verdict import verdict, within

__all__ = [
    "Coded",
    "Latency",
    "Layer",
    "Placed",
    "Prices",
    "Surface",
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
    "placed",
    "points",
    "processor",
    "verdict",
    "weight_bytes",
    "within",
]
