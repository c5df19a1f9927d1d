"""Least squares with a ridge, from sums alone."""

from __future__ import annotations

import torch
from torch import Tensor

from secateur.errors import DataError

_ROUNDING = 1e-12  # of a mean square: what varies less may be rounding in float32

_SINGULAR = 1e-13  # of a pivot: what is left of it is rounding in float64


class NormalEquations:
    """Sums of products over rows, float64, for g groups with k inputs and o outputs each.

    With a constant to be found, rows are counted from the mean of the first ones, so that sums of
    squares do not drown what varies.
    """

    def __init__(
        self, groups: int, inputs: int, outputs: int, *, constant: bool, device: torch.device
    ) -> None:
        def zeros(*sizes: int) -> Tensor:
            return torch.zeros(groups, *sizes, dtype=torch.float64, device=device)

        self.rows = 0
        self._constant = constant
        self._from_x, self._from_y = zeros(1, inputs), zeros(1, outputs)
        self._gram, self._cross = zeros(inputs, inputs), zeros(inputs, outputs)
        self._x, self._y = zeros(1, inputs), zeros(1, outputs)

    @staticmethod
    def size(groups: int, inputs: int, outputs: int) -> int:
        """Bytes that the sums and their solution hold at most."""
        return 8 * groups * (4 * inputs * inputs + 6 * inputs * outputs + 8 * (inputs + outputs))

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take in rows: x is float64 (g, n, k), y float64 (g, n, o)."""
        if self._constant:
            if self.rows == 0:
                self._from_x, self._from_y = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
            x, y = x - self._from_x, y - self._from_y
        self.rows += x.shape[1]
        self._gram.baddbmm_(x.mT, x)
        self._cross.baddbmm_(x.mT, y)
        self._x += x.sum(1, keepdim=True)
        self._y += y.sum(1, keepdim=True)

    def solve(
        self, weight: Tensor, constant: Tensor | None, ridge: float, where: str
    ) -> tuple[Tensor, Tensor | None]:
        """The best weight (g, k, o) and constant (g, o).

        They minimise

            ||x W + b - y||^2 + ridge * d * ||W - weight||^2

        with d the mean diagonal of the Gram matrix of x, about the mean of x where there is a
        constant. The weight of an input that does not vary (is 0, without a constant) stays.

        Args:
            weight, constant: the present ones, float64; no constant where none is to be found.

        Raises:
            DataError: sums are not finite, or no single weight is best.
        """
        gram, cross = self._gram.clone(), self._cross.clone()
        if constant is not None:
            gram.baddbmm_(self._x.mT, self._x, alpha=-1 / self.rows)
            cross.baddbmm_(self._x.mT, self._y, alpha=-1 / self.rows)
        left = cross.baddbmm_(gram, weight, alpha=-1)  # of what is missing
        if not (bool(torch.isfinite(gram).all()) and bool(torch.isfinite(left).all())):
            raise DataError("what it reads or should return is not finite", where=where)
        mean = self._from_x + self._x / self.rows
        diagonal = gram.diagonal(dim1=1, dim2=2)
        still = diagonal <= _ROUNDING * self.rows * mean.squeeze(1).square()
        diagonal += ridge * diagonal.mean(1, keepdim=True)
        gram.masked_fill_(still.unsqueeze(1), 0).masked_fill_(still.unsqueeze(2), 0)
        diagonal[still], left[still] = 1.0, 0.0
        factor, failed = torch.linalg.cholesky_ex(gram)
        pivots = factor.diagonal(dim1=1, dim2=2).square()
        if bool(failed.any()) or bool((pivots <= _SINGULAR * diagonal).any()):
            raise DataError(
                f"its inputs depend on each other on these {self.rows} rows, so no weight is best",
                where=where,
                hint="ridge above 0, or more data",
            )
        best = weight + torch.cholesky_solve(left, factor)
        if constant is None:
            return best, None
        return best, (self._from_y + self._y / self.rows - mean @ best).squeeze(1)
