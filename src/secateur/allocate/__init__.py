"""Which units stay, so that the budget holds."""

from secateur.allocate.allocate import allocate
from secateur.allocate.coupled import ByIndex, Coupled, RankSum
from secateur.allocate.goals import COUNTED, Goal, goals
from secateur.allocate.knapsack import Knapsack
from secateur.allocate.order import Allocator, Choice, Order, shortest
from secateur.allocate.ranked import Ranked
from secateur.allocate.steps import Steps
from secateur.allocate.tolerance import Tolerance
from secateur.allocate.tolerance_of_difference import overlaps, tolerance_of_difference
from secateur.allocate.uniform import Uniform

__all__ = [
    "COUNTED",
    "Allocator",
    "ByIndex",
    "Choice",
    "Coupled",
    "Goal",
    "Knapsack",
    "Order",
    "RankSum",
    "Ranked",
    "Steps",
    "Tolerance",
    "Uniform",
    "allocate",
    "goals",
    "overlaps",
    "shortest",
    "tolerance_of_difference",
]
