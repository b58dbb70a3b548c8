"""Speedrun: all data in one tensor, augmentation of whole batches, a whitening first layer set from the data, flip averaging."""
import time

import torch
import torch.nn.functional as F
from torch import nn

from toydata import Shapes

hyp = {
    "opt": {"train_epochs": 9, "batch_size": 75, "lr": 0.06, "momentum": 0.85, "weight_decay": 2e-4, "bias_scaler": 4.0, "label_smoothing": 0.1},
    "aug": {"flip": True, "translate": 1},
    "net": {"widths": (32, 64), "tta": True},
}


class BatchLoader:
    """Yields batches of tensors; the whole set is augmented at once at the start of an epoch."""

    def __init__(self, train, batch_size, aug=None):
        data = Shapes(train=train)
        self.images, self.labels = torch.stack(data.images), torch.tensor(data.targets)
        self.batch_size, self.aug, self.train = batch_size, aug or {}, train

    def normalize_with(self, mean, std):
        self.images = (self.images - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
        return self

    def __len__(self):
        return len(self.images) // self.batch_size if self.train else -(-len(self.images) // self.batch_size)

    def __iter__(self):
        images = self.images
        shift = self.aug.get("translate", 0)
        if shift:
            padded, size = F.pad(images, (shift,) * 4, mode="reflect"), images.shape[-1]
            offsets = torch.randint(0, 2 * shift + 1, (len(images), 2))
            moved = torch.empty_like(images)
            for dy in range(2 * shift + 1):
                for dx in range(2 * shift + 1):
                    chosen = (offsets[:, 0] == dy) & (offsets[:, 1] == dx)
                    moved[chosen] = padded[chosen, :, dy:dy + size, dx:dx + size]
            images = moved
        if self.aug.get("flip"):
            images = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(-1), images)
        order = torch.randperm(len(images)) if self.train else torch.arange(len(images))
        for i in range(len(self)):
            index = order[i * self.batch_size:(i + 1) * self.batch_size]
            yield images[index], self.labels[index]


class ConvGroup(nn.Module):
    def __init__(self, channels_in, channels_out):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out, momentum=0.3)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out, momentum=0.3)

    def forward(self, x):
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return F.gelu(self.norm2(self.conv2(x)))


class Net(nn.Module):
    def __init__(self, widths):
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2, bias=True)
        self.group1, self.group2 = ConvGroup(24, widths[0]), ConvGroup(widths[0], widths[1])
        self.head = nn.Linear(widths[1], 6, bias=False)

    @torch.no_grad()
    def init_whiten(self, images, eps=1e-2):
        """Filters are the principal directions of 2x2 patches and their negatives; they stay as they are."""
        patches = F.unfold(images, 2).transpose(1, 2).flatten(0, 1)
        patches = patches - patches.mean(0)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / (values + eps).sqrt()).T.reshape(12, 3, 2, 2)
        self.whiten.weight.copy_(torch.cat([filters, -filters]))
        self.whiten.bias.zero_()
        self.whiten.weight.requires_grad_(False)

    def forward(self, x):
        x = F.gelu(self.whiten(x))
        x = self.group2(self.group1(x))
        return self.head(x.amax((2, 3))) * 0.5


def evaluate(model, loader, tta):
    model.eval()
    with torch.no_grad():
        hits = 0
        for inputs, labels in loader:
            logits = model(inputs)
            if tta:
                logits = 0.5 * (logits + model(inputs.flip(-1)))
            hits += int((logits.argmax(1) == labels).sum())
    return hits / len(loader.images)


def main(run=0):
    torch.manual_seed(run)
    opt = hyp["opt"]
    train_loader, test_loader = BatchLoader(True, opt["batch_size"], hyp["aug"]), BatchLoader(False, 120)
    mean, std = train_loader.images.mean((0, 2, 3)), train_loader.images.std((0, 2, 3))
    train_loader.normalize_with(mean, std)
    test_loader.normalize_with(mean, std)

    model = Net(hyp["net"]["widths"])
    model.init_whiten(train_loader.images[:300])
    biases = [p for n, p in model.named_parameters() if p.requires_grad and ("norm" in n or n.endswith("bias"))]
    others = [p for n, p in model.named_parameters() if p.requires_grad and not ("norm" in n or n.endswith("bias"))]
    optimizer = torch.optim.SGD(
        [{"params": biases, "lr": opt["lr"] * opt["bias_scaler"], "weight_decay": opt["weight_decay"] / opt["bias_scaler"]},
         {"params": others, "lr": opt["lr"], "weight_decay": opt["weight_decay"]}],
        momentum=opt["momentum"], nesterov=True)
    total = opt["train_epochs"] * len(train_loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: max(0.02, min((i + 1) / (0.2 * total), (total - i) / (0.8 * total))))
    loss_fn = nn.CrossEntropyLoss(label_smoothing=opt["label_smoothing"])

    start = time.perf_counter()
    for epoch in range(opt["train_epochs"]):
        model.train()
        for inputs, labels in train_loader:
            loss = loss_fn(model(inputs), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
        val = evaluate(model, test_loader, tta=False)
        print(f"| run {run} | epoch {epoch} | loss {loss.item():.4f} | val {val:.4f} | {time.perf_counter() - start:.1f}s |")
    print(f"| eval | tta {evaluate(model, test_loader, hyp['net']['tta']):.4f} |")


if __name__ == "__main__":
    main()
