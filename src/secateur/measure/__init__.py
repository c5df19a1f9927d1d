"""What a network is worth: accuracy with its interval, and every cost beside it."""

from secateur.measure.accuracy import Accuracy, accuracy
from secateur.measure.measures import Measures, measure, measures_json
from secateur.measure.search import search
from secateur.measure.trial import Dial, Measured

__all__ = [
    "Accuracy",
    "Dial",
    "Measured",
    "Measures",
    "accuracy",
    "measure",
    "measures_json",
    "search",
]
