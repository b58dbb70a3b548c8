"""Name the weave of a piece of cloth from a close-up, with Lightning."""

import tempfile

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, Dataset

WEAVES = ["plain", "twill S", "twill Z", "rib", "mesh"]


def scan_cloth(per_weave, seed, size=28):
    """Close-ups of each weave in turn: (5 * per_weave, 1, size, size) in 0..1 and their numbers."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low, high):
        return low + (high - low) * torch.rand(per_weave, 1, 1, generator=generator)

    y, x = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
    images, labels = [], []
    for number, weave in enumerate(WEAVES):
        pitch = 2 * torch.pi / uniform(4.5, 7.5)
        p, q = uniform(0, 2 * torch.pi), uniform(0, 2 * torch.pi)
        if weave == "plain":
            pattern = torch.sin(pitch * x + p) * torch.sin(pitch * y + q) * 1.4
        elif weave == "twill S":
            pattern = torch.sin(pitch * (x - y) * 0.7 + p)
        elif weave == "twill Z":
            pattern = torch.sin(pitch * (x + y) * 0.7 + p)
        elif weave == "rib":
            pattern = torch.sin(pitch * x + p)
        else:
            pattern = (torch.sin(pitch * x + p) + torch.sin(pitch * y + q)) * 0.7
        light = uniform(0.4, 0.6) + uniform(-0.12, 0.12) * (x / size - 0.5) + uniform(-0.12, 0.12) * (y / size - 0.5)
        cloth = light + uniform(0.09, 0.2) * pattern
        cloth = cloth + 0.15 * torch.randn(cloth.shape, generator=generator)
        images.append(cloth.clamp(0, 1))
        labels.append(torch.full((per_weave,), number))
    return torch.cat(images).unsqueeze(1), torch.cat(labels)


class Cloth(Dataset):
    def __init__(self, per_weave, seed, train=False, crop=24):
        self.images, self.labels = scan_cloth(per_weave, seed)
        self.train, self.crop = train, crop

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = self.images[index]
        room = image.shape[-1] - self.crop
        if self.train:
            top, left = torch.randint(0, room + 1, (2,)).tolist()
        else:
            top = left = room // 2
        image = image[:, top : top + self.crop, left : left + self.crop]
        if self.train:
            image = image + 0.1 * (torch.rand(()) - 0.5)
        return (image - 0.5) / 0.2, self.labels[index]


class ClothData(L.LightningDataModule):
    def __init__(self, batch_size=32):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        self.train_set = Cloth(260, seed=1, train=True)
        self.val_set = Cloth(60, seed=2)
        self.test_set = Cloth(60, seed=3)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=100)


class WeaveNet(L.LightningModule):
    def __init__(self, lr=1.5e-3, epochs=14):
        super().__init__()
        self.lr, self.epochs = lr, epochs
        self.features = nn.Sequential(
            nn.Conv2d(1, 24, 5, padding=2), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(24, 40, 3, padding=1), nn.BatchNorm2d(40), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(40, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        )
        self.hidden = nn.Linear(64, 64)
        self.out = nn.Linear(64, len(WEAVES))
        self.right = self.seen = 0

    def drop(self, h):
        return F.dropout(h, p=0.5, training=self.training)

    def forward(self, x):
        h = self.features(x).mean((2, 3))
        h = F.relu(self.hidden(self.drop(h)))
        return self.out(self.drop(h))

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return F.cross_entropy(self(images), labels)

    def count(self, batch):
        images, labels = batch
        self.right += (self(images).argmax(1) == labels).sum().item()
        self.seen += len(labels)

    def close(self, name):
        accuracy = self.right / self.seen
        self.right = self.seen = 0
        self.log(name, accuracy)
        print(f"epoch {self.current_epoch + 1:2d}  {name} {accuracy:.3f}")

    def validation_step(self, batch, batch_idx):
        self.count(batch)

    def on_validation_epoch_end(self):
        self.close("val_acc")

    def test_step(self, batch, batch_idx):
        self.count(batch)

    def on_test_epoch_end(self):
        self.close("test_acc")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=0.01)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.epochs)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    L.seed_everything(7)
    data, net = ClothData(), WeaveNet()
    with tempfile.TemporaryDirectory() as folder:
        keeper = ModelCheckpoint(dirpath=folder, monitor="val_acc", mode="max", save_top_k=1)
        trainer = L.Trainer(
            max_epochs=net.epochs, accelerator="cpu", devices=1, callbacks=[keeper], logger=False,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        )
        trainer.fit(net, datamodule=data)
        best = torch.load(keeper.best_model_path, weights_only=False)
        net.load_state_dict(best["state_dict"])
        trainer.test(net, datamodule=data, verbose=False)
