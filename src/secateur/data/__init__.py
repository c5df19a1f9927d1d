"""Data to prune with: images and labels in batches, from files, folders or the user's own code."""

from secateur.data.demo import DEMO_DATA
from secateur.data.idx import read_idx
from secateur.data.load import load
from secateur.types.dataset import Batches, Dataset, Split, Stream

__all__ = ["DEMO_DATA", "Batches", "Dataset", "Split", "Stream", "load", "read_idx"]
