"""What a network is worth: accuracy with its interval, and every cost beside it."""

from secateur.measure.accuracy import Accuracy, accuracy
from secateur.measure.measures import Measures, measure, measures_json
from secateur.measure.search import Measured, search

__all__ = ["Accuracy", "Measured", "Measures", "accuracy", "measure", "measures_json", "search"]
