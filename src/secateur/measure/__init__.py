"""What a network is worth: accuracy with its interval, and every cost beside it."""

from secateur.measure.accuracy import Accuracy, accuracy
from secateur.measure.measures import Measures, measure, measures_json

__all__ = ["Accuracy", "Measures", "accuracy", "measure", "measures_json"]
