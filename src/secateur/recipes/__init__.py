"""Published pruning systems, each written as its paper says it."""

from secateur.recipes.fair import Fair
from secateur.recipes.flexrel import FlexRel
from secateur.recipes.oracle import Oracle
from secateur.recipes.recipe import Question, Recipe, Repairing

__all__ = ["Fair", "FlexRel", "Oracle", "Question", "Recipe", "Repairing"]
