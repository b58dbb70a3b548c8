"""Three folds of digits, a new network each, weights averaged over the last epochs, batch norm measured again."""
import json

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits

CFG = dict(folds=3, epochs=9, swa_start=6, lr=0.02, swa_lr=0.008, batch_size=64, seed=2024)


class FoldDataset(Dataset):
    def __init__(self, images, labels, mean, std):
        self.images = (images.float() / 255 - mean) / std
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return {"image": self.images[i], "label": self.labels[i]}


def stratified_folds(labels, folds, seed):
    """Index arrays with every class in equal parts."""
    rng = np.random.default_rng(seed)
    parts = [[] for _ in range(folds)]
    for c in np.unique(labels):
        where = rng.permutation(np.flatnonzero(labels == c))
        for k, piece in enumerate(np.array_split(where, folds)):
            parts[k].extend(piece.tolist())
    return [np.array(sorted(p)) for p in parts]


def make_model():
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.LeakyReLU(0.1), nn.MaxPool2d(2),
        nn.Conv2d(24, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48), nn.LeakyReLU(0.1), nn.MaxPool2d(2),
        nn.Conv2d(48, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.LeakyReLU(0.1),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(64 * 16, 10))


def inputs_only(loader):
    for batch in loader:
        yield batch["image"]


@torch.no_grad()
def predict(model, loader):
    model.eval()
    return torch.cat([model(batch["image"]).softmax(1) for batch in loader])


def fit_fold(k, images, labels, train_index, valid_index):
    torch.manual_seed(CFG["seed"] + k)
    pixels = images[train_index].float() / 255
    mean, std = pixels.mean().item(), pixels.std().item()
    train = DataLoader(FoldDataset(images[train_index], labels[train_index], mean, std), CFG["batch_size"], shuffle=True, drop_last=True)
    valid = DataLoader(FoldDataset(images[valid_index], labels[valid_index], mean, std), 240)
    model = make_model()
    averaged = AveragedModel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=CFG["lr"], momentum=0.9, weight_decay=3e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=CFG["swa_start"], eta_min=CFG["swa_lr"])
    swa_scheduler = SWALR(optimizer, swa_lr=CFG["swa_lr"], anneal_epochs=1)
    for epoch in range(CFG["epochs"]):
        model.train()
        total, seen = 0.0, 0
        for batch in train:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch["image"]), batch["label"])
            loss.backward()
            optimizer.step()
            total, seen = total + loss.detach() * len(batch["label"]), seen + len(batch["label"])
        if epoch >= CFG["swa_start"]:
            averaged.update_parameters(model)
            swa_scheduler.step()
        else:
            scheduler.step()
        plain = (predict(model, valid).argmax(1) == labels[valid_index]).float().mean()
        print(f"fold {k} epoch {epoch} loss {float(total) / seen:.4f} valid {plain:.4f}")
    update_bn(inputs_only(train), averaged)
    return predict(averaged, valid)


def main():
    images, labels = draw_digits(1200, seed=0)
    parts = stratified_folds(labels.numpy(), CFG["folds"], CFG["seed"])
    held_out = torch.zeros(len(labels), 10)
    for k in range(CFG["folds"]):
        train_index = np.concatenate([p for i, p in enumerate(parts) if i != k])
        held_out[parts[k]] = fit_fold(k, images, labels, train_index, parts[k])
        score = (held_out[parts[k]].argmax(1) == labels[parts[k]]).float().mean().item()
        print(f"fold {k} averaged weights: {score:.4f}")
    print(json.dumps({"cv_accuracy": round((held_out.argmax(1) == labels).float().mean().item(), 4)}))


if __name__ == "__main__":
    main()
