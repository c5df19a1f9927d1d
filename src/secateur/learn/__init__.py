"""Masks that are learned with the weights."""

from secateur.learn.entropy import row_entropy
from secateur.learn.gate import Gate, Masked
from secateur.learn.gates import Gated, gate
from secateur.learn.penalty import EntropyPenalty
from secateur.learn.rows import PerGroup, PerKernel, PerOutput, PerPosition, Rows, Tiled, Usual
from secateur.learn.sampler import DrawOrder, Relaxation, Sampler
from secateur.learn.start import FromScores, Normal, Start
from secateur.learn.temperature import LinearDecay, Temperature

__all__ = [
    "DrawOrder",
    "EntropyPenalty",
    "FromScores",
    "Gate",
    "Gated",
    "LinearDecay",
    "Masked",
    "Normal",
    "PerGroup",
    "PerKernel",
    "PerOutput",
    "PerPosition",
    "Relaxation",
    "Rows",
    "Sampler",
    "Start",
    "Temperature",
    "Tiled",
    "Usual",
    "gate",
    "row_entropy",
]
