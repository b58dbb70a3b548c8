"""Find the same animal again by its muzzle print: embeddings learned from pairs of photographs, Lightning.

Animals of validation and test are never seen in training.
"""
import tempfile
import warnings

import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, Dataset

warnings.filterwarnings("ignore", ".*does not have many workers.*")


def muzzles(count, seed):
    """One print an animal, larger than a photograph of it."""
    coarse = torch.randn(count, 1, 7, 7, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(34, 34), mode="bicubic", align_corners=False)


def photograph(muzzle, generator=None):
    top, left = torch.randint(0, 7, (2,), generator=generator).tolist()
    view = muzzle[:, top : top + 28, left : left + 28].clone()
    gain, offset = torch.rand(2, generator=generator).tolist()
    view = view * (0.6 + 0.8 * gain) + (offset - 0.5)
    mud_top, mud_left = torch.randint(0, 20, (2,), generator=generator).tolist()
    view[:, mud_top : mud_top + 8, mud_left : mud_left + 8] = 0.0
    return view + 0.25 * torch.randn(view.shape, generator=generator)


class PairsOfPhotographs(Dataset):
    """Two new photographs of one animal each time."""

    def __init__(self, count, seed):
        self.muzzles = muzzles(count, seed)

    def __len__(self):
        return len(self.muzzles)

    def __getitem__(self, index):
        return photograph(self.muzzles[index]), photograph(self.muzzles[index])


class Album(Dataset):
    """Two fixed photographs an animal, each with the animal's number."""

    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed + 1000)
        self.items = [
            (photograph(muzzle, generator), animal) for animal, muzzle in enumerate(muzzles(count, seed)) for _ in "ab"
        ]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def recall_at_1(embeddings, animals):
    """How often is the nearest other photograph one of the same animal?"""
    distances = torch.cdist(embeddings, embeddings)
    distances.fill_diagonal_(float("inf"))
    nearest = distances.argmin(dim=1)
    return (animals[nearest] == animals).float().mean()


class Matcher(L.LightningModule):
    def __init__(self, width=24, size=64, temperature=0.2, lr=1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * 3 * 3, size),
        )
        self.album = []

    def forward(self, photographs):
        return F.normalize(self.encoder(photographs), dim=1)

    def training_step(self, batch, batch_idx):
        first, second = batch
        embedded = self(torch.cat([first, second]))
        one, two = embedded.chunk(2)
        scores = -torch.cdist(one, two).pow(2) / self.hparams.temperature
        own = torch.arange(len(one), device=scores.device)
        loss = (F.cross_entropy(scores, own) + F.cross_entropy(scores.t(), own)) / 2
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        photographs, animals = batch
        self.album.append((self(photographs), animals))

    def on_validation_epoch_end(self):
        embeddings, animals = (torch.cat(parts) for parts in zip(*self.album))
        self.album.clear()
        self.log("val_recall", recall_at_1(embeddings, animals))

    def on_train_epoch_end(self):
        metrics = self.trainer.callback_metrics
        loss, recall = metrics.get("train_loss", float("nan")), metrics.get("val_recall", float("nan"))
        print(f"epoch {self.current_epoch}: train loss {float(loss):.4f}, validation recall@1 {float(recall):.4f}")

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


def main():
    L.seed_everything(1)
    train_loader = DataLoader(PairsOfPhotographs(800, seed=0), batch_size=32, shuffle=True)
    val_loader = DataLoader(Album(150, seed=1), batch_size=100)
    test_loader = DataLoader(Album(150, seed=2), batch_size=100)
    model = Matcher()
    with tempfile.TemporaryDirectory() as folder:
        keeper = ModelCheckpoint(dirpath=folder, monitor="val_recall", mode="max", save_top_k=1)
        trainer = L.Trainer(
            max_epochs=20,
            accelerator="cpu",
            devices=1,
            callbacks=[keeper],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(model, train_loader, val_loader)
        model.load_state_dict(torch.load(keeper.best_model_path, weights_only=False)["state_dict"])

    model.eval()
    with torch.no_grad():
        pairs = [(model(photographs), animals) for photographs, animals in test_loader]
    embeddings, animals = (torch.cat(parts) for parts in zip(*pairs))
    print(f"kept epoch's recall@1 on new animals {recall_at_1(embeddings, animals):.4f}")


if __name__ == "__main__":
    main()
