"""Getting back what pruning cost."""

from secateur.recover.finetune import finetune
from secateur.recover.fold_means import fold_means
from secateur.recover.least_squares import least_squares
from secateur.recover.loop import Step, train
from secateur.recover.optimizer import SGD, AdamW
from secateur.recover.recalibrate import recalibrate
from secateur.recover.repaired import Repaired
from secateur.recover.schedule import Cosine
from secateur.recover.teacher import Teacher

__all__ = [
    "SGD",
    "AdamW",
    "Cosine",
    "Repaired",
    "Step",
    "Teacher",
    "finetune",
    "fold_means",
    "least_squares",
    "recalibrate",
    "train",
]
