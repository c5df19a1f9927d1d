"""Getting back what pruning cost."""

from secateur.recover.finetune import finetune
from secateur.recover.loop import Step, train
from secateur.recover.optimizer import SGD, AdamW
from secateur.recover.recalibrate import recalibrate
from secateur.recover.schedule import Cosine
from secateur.recover.teacher import Teacher

__all__ = ["SGD", "AdamW", "Cosine", "Step", "Teacher", "finetune", "recalibrate", "train"]
