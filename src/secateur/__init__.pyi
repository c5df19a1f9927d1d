# What type checkers see of `__init__.py`, which loads its names late; a test holds the two equal.

from secateur.allocate import Ranked, Uniform, allocate
from secateur.errors import SecateurError
from secateur.find import groups
from secateur.granularity import Block, Channels, Kernels, Weights
from secateur.mask import Certificate, certify, masked, shrink
from secateur.pipeline import Result, prune, rebuild
from secateur.recover import SGD, AdamW, Cosine, Teacher, finetune, recalibrate
from secateur.saliency import Magnitude, Need, Random, Saliency, Taylor, merge, score
from secateur.types import Budget, Group, Groups, Plan, Scores
from secateur.types.budget import accuracy, latency, macs, memory, nbytes, params, units

__all__ = [
    "SGD",
    "AdamW",
    "Block",
    "Budget",
    "Certificate",
    "Channels",
    "Cosine",
    "Group",
    "Groups",
    "Kernels",
    "Magnitude",
    "Need",
    "Plan",
    "Random",
    "Ranked",
    "Result",
    "Saliency",
    "Scores",
    "SecateurError",
    "Taylor",
    "Teacher",
    "Uniform",
    "Weights",
    "accuracy",
    "allocate",
    "certify",
    "finetune",
    "groups",
    "latency",
    "macs",
    "masked",
    "memory",
    "merge",
    "nbytes",
    "params",
    "prune",
    "rebuild",
    "recalibrate",
    "score",
    "shrink",
    "units",
]
