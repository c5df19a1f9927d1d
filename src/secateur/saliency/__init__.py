"""What each unit is worth."""

from secateur.saliency.activation_taylor import ActivationTaylor
from secateur.saliency.apoz import APoZ
from secateur.saliency.batch_fisher import BatchFisher
from secateur.saliency.batch_norm_scale import BatchNormScale
from secateur.saliency.chosen import Chosen, leaves
from secateur.saliency.domino import Domino
from secateur.saliency.fisher import Fisher
from secateur.saliency.geometric_median import GeometricMedian
from secateur.saliency.hessian_diagonal import HessianDiagonal
from secateur.saliency.lamp import LAMP
from secateur.saliency.lowest import Lowest
from secateur.saliency.magnitude import Magnitude
from secateur.saliency.mean_activation import MeanActivation
from secateur.saliency.mean_gradient import MeanGradient
from secateur.saliency.mean_squared_weights import MeanSquaredWeights
from secateur.saliency.need import Need
from secateur.saliency.protocol import ROWS, Collector, Saliency, Seen, State, add
from secateur.saliency.random import Random
from secateur.saliency.reconstruction import Reconstruction
from secateur.saliency.relevance import Relevance
from secateur.saliency.score import finish, observe, score
from secateur.saliency.shown import Shown
from secateur.saliency.states import States, load_states, merge, save_states
from secateur.saliency.taylor import Taylor
from secateur.saliency.utilization import Utilization
from secateur.saliency.wanda import Wanda

__all__ = [
    "LAMP",
    "ROWS",
    "APoZ",
    "ActivationTaylor",
    "BatchFisher",
    "BatchNormScale",
    "Chosen",
    "Collector",
    "Domino",
    "Fisher",
    "GeometricMedian",
    "HessianDiagonal",
    "Lowest",
    "Magnitude",
    "MeanActivation",
    "MeanGradient",
    "MeanSquaredWeights",
    "Need",
    "Random",
    "Reconstruction",
    "Relevance",
    "Saliency",
    "Seen",
    "Shown",
    "State",
    "States",
    "Taylor",
    "Utilization",
    "Wanda",
    "add",
    "finish",
    "leaves",
    "load_states",
    "merge",
    "observe",
    "save_states",
    "score",
]
