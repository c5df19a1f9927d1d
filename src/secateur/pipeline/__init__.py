"""The whole way in one call, or in a folder that can be taken up, rebuilt and checked."""

from secateur.pipeline.check import Check
from secateur.pipeline.methods import RECIPES, SALIENCIES, Method
from secateur.pipeline.once import score_once
from secateur.pipeline.packing import pack
from secateur.pipeline.progress import Progress
from secateur.pipeline.prune import prune
from secateur.pipeline.rebuild import rebuild
from secateur.pipeline.remeasure import remeasure
from secateur.pipeline.request import Request
from secateur.pipeline.result import Result
from secateur.pipeline.run import run, task_of
from secateur.pipeline.unpacking import unpack, unpack_run
from secateur.pipeline.verify import verify

__all__ = [
    "RECIPES",
    "SALIENCIES",
    "Check",
    "Method",
    "Progress",
    "Request",
    "Result",
    "pack",
    "prune",
    "rebuild",
    "remeasure",
    "run",
    "score_once",
    "task_of",
    "unpack",
    "unpack_run",
    "verify",
]
