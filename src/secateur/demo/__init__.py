"""Small networks to try things on, some of them trained, and the code that trained them."""

from secateur.demo.epoch import Progress
from secateur.demo.pretrained import PRETRAINED, pretrained, trained_how
from secateur.demo.recipe import Recipe
from secateur.demo.table import DEMO_NETWORKS, DemoNetwork, network
from secateur.demo.train import train

__all__ = [
    "DEMO_NETWORKS",
    "PRETRAINED",
    "DemoNetwork",
    "Progress",
    "Recipe",
    "network",
    "pretrained",
    "train",
    "trained_how",
]
