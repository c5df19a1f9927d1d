"""Saliencies made of saliencies."""

from secateur.compose.best_of import BestOf
from secateur.compose.composable import Blend, Composable, Composed, Product
from secateur.compose.normalise import AsIs, MaxAbs, MinMax, Normalisation, Rank, Share
from secateur.compose.scope import Scope
from secateur.compose.veto import Veto

__all__ = [
    "AsIs",
    "BestOf",
    "Blend",
    "Composable",
    "Composed",
    "MaxAbs",
    "MinMax",
    "Normalisation",
    "Product",
    "Rank",
    "Scope",
    "Share",
    "Veto",
]
