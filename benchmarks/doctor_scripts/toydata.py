"""Generated data for the training scripts of this folder: digits, colored shapes, masks, boxes, text, waves."""

import torch
from torch.utils.data import Dataset

FONT = ["75557", "26227", "71747", "71717", "55711", "74717", "74757", "71111", "75757", "75717"]


def draw_digits(count, size=16, seed=0, noise=0.1, shift=2):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (count,), generator=generator)
    images = torch.zeros(count, 1, size, size)
    for i, label in enumerate(labels.tolist()):
        rows = torch.tensor([[int(row) >> bit & 1 for bit in (2, 1, 0)] for row in FONT[label]]).float()
        glyph = rows.repeat_interleave(2, 0).repeat_interleave(2, 1)
        top = (size - 10) // 2 + int(torch.randint(-shift, shift + 1, (1,), generator=generator))
        left = (size - 6) // 2 + int(torch.randint(-shift, shift + 1, (1,), generator=generator))
        images[i, 0, top : top + 10, left : left + 6] = glyph * (0.7 + 0.3 * torch.rand((), generator=generator))
    images = images + noise * torch.randn(images.shape, generator=generator)
    return (images.clamp(0, 1) * 255).to(torch.uint8), labels


class Digits(Dataset):
    """Like torchvision's MNIST: `data`, `targets`, a transform of one uint8 image."""

    def __init__(self, train=True, count=None, transform=None, target_transform=None, **options):
        self.data, self.targets = draw_digits(count or (1200 if train else 300), seed=0 if train else 1, **options)
        self.transform, self.target_transform = transform, target_transform

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        image, target = self.data[index], int(self.targets[index])
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target


def shape_mask(kind, size, top, left, width):
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    inside = (y >= top) & (y < top + width) & (x >= left) & (x < left + width)
    center = (width - 1) / 2
    if kind == "square":
        return inside
    if kind == "disc":
        return ((y - top - center) ** 2 + (x - left - center) ** 2) <= (width / 2) ** 2
    return inside & (((y - top - center).abs() <= width / 6) | ((x - left - center).abs() <= width / 6))


COLORS = {"red": (0.9, 0.2, 0.1), "blue": (0.1, 0.2, 0.9)}
NAMES = [f"{color} {kind}" for color in COLORS for kind in ("square", "disc", "cross")]


class Shapes(Dataset):
    """Colored shapes on a gray ground: float images of 3 x size x size, one of six names each."""

    def __init__(self, train=True, count=None, size=16, transform=None):
        generator = torch.Generator().manual_seed(10 if train else 11)
        count = count or (900 if train else 240)
        self.transform = transform
        self.images, self.names, self.boxes, self.masks = [], [], [], []
        self.targets = torch.randint(0, 6, (count,), generator=generator).tolist()
        for target in self.targets:
            color, kind = NAMES[target].split()
            width = int(torch.randint(size // 3 + 1, size // 2 + 2, (1,), generator=generator))
            top, left = torch.randint(0, size - width + 1, (2,), generator=generator).tolist()
            mask = shape_mask(kind, size, top, left, width)
            image = torch.full((3, size, size), 0.5)
            image[:, mask] = torch.tensor(COLORS[color])[:, None]
            image = (image + 0.08 * torch.randn(image.shape, generator=generator)).clamp(0, 1)
            self.images.append(image)
            self.names.append(NAMES[target])
            self.boxes.append(torch.tensor([left, top, left + width, top + width]) / size)
            self.masks.append(mask.long() * (1 + ("square", "disc", "cross").index(kind)))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        return (self.transform(image) if self.transform else image), self.targets[index]


def text(length=6000, seed=0):
    """Sentences of a small grammar."""
    generator = torch.Generator().manual_seed(seed)
    words = [
        ["the", "a", "one"],
        ["cat", "dog", "bird", "fish"],
        ["sees", "eats", "likes"],
        ["the", "a", "one"],
        ["mouse", "worm", "seed"],
        [".\n"],
    ]
    pieces = []
    while sum(map(len, pieces)) < length:
        for choices in words:
            pieces.append(choices[int(torch.randint(0, len(choices), (1,), generator=generator))] + " ")
    return "".join(pieces)[:length]


def houses(count=800, seed=0):
    """Tabular regression: eight features of various scales, a price in thousands."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 8, generator=generator)
    price = 200 + 60 * features[:, 0] - 40 * features[:, 1] + 25 * features[:, 2] * features[:, 3]
    price = price + 20 * torch.sin(2 * features[:, 4]) + 5 * torch.randn(count, generator=generator)
    return features, price


def waves(count=600, length=64, seed=0):
    """One-dimensional signals of four kinds: two frequencies, a square wave, a chirp."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.linspace(0, 1, length)
    labels = torch.randint(0, 4, (count,), generator=generator)
    phase = 6.28 * torch.rand(count, 1, generator=generator)
    slow, fast = torch.sin(6.28 * 3 * time + phase), torch.sin(6.28 * 8 * time + phase)
    kinds = torch.stack([slow, fast, slow.sign() * 0.8, torch.sin(6.28 * (2 + 10 * time) * time + phase)])
    signals = kinds[labels, torch.arange(count)] + 0.2 * torch.randn(count, length, generator=generator)
    return signals.unsqueeze(1), labels
