"""The values that pass between the stages of the pipeline."""

from secateur.types.budget import Budget
from secateur.types.equation import Equation
from secateur.types.group import (
    Activation,
    Contraction,
    Declared,
    Extent,
    Fixed,
    Group,
    Groups,
    Least,
    Member,
    Place,
    Role,
)
from secateur.types.plan import Plan
from secateur.types.scores import Scores

__all__ = [
    "Activation",
    "Budget",
    "Contraction",
    "Declared",
    "Equation",
    "Extent",
    "Fixed",
    "Group",
    "Groups",
    "Least",
    "Member",
    "Place",
    "Plan",
    "Role",
    "Scores",
]
