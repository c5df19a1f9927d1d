"""One file for every class of operators; importing them fills the table."""

from secateur.trace.rules import (
    contraction,
    lookup,
    norm,
    pointwise,
    reduction,
    shape,
    spatial,
)
from secateur.trace.rules.pointwise import rule_for
from secateur.trace.rules.table import RULES, Call, bind, refuse

__all__ = [
    "RULES",
    "Call",
    "bind",
    "contraction",
    "lookup",
    "norm",
    "pointwise",
    "reduction",
    "refuse",
    "rule_for",
    "shape",
    "spatial",
]
