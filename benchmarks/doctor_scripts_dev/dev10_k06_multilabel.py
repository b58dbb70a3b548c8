"""Multi-label classification: which of five glyphs are in the picture? Dataclass config, BCE with logits, macro F1."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from toydata import shape_mask


@dataclass
class Config:
    size: int = 24
    train_count: int = 3000
    val_count: int = 400
    batch_size: int = 60
    epochs: int = 10
    lr: float = 3e-3
    weight_decay: float = 1e-3
    seed: int = 5


TAGS = [
    ("red square", "square", (0.9, 0.2, 0.1)),
    ("blue square", "square", (0.1, 0.2, 0.9)),
    ("red disc", "disc", (0.9, 0.2, 0.1)),
    ("blue cross", "cross", (0.1, 0.2, 0.9)),
    ("green cross", "cross", (0.1, 0.8, 0.2)),
]


class Scenes(Dataset):
    """Each tag is present with probability 0.4, in a cell of its own of a 3 x 3 grid."""

    def __init__(self, count: int, size: int, seed: int):
        g = torch.Generator().manual_seed(seed)
        self.tags = (torch.rand(count, len(TAGS), generator=g) < 0.4).float()
        self.images = torch.full((count, 3, size, size), 0.5)
        cell = size // 3
        for image, tags in zip(self.images, self.tags):
            cells = torch.randperm(9, generator=g).tolist()
            for position, index in enumerate(tags.nonzero().flatten().tolist()):
                row, column = divmod(cells[position], 3)
                width = int(torch.randint(cell - 1, cell + 1, (1,), generator=g))
                mask = shape_mask(TAGS[index][1], size, row * cell, column * cell, width)
                image[:, mask] = torch.tensor(TAGS[index][2])[:, None]
        self.images += 0.05 * torch.randn(self.images.shape, generator=g)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return (self.images[index] - 0.5) / 0.2, self.tags[index]


class TagNet(nn.Module):
    def __init__(self, tags: int):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 24, 5, padding=2),
            nn.BatchNorm2d(24),
            nn.SiLU(),
            nn.Conv2d(24, 48, 3, stride=2, padding=1),
            nn.BatchNorm2d(48),
            nn.SiLU(),
            nn.Conv2d(48, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.SiLU(),
        )
        self.head = nn.Linear(64, tags)

    def forward(self, x: Tensor) -> Tensor:
        # presence anywhere in the picture: the maximum over places
        return self.head(self.features(x).amax(dim=(2, 3)))


@torch.inference_mode()
def validate(model: nn.Module, loader: DataLoader) -> tuple[float, float]:
    model.eval()
    logits, tags = zip(*[(model(x), y) for x, y in loader])
    logits, tags = torch.cat(logits), torch.cat(tags)
    predicted = (logits.sigmoid() > 0.5).float()
    true_positive = (predicted * tags).sum(0)
    f1 = 2 * true_positive / (predicted.sum(0) + tags.sum(0)).clamp(min=1)
    exact = (predicted == tags).all(dim=1).float().mean()
    return f1.mean().item(), exact.item()


def main(cfg: Config = Config()) -> None:
    torch.manual_seed(cfg.seed)
    train_loader = DataLoader(Scenes(cfg.train_count, cfg.size, seed=1), cfg.batch_size, shuffle=True)
    val_loader = DataLoader(Scenes(cfg.val_count, cfg.size, seed=2), 200)
    model = TagNet(len(TAGS))
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, cfg.epochs)
    for epoch in range(cfg.epochs):
        model.train()
        total = torch.zeros(())
        for images, tags in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(images), tags)
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(images)
        scheduler.step()
        f1, exact = validate(model, val_loader)
        print(f"epoch {epoch:2d}  bce {total.item() / cfg.train_count:.4f}  macro F1 {f1:.4f}  exact match {exact:.4f}")


if __name__ == "__main__":
    main()
