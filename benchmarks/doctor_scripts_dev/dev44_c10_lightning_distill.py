"""Knowledge distillation for signals with Lightning; the student meets easy samples first."""
import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset

from toydata import waves

NUM_CLASSES = 4


def conv_net(width, depth):
    layers, channels = [], 1
    for _ in range(depth):
        layers += [nn.Conv1d(channels, width, 7, padding=3), nn.BatchNorm1d(width), nn.ReLU(), nn.MaxPool1d(2)]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * (64 >> depth), NUM_CLASSES))


class WaveClassifier(L.LightningModule):
    def __init__(self, width, depth, lr=2e-3):
        super().__init__()
        self.net = conv_net(width, depth)
        self.lr = lr
        self.right, self.seen = 0, 0

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch[:2]
        return F.cross_entropy(self(x), y)

    def on_validation_epoch_start(self):
        self.right, self.seen = 0, 0

    def validation_step(self, batch, batch_idx):
        x, y = batch[:2]
        self.right += (self(x).argmax(dim=1) == y).sum().item()
        self.seen += len(y)

    def on_validation_epoch_end(self):
        print(f"{type(self).__name__} epoch {self.current_epoch}: val accuracy {self.right / self.seen:.3f}")

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=1e-2)


class Student(WaveClassifier):
    def __init__(self, train_set, difficulty, temperature=3.0, alpha=0.7, epochs=10, **options):
        super().__init__(**options)
        self.train_set = train_set
        self.order = torch.argsort(difficulty)
        self.temperature, self.alpha, self.epochs = temperature, alpha, epochs

    def train_dataloader(self):
        share = min(1.0, 0.5 + 0.125 * self.trainer.current_epoch)
        allowed = self.order[: int(share * len(self.order))].tolist()
        return DataLoader(Subset(self.train_set, allowed), batch_size=32, shuffle=True)

    def training_step(self, batch, batch_idx):
        x, y, teacher_logits = batch
        logits, t = self(x), self.temperature
        soft = F.kl_div(F.log_softmax(logits / t, dim=1), F.softmax(teacher_logits / t, dim=1),
                        reduction="batchmean") * t * t
        return self.alpha * soft + (1 - self.alpha) * F.cross_entropy(logits, y)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda e: 1.0 if e < 6 else 0.4)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}


def difficulty_within_class(logits, labels):
    """Rank of each sample's loss among those of its class, from 0 to 1, so that every share has all classes."""
    losses = F.cross_entropy(logits, labels, reduction="none")
    rank = torch.zeros(len(labels))
    for c in range(NUM_CLASSES):
        members = torch.nonzero(labels == c).flatten()
        members = members[losses[members].argsort()]
        rank[members] = torch.linspace(0, 1, len(members))
    return rank


def make_trainer(epochs, **options):
    return L.Trainer(max_epochs=epochs, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
                     enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, **options)


def main():
    L.seed_everything(11)
    x, y = waves(960, seed=0)
    x_val, y_val = waves(320, seed=1)
    val_loader = DataLoader(TensorDataset(x_val, y_val), batch_size=80)

    teacher = WaveClassifier(width=32, depth=3)
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
    make_trainer(6).fit(teacher, loader, val_loader)

    teacher.eval()
    with torch.no_grad():
        teacher_logits = torch.cat([teacher(chunk) for chunk in x.split(160)])

    student = Student(TensorDataset(x, y, teacher_logits), difficulty_within_class(teacher_logits, y),
                      width=8, depth=2, lr=4e-3)
    make_trainer(student.epochs, reload_dataloaders_every_n_epochs=1).fit(student, val_dataloaders=val_loader)
    sizes = [sum(p.numel() for p in m.net.parameters()) for m in (teacher, student)]
    print(f"parameters: teacher {sizes[0]}, student {sizes[1]}")


if __name__ == "__main__":
    main()
