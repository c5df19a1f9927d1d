"""secateur prunes PyTorch networks until they fit a budget that was measured."""

from secateur.errors import SecateurError
from secateur.find import groups
from secateur.granularity import Block, Channels, Kernels, Weights
from secateur.mask import Certificate, certify, masked, shrink
from secateur.types import Budget, Group, Groups, Plan, Scores
from secateur.types.budget import accuracy, latency, macs, memory, nbytes, params, units

__all__ = [
    "Block",
    "Budget",
    "Certificate",
    "Channels",
    "Group",
    "Groups",
    "Kernels",
    "Plan",
    "Scores",
    "SecateurError",
    "Weights",
    "accuracy",
    "certify",
    "groups",
    "latency",
    "macs",
    "masked",
    "memory",
    "nbytes",
    "params",
    "shrink",
    "units",
]
