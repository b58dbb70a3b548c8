"""Networks of attention that know no positions, where the order decides."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from planted.case import Case, fault
from planted.parts import batches, plain


class Encoder(nn.Module):
    def __init__(self, tokens: int, length: int, width: int, positions: bool) -> None:
        super().__init__()
        self.token = nn.Embedding(tokens, width)
        self.position = nn.Embedding(length, width) if positions else None
        self.blocks = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True), 2
        )
        self.head = nn.Linear(width, 2)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.token(ids)
        if self.position is not None:
            x = x + self.position(torch.arange(ids.shape[1]))
        return self.head(self.blocks(x).mean(1))


@fault("model.order-ignored")
def tokens_without_positions(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    x = torch.randint(0, 12, (2600, 10))
    y = (x[:, 0] > x[:, -1]).long()
    model = Encoder(12, 10, 32, fixed)
    train, val = batches(x[:2000], y[:2000], 64, seed), plain(x[2000:], y[2000:])
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.AdamW(model.parameters(), lr=1e-3))


class Attend(nn.Module):
    """Attention that is written out, over measurements of a sensor."""

    def __init__(self, length: int, positions: bool) -> None:
        super().__init__()
        self.lift = nn.Linear(1, 32)
        self.q, self.k, self.v = (nn.Linear(32, 32) for _ in range(3))
        self.place = nn.Parameter(torch.randn(length, 32)) if positions else None
        self.head = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        if self.place is not None:
            x = x + self.place
        weights = (self.q(x) @ self.k(x).transpose(1, 2) / 32**0.5).softmax(-1)
        return self.head((x + weights @ self.v(x)).relu().mean(1))


@fault("model.order-ignored")
def rising_or_falling_without_positions(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    x = torch.randn(2400, 16).cumsum(1).sort(1).values
    x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)
    y = torch.randint(0, 2, (2400,))
    x = torch.where(y[:, None] == 1, x, x.flip(1))[..., None]
    model = Attend(16, fixed)
    train, val = batches(x[:2000], y[:2000], 50, seed), plain(x[2000:], y[2000:])
    return Case(model, train, val, F.cross_entropy, lambda params: torch.optim.Adam(params, lr=2e-3))
