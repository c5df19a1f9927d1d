"""Which units stay, so that the budget holds."""

from secateur.allocate.allocate import allocate
from secateur.allocate.goals import Goal, goals
from secateur.allocate.order import Allocator, Order, shortest
from secateur.allocate.ranked import Ranked
from secateur.allocate.uniform import Uniform

__all__ = [
    "Allocator",
    "Goal",
    "Order",
    "Ranked",
    "Uniform",
    "allocate",
    "goals",
    "shortest",
]
