"""Published pruning systems, each written as its paper says it."""

from secateur.recipes.begin import Scratch, Trained
from secateur.recipes.dpp import Dpp
from secateur.recipes.fair import Fair
from secateur.recipes.flexrel import FlexRel
from secateur.recipes.oracle import Oracle
from secateur.recipes.recipe import Learned, Learning, Question, Recipe, Repairing

__all__ = [
    "Dpp",
    "Fair",
    "FlexRel",
    "Learned",
    "Learning",
    "Oracle",
    "Question",
    "Recipe",
    "Repairing",
    "Scratch",
    "Trained",
]
