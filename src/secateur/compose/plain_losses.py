"""Losses the plain way: mask a candidate, run the whole network, take the mask off."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from secateur.compose.candidates import Candidate, Masks
from secateur.compose.losses import Answer, Measured, Question
from secateur.compose.pool import Pool, checked_loss
from secateur.mask.masked import masked
from secateur.types.call import device_of, run
from secateur.types.group import Groups
from secateur.types.loss import Loss
from secateur.types.plan import Plan
from secateur.types.untouched import untouched


class PlainLosses:
    """The twin that every faster way is compared with: as in the paper, batches of 128 images.

    The network is masked in place and restored bit for bit, whatever happens.
    """

    def __init__(
        self, model: nn.Module, groups: Groups, pool: Pool, loss: Loss, batch: int = 128
    ) -> None:
        self.model, self.groups, self.loss = model, groups, loss
        self.samples, self.batch = pool, batch

    def __str__(self) -> str:
        return "PlainLosses()"

    @property
    def pool(self) -> int:
        """How many samples there are."""
        return len(self.samples)

    def measure(self, question: Question) -> Answer:
        """One run of the whole network for each candidate, and one for the network as it is."""
        present = self.mean_loss(question.masks, question.rows, "present network")
        count = question.rows.numel()
        measured = tuple(
            Measured(self.candidate_loss(question, candidate), count)
            for candidate in question.candidates
        )
        return Answer(present, measured)

    def candidate_loss(self, question: Question, candidate: Candidate) -> float:
        """Mean loss without one candidate."""
        mask = question.masks[candidate.group].clone()
        mask[candidate.unit] = False
        masks = {**question.masks, candidate.group: mask}
        return self.mean_loss(masks, question.rows, str(candidate))

    def mean_loss(self, masks: Masks, rows: Tensor, where: str) -> float:
        """Mean loss of the masked network over some rows of the pool.

        Raises:
            DataError: the network does not run on the samples, or the loss is not finite.
        """
        total, device = 0.0, device_of(self.model)
        plan = Plan(self.groups, masks)
        with untouched(self.model), masked(self.model, plan), torch.no_grad():
            for part in rows.split(self.batch):
                x, y = self.samples.batch(part, device)
                value = checked_loss(run(self.model, x, where), y, self.loss, where)
                total += value * part.numel()
        return total / rows.numel()
