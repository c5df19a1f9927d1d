"""What each unit is worth."""

from secateur.saliency.magnitude import Magnitude
from secateur.saliency.protocol import Need, Saliency, Seen, State, add
from secateur.saliency.random import Random
from secateur.saliency.score import finish, observe, score
from secateur.saliency.states import States, merge
from secateur.saliency.taylor import Taylor

__all__ = [
    "Magnitude",
    "Need",
    "Random",
    "Saliency",
    "Seen",
    "State",
    "States",
    "Taylor",
    "add",
    "finish",
    "merge",
    "observe",
    "score",
]
