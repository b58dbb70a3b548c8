"""RotNet: learn features by telling the rotation of unlabelled digits, then fine-tune them on a few labelled ones."""
import io

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def encoder():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(),
    )


class Network(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.encoder = encoder()
        self.head = nn.Linear(32 * 4 * 4, outputs)

    def forward(self, x):
        z = self.encoder(x)
        return self.head(z)


class Rotations(Dataset):
    """Pretext task: 0, 90, 180 or 270 degrees?"""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return 4 * len(self.images)

    def __getitem__(self, i):
        image, turn = self.images[i // 4], i % 4
        return torch.rot90(image, turn, (1, 2)), turn


class NamedDigits(Dataset):
    """Images and the words somebody typed for them."""

    def __init__(self, images, words, class_to_idx):
        self.images, self.words, self.class_to_idx = images, words, class_to_idx

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.class_to_idx[self.words[i]]


def load(count, seed):
    images, labels = draw_digits(count, seed=seed, noise=0.2)
    images = (images.float() / 255 - 0.2) / 0.3
    return images, [WORDS[k] for k in labels.tolist()]


def index_of(words):
    return {word: i for i, word in enumerate(sorted(set(words)))}


def step(net, batch, optimizer):
    x, y = batch
    optimizer.zero_grad()
    loss = F.cross_entropy(net(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.inference_mode()
def accuracy(net, loader):
    net.eval()
    hits = [(net(x).argmax(1) == y) for x, y in loader]
    return torch.cat(hits).float().mean().item()


def pretrain(images, epochs=4):
    net = Network(outputs=4)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    loader = DataLoader(Rotations(images), batch_size=64, shuffle=True)
    for epoch in range(epochs):
        net.train()
        losses = [step(net, batch, optimizer) for batch in loader]
        print(f"  pretext epoch {epoch}: loss {sum(losses) / len(losses):.3f}")
    buffer = io.BytesIO()
    torch.save({"model": net.state_dict(), "epochs": epochs}, buffer)
    buffer.seek(0)
    return buffer


def transfer(checkpoint):
    """Network with the encoder of the checkpoint, and a new head for the words."""
    net = Network(outputs=4)
    net.load_state_dict(torch.load(checkpoint)["model"])
    net.head = nn.Linear(net.head.in_features, len(WORDS))
    return net


def finetune(net, train_loader, val_loader, epochs=24):
    optimizer = torch.optim.AdamW(
        [
            {"params": net.encoder.parameters(), "lr": 5e-4},
            {"params": net.head.parameters(), "lr": 2e-3},
        ],
        weight_decay=0.01,
    )
    for epoch in range(epochs):
        net.train()
        losses = [step(net, batch, optimizer) for batch in train_loader]
        if epoch % 4 == 3:
            print(f"  epoch {epoch}: loss {sum(losses) / len(losses):.3f}, val {accuracy(net, val_loader):.3f}")
    return accuracy(net, val_loader)


def main():
    torch.manual_seed(23)
    unlabelled, _ = load(900, seed=40)
    train_images, train_words = load(150, seed=41)
    val_images, val_words = load(400, seed=42)
    mapping = index_of(train_words)

    train_set = NamedDigits(train_images, train_words, mapping)
    val_set = NamedDigits(val_images, val_words, mapping)
    train_loader = DataLoader(train_set, batch_size=25, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=100)

    print("pretraining on rotations")
    checkpoint = pretrain(unlabelled)
    print("fine-tuning on", len(train_set), "labelled digits")
    net = transfer(checkpoint)
    final = finetune(net, train_loader, val_loader)
    print(f"validation accuracy after fine-tuning: {final:.3f}")


if __name__ == "__main__":
    main()
