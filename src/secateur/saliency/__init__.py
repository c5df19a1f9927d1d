"""What each unit is worth."""

from secateur.saliency.magnitude import Magnitude
from secateur.saliency.need import Need
from secateur.saliency.protocol import Collector, Saliency, Seen, State, add
from secateur.saliency.random import Random
from secateur.saliency.score import finish, observe, score
from secateur.saliency.shown import Shown
from secateur.saliency.states import States, merge
from secateur.saliency.taylor import Taylor

__all__ = [
    "Collector",
    "Magnitude",
    "Need",
    "Random",
    "Saliency",
    "Seen",
    "Shown",
    "State",
    "States",
    "Taylor",
    "add",
    "finish",
    "merge",
    "observe",
    "score",
]
