"""Layer-wise relevance propagation: how much each activation has to do with the output.

rules.py     how a layer hands relevance on, as values
targets.py   which output is explained
layer.py     a Linear or convolution as a linear map, forwards and backwards
patches.py   sums over the pixels that meet a kernel position
names.py     which parameter, or part of one, a layer multiplies with
passage.py   one layer's place in the autograd graph
watch.py     finds the layers while the network runs
lrp.py       the collector: one forward, one backward, two effects a weight
"""

from secateur.saliency.lrp.effects import Effects
from secateur.saliency.lrp.lrp import LRP, Relevances
from secateur.saliency.lrp.rules import Epsilon, EpsilonPlus, GradTimesActivation, Rule, ZPlus
from secateur.saliency.lrp.targets import Predicted, Target, TrueLabel

__all__ = [
    "LRP",
    "Effects",
    "Epsilon",
    "EpsilonPlus",
    "GradTimesActivation",
    "Predicted",
    "Relevances",
    "Rule",
    "Target",
    "TrueLabel",
    "ZPlus",
]
