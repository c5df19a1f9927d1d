"""Recurrent networks: torch's own modules and loops written by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.zoo.net import Example, Shelf, normal, tokens

shelf = Shelf()
series: Example = normal(2, 6, 9)


class _Reader(nn.Module):
    """A recurrent layer over a stem, the last step classified."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.stem, self.layer, self.head = nn.Linear(9, 11), layer, nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.layer(self.stem(x).tanh())
        return self.head(out[:, -1])


@shelf.add(series, units=11, prunes=("stem.weight:0",))
def gru() -> nn.Module:
    return _Reader(nn.GRU(11, 14, batch_first=True), 14)


@shelf.add(series, units=11, prunes=("stem.weight:0",))
def elman() -> nn.Module:
    return _Reader(nn.RNN(11, 14, nonlinearity="relu", batch_first=True), 14)


@shelf.add(series, units=11, prunes=("stem.weight:0",))
def bidirectional_lstm() -> nn.Module:
    return _Reader(nn.LSTM(11, 8, batch_first=True, bidirectional=True), 16)


@shelf.add(series, units=11, prunes=("stem.weight:0",))
def stacked_bidirectional_gru() -> nn.Module:
    return _Reader(nn.GRU(11, 6, num_layers=2, batch_first=True, bidirectional=True), 12)


@shelf.add(series, units=11, prunes=("stem.weight:0",))
def projected_lstm() -> nn.Module:
    """Two layers whose state is projected to a smaller width."""
    return _Reader(nn.LSTM(11, 14, num_layers=2, proj_size=6, batch_first=True), 6)


@shelf.add(series, units=11, prunes=("stem.weight:0",))
class GivenState(nn.Module):
    """The first state comes from another layer instead of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Linear(9, 11), nn.Linear(9, 12)
        self.layer, self.head = nn.LSTM(11, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x[:, 0]).tanh()[None]
        out, (hidden, cell) = self.layer(self.stem(x).transpose(0, 1), (first, first * 0.5))
        return self.head(hidden[-1] + cell[-1] + out.mean(0))


@shelf.add(series, units=21, prunes=("cell.weight_hh:0", "cell.weight_hh:1", "stem.weight:0"))
class CellLoop(nn.Module):
    """An LSTMCell that is given nothing at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.cell, self.head = nn.Linear(9, 11), nn.LSTMCell(11, 10), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in self.stem(x).relu().unbind(1):
            state = self.cell(step, state)
        return self.head(state[0])


@shelf.add(series, units=11, prunes=("stem.weight:0",))
class ZerosFromLiteral(nn.Module):
    """The first state is torch.zeros(b, 10) with the width as a number in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.cell, self.head = nn.Linear(9, 11), nn.GRUCell(11, 10), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(x.shape[0], 10, dtype=x.dtype)
        for step in self.stem(x).relu().unbind(1):
            state = self.cell(step, state)
        return self.head(state)


@shelf.add(series, units=11, prunes=("stem.weight:0", "cell.weight_hh:1"))
class ZerosFromAttribute(nn.Module):
    """The same with the width from the cell's own attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.cell, self.head = nn.Linear(9, 11), nn.GRUCell(11, 10), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(x.size(0), self.cell.hidden_size)
        for step in self.stem(x).relu().unbind(1):
            state = self.cell(step, state)
        return self.head(state)


@shelf.add(tokens(), units=18, prunes=("embed.weight:1", "gates.weight:0", "gates.weight:1"))
class LstmByHand(nn.Module):
    """Gates by chunk, the state joined to the input by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.embed = 10, nn.Embedding(30, 8)
        self.gates, self.head = nn.Linear(18, 40), nn.Linear(10, 5)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        hidden = cell = torch.zeros(x.shape[0], self.width, dtype=x.dtype)
        for t in range(ids.shape[1]):
            gates = self.gates(torch.cat([x[:, t], hidden], dim=1))
            inward, forget, value, out = gates.chunk(4, dim=1)
            cell = forget.sigmoid() * cell + inward.sigmoid() * value.tanh()
            hidden = out.sigmoid() * cell.tanh()
        return self.head(hidden)


@shelf.add(normal(2, 3, 6, 6), units=8, prunes=("gates.weight:0",))
class ConvolutionalLstm(nn.Module):
    """States are maps; gates by split with sizes from an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.gates = 8, nn.Conv2d(11, 32, 3, padding=1)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = cell = x.new_zeros(x.shape[0], self.width, *x.shape[2:])
        for _ in range(2):
            gates = self.gates(torch.cat([x, hidden], 1))
            inward, forget, value, out = torch.split(gates, self.width, dim=1)
            cell = forget.sigmoid() * cell + inward.sigmoid() * value.tanh()
            hidden = out.sigmoid() * cell.tanh()
        return self.head(hidden)


NETS = tuple(shelf.nets)
