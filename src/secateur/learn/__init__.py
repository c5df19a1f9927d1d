"""Masks that are learned with the weights."""

from secateur.learn.activations import ActivationQuantizer, input_ranges
from secateur.learn.codes import Codes, codes
from secateur.learn.course import Course
from secateur.learn.entropy import row_entropy
from secateur.learn.gate import Gate, Masked
from secateur.learn.gates import Gated, gate
from secateur.learn.history import Epoch, History
from secateur.learn.information import MaskInformation, inclusion, information
from secateur.learn.penalty import EntropyPenalty
from secateur.learn.quantize import Quantizer, StraightThrough
from secateur.learn.quantized import Quantized, fake_quantized
from secateur.learn.rows import PerGroup, PerKernel, PerOutput, PerPosition, Rows, Tiled, Usual
from secateur.learn.sampler import DrawOrder, Relaxation, Sampler
from secateur.learn.start import FromScores, Normal, Start
from secateur.learn.temperature import LinearDecay, Temperature

__all__ = [
    "ActivationQuantizer",
    "Codes",
    "Course",
    "DrawOrder",
    "EntropyPenalty",
    "Epoch",
    "FromScores",
    "Gate",
    "Gated",
    "History",
    "LinearDecay",
    "MaskInformation",
    "Masked",
    "Normal",
    "PerGroup",
    "PerKernel",
    "PerOutput",
    "PerPosition",
    "Quantized",
    "Quantizer",
    "Relaxation",
    "Rows",
    "Sampler",
    "Start",
    "StraightThrough",
    "Temperature",
    "Tiled",
    "Usual",
    "codes",
    "fake_quantized",
    "gate",
    "inclusion",
    "information",
    "input_ranges",
    "row_entropy",
]
