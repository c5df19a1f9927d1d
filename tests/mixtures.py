"""Small routed mixtures, written as people write them, and what is left of them by hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, HIDDEN = 6, 5


class Expert(nn.Module):
    """Two Linear layers."""

    def __init__(self, hidden: int = HIDDEN, width: int = WIDTH) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.relu(self.up(x)))


class Base(nn.Module):
    """A router, and a list of experts beside it."""

    def __init__(self, experts: int = 4, k: int = 2) -> None:
        super().__init__()
        self.router = nn.Linear(WIDTH, experts)
        self.experts = nn.ModuleList(Expert() for _ in range(experts))
        self.k = k


class Sparse(Base):
    """Each sample goes to the k experts that the router likes best."""

    def forward(self, x: Tensor) -> Tensor:
        shares, chosen = self.router(x).softmax(-1).topk(self.k, dim=-1)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows, place = torch.where(chosen == number)
            if len(rows):
                out.index_add_(0, rows, shares[rows, place, None] * expert(x[rows]))
        return out


class Dense(Base):
    """Every expert sees every sample."""

    def forward(self, x: Tensor) -> Tensor:
        shares = self.router(x).softmax(-1)
        return sum(shares[:, i : i + 1] * expert(x) for i, expert in enumerate(self.experts))


class Together(Base):
    """As `Dense`, with the outputs of all experts in one tensor."""

    def forward(self, x: Tensor) -> Tensor:
        shares = self.router(x).softmax(-1)
        return (torch.stack([e(x) for e in self.experts], 1) * shares.unsqueeze(-1)).sum(1)


class Numbered(Base):
    """As large language models do it: tokens in rows, one-hot masks, and an attribute that counts."""

    def __init__(self, experts: int = 4, k: int = 2) -> None:
        super().__init__(experts, k)
        self.router = nn.Linear(WIDTH, experts, bias=False)
        self.num_experts = experts

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.view(-1, x.shape[-1])
        shares = F.softmax(self.router(tokens), dim=1, dtype=torch.float).to(x.dtype)
        shares, chosen = torch.topk(shares, self.k, dim=-1)
        shares = shares / shares.sum(-1, keepdim=True)
        out = torch.zeros_like(tokens)
        sent = F.one_hot(chosen, num_classes=self.num_experts).permute(2, 1, 0)
        for number in range(self.num_experts):
            place, rows = torch.where(sent[number])
            found = self.experts[number](tokens[None, rows].reshape(-1, x.shape[-1]))
            out.index_add_(0, rows, found * shares[rows, place, None])
        return out.reshape(x.shape)


class Gate(nn.Module):
    """A router in a module of its own: sigmoid, and a correction that only serves the choice."""

    def __init__(self, experts: int, k: int) -> None:
        super().__init__()
        self.linear, self.k, self.n_routed_experts = (
            nn.Linear(WIDTH, experts, bias=False),
            k,
            experts,
        )
        self.register_buffer("correction", torch.randn(experts) / 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.linear(x).sigmoid()
        chosen = (scores + self.correction).topk(self.k, dim=-1, sorted=False)[1]
        return chosen, scores.gather(1, chosen)


class Corrected(nn.Module):
    """A gate, routed experts, and one that sees everything."""

    def __init__(self, experts: int = 4, k: int = 2) -> None:
        super().__init__()
        self.experts = nn.ModuleList(Expert() for _ in range(experts))
        self.gate, self.shared = Gate(experts, k), Expert()

    def forward(self, x: Tensor) -> Tensor:
        chosen, shares = self.gate(x)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows, place = torch.where(chosen == number)
            out[rows] += expert(x[rows]) * shares[rows, place, None]
        return out + self.shared(x)


class Switch(Base):
    """One expert a sample, found by `max`."""

    def forward(self, x: Tensor) -> Tensor:
        share, chosen = self.router(x).softmax(-1).max(-1)
        out = torch.empty_like(x)
        for number, expert in enumerate(self.experts):
            rows = (chosen == number).nonzero().flatten()
            out[rows] = expert(x[rows])
        return out * share[:, None]


class Stacked(nn.Module):
    """Experts as slices of three parameters; labels follow them."""

    def __init__(self, experts: int = 4) -> None:
        super().__init__()
        self.router = nn.Linear(WIDTH, experts)
        self.up = nn.Parameter(torch.randn(experts, WIDTH, HIDDEN))
        self.bias = nn.Parameter(torch.randn(experts, HIDDEN))
        self.down = nn.Parameter(torch.randn(experts, HIDDEN, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.einsum("nd,edh->enh", x, self.up) + self.bias[:, None]
        out = torch.einsum("enh,ehd->end", F.relu(hidden), self.down)
        return torch.einsum("end,ne->nd", out, self.router(x).softmax(-1))


class Batched(Stacked):
    """With baddbmm and bmm."""

    def forward(self, x: Tensor) -> Tensor:
        given = x.expand(len(self.up), -1, -1)
        hidden = torch.baddbmm(self.bias[:, None], given, self.up)
        out = torch.bmm(F.relu(hidden), self.down)
        return (out * self.router(x).softmax(-1).t().unsqueeze(-1)).sum(0)


class Scattered(Stacked):
    """The shares of the two best, zero for the others; everything is computed."""

    def forward(self, x: Tensor) -> Tensor:
        logits = self.router(x)
        best, chosen = logits.topk(2, -1)
        shares = torch.zeros_like(logits).scatter(1, chosen, best.softmax(-1))
        hidden = torch.einsum("nd,edh->enh", x, self.up) + self.bias[:, None]
        out = torch.einsum("enh,ehd->end", F.relu(hidden), self.down)
        return torch.einsum("end,ne->nd", out, shares)


class Gathered(Stacked):
    """The matrices of the two best are picked for each sample."""

    def forward(self, x: Tensor) -> Tensor:
        best, chosen = self.router(x).topk(2, -1)
        hidden = torch.einsum("nd,nkdh->nkh", x, self.up[chosen]) + self.bias[chosen]
        out = torch.einsum("nkh,nkhd->nkd", F.relu(hidden), self.down[chosen])
        return (out * best.softmax(-1)[..., None]).sum(1)


class Picked(nn.Module):
    """The parameters of the experts, in a module of their own; each is picked by its number."""

    def __init__(self, experts: int) -> None:
        super().__init__()
        self.num_experts = experts
        self.up = nn.Parameter(torch.randn(experts, 2 * HIDDEN, WIDTH))
        self.down = nn.Parameter(torch.randn(experts, WIDTH, HIDDEN))

    def forward(self, x: Tensor, chosen: Tensor, shares: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        sent = F.one_hot(chosen, num_classes=self.num_experts).permute(2, 1, 0)
        for number in sent.sum((1, 2)).nonzero().flatten():
            place, rows = torch.where(sent[number])
            gate, up = F.linear(x[rows], self.up[number]).chunk(2, -1)
            found = F.linear(F.silu(gate) * up, self.down[number])
            out.index_add_(0, rows, found * shares[rows, place, None])
        return out


class Apart(nn.Module):
    """A router, and beside it the module that holds the stacked parameters."""

    def __init__(self, experts: int = 4) -> None:
        super().__init__()
        self.router, self.experts = nn.Linear(WIDTH, experts, bias=False), Picked(experts)

    def forward(self, x: Tensor) -> Tensor:
        shares, chosen = self.router(x).softmax(-1).topk(2, -1)
        return self.experts(x, chosen, shares / shares.sum(-1, keepdim=True))


class Convolutions(nn.Module):
    """Experts with BatchNorm on maps, routed by the mean over the map."""

    def __init__(self, experts: int = 4, k: int = 1) -> None:
        super().__init__()
        self.router, self.k = nn.Linear(WIDTH, experts), k
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU())
            for _ in range(experts)
        )

    def forward(self, x: Tensor) -> Tensor:
        shares, chosen = self.router(x.mean((2, 3))).softmax(-1).topk(self.k)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows, place = torch.where(chosen == number)
            if len(rows):
                out[rows] += shares[rows, place, None, None, None] * expert(x[rows])
        return out


class Net(nn.Module):
    """A Linear stem, mixtures with residuals around, and a Linear head; on rows or on maps."""

    def __init__(self, *mixtures: nn.Module) -> None:
        super().__init__()
        self.stem, self.mixtures = nn.Linear(3, WIDTH), nn.Sequential(*mixtures)
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        maps = isinstance(self.mixtures[0], Convolutions)
        for mixture in self.mixtures:
            x = x + (mixture(x.movedim(-1, 1)).movedim(1, -1) if maps else mixture(x))
        return self.head(x.flatten(1, -2).mean(1) if x.dim() > 2 else x)


ROWS = (Sparse, Dense, Together, Numbered, Corrected, Switch)
STACKED = (Stacked, Batched, Scattered, Gathered, Apart)


def net(*mixtures: nn.Module, seed: int = 0) -> Net:
    """A network in eval mode whose router is not shy, and whose statistics are not the identity."""
    built = Net(*mixtures).eval()
    own = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*built.named_parameters(), *built.named_buffers()]:
            if not tensor.is_floating_point():
                continue
            values = torch.randn(tensor.shape, generator=own)
            tensor.copy_(values.abs() + 0.5 if name.endswith("running_var") else values / 2)
    return built


def without(built: nn.Module, kept: Sequence[int]) -> None:
    """Take all but some experts out of a mixture, by hand."""
    place = list(kept)
    linear = built.gate.linear if isinstance(built, Corrected) else built.router
    linear.weight.data = linear.weight.data[place]
    if linear.bias is not None:
        linear.bias.data = linear.bias.data[place]
    linear.out_features = len(place)
    if isinstance(built, Corrected):
        built.gate.correction = built.gate.correction[place]
        built.gate.n_routed_experts = len(place)
    if isinstance(built, Numbered):
        built.num_experts = len(place)
    if isinstance(built, Apart):
        built.experts.num_experts = len(place)
        for tensor in (built.experts.up, built.experts.down):
            tensor.data = tensor.data[place]
    elif isinstance(built, Stacked):
        for tensor in (built.up, built.bias, built.down):
            tensor.data = tensor.data[place]
    else:
        built.experts = nn.ModuleList(built.experts[i] for i in place)
