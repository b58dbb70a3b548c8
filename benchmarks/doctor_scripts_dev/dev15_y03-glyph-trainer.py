"""Digit classifier with a Trainer object: accumulation, early stopping, best weights back at the end."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from toydata import draw_digits

logging.basicConfig(level=logging.INFO, format="%(levelname).1s %(message)s")
log = logging.getLogger("glyphs")


@dataclass
class TrainerConfig:
    max_epochs: int = 14
    micro_batch: int = 16
    accumulate: int = 4
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    patience: int = 4
    seed: int = 4


@dataclass
class History:
    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_acc: list[float] = field(default_factory=list)


class GlyphNet(nn.Module):
    def __init__(self, num_classes: int, width: int = 16):
        super().__init__()
        self.features = nn.Sequential(
            self._stage(1, width),
            self._stage(width, 2 * width),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.ReLU(),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(2 * width * 16, 64),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(64, num_classes),
        )

    @staticmethod
    def _stage(cin: int, cout: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


class Trainer:
    def __init__(self, model: nn.Module, cfg: TrainerConfig):
        self.model, self.cfg = model, cfg
        self.loss_fn = nn.CrossEntropyLoss()
        self.opt = torch.optim.SGD(
            model.parameters(), lr=cfg.lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay
        )
        self.sched = torch.optim.lr_scheduler.CosineAnnealingLR(self.opt, T_max=cfg.max_epochs)
        self.history = History()
        self.best = float("inf")
        self.best_state: dict | None = None
        self.bad_epochs = 0

    def fit(self, train_set, val_set) -> History:
        train_dl = DataLoader(train_set, batch_size=self.cfg.micro_batch, shuffle=True, drop_last=True)
        val_dl = DataLoader(val_set, batch_size=100)
        for epoch in range(1, self.cfg.max_epochs + 1):
            train_loss = self._train_one_epoch(train_dl)
            val_loss, val_acc = self.evaluate(val_dl)
            self.sched.step()
            self.history.train_loss.append(train_loss)
            self.history.val_loss.append(val_loss)
            self.history.val_acc.append(val_acc)
            log.info("epoch %02d  train %.4f  val %.4f  acc %.3f", epoch, train_loss, val_loss, val_acc)
            if self._should_stop(val_loss, val_acc):
                log.info("stopping early")
                break
        self.model.load_state_dict(self.best_state)
        return self.history

    def _should_stop(self, val_loss: float, val_acc: float) -> bool:
        current = val_loss
        if current < self.best:
            self.best = current
            self.best_state = copy.deepcopy(self.model.state_dict())
            self.bad_epochs = 0
        else:
            self.bad_epochs += 1
        return self.bad_epochs >= self.cfg.patience

    def _train_one_epoch(self, loader: DataLoader) -> float:
        self.model.train()
        running = 0.0
        self.opt.zero_grad()
        for step, (x, y) in enumerate(loader, start=1):
            loss = self.loss_fn(self.model(x), y)
            running += loss.item()
            (loss / self.cfg.accumulate).backward()
            if step % self.cfg.accumulate == 0:
                self.opt.step()
                self.opt.zero_grad()
        return running / len(loader)

    @torch.inference_mode()
    def evaluate(self, loader: DataLoader) -> tuple[float, float]:
        self.model.eval()
        total_loss, right, n = 0.0, 0, 0
        for x, y in loader:
            out = self.model(x)
            total_loss += self.loss_fn(out, y).item() * len(y)
            right += (out.argmax(1) == y).sum().item()
            n += len(y)
        return total_loss / n, right / n


def make_dataset(count: int, seed: int) -> TensorDataset:
    images, labels = draw_digits(count, seed=seed)
    x = images.float() / 255.0
    return TensorDataset((x - 0.16) / 0.27, labels)


def main() -> None:
    cfg = TrainerConfig()
    torch.manual_seed(cfg.seed)
    full = make_dataset(1800, seed=7)
    train_set, val_set = random_split(full, [1500, 300], generator=torch.Generator().manual_seed(cfg.seed))
    num_classes = int(full.tensors[1].max()) + 1

    trainer = Trainer(GlyphNet(num_classes), cfg)
    history = trainer.fit(train_set, val_set)
    log.info("epochs run: %d, best val loss %.4f", len(history.val_loss), min(history.val_loss))

    test_loss, test_acc = trainer.evaluate(DataLoader(make_dataset(400, seed=8), batch_size=100))
    print(f"test loss {test_loss:.4f}  test accuracy {test_acc:.3f}")


if __name__ == "__main__":
    main()
