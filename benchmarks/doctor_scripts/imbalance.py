import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Subset, WeightedRandomSampler
from toydata import Digits

torch.manual_seed(0)
NUM_CLASSES = 4
full = Digits(train=True, count=2400, transform=lambda image: image.float() / 255)
labels = full.targets
limits = {0: 200, 1: 100, 2: 50, 3: 20}
keep = [i for c, n in limits.items() for i in torch.nonzero(labels == c).flatten()[:n].tolist()]
train_set = Subset(full, keep)
val_full = Digits(train=False, count=600, transform=lambda image: image.float() / 255)
val_set = Subset(val_full, torch.nonzero(val_full.targets < NUM_CLASSES).flatten().tolist())

targets = labels[keep]
class_sample_count = torch.bincount(targets, minlength=NUM_CLASSES)
weight = 1.0 / class_sample_count.float()
samples_weight = weight[targets]
sampler = WeightedRandomSampler(samples_weight, len(samples_weight))
train_loader = DataLoader(train_set, batch_size=32, sampler=sampler)
val_loader = DataLoader(val_set, batch_size=64)

model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Dropout(0.3),
    nn.Linear(512, NUM_CLASSES),
)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

for epoch in range(8):
    model.train()
    for inputs, target in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(inputs), target)
        loss.backward()
        optimizer.step()
    model.eval()
    confusion = torch.zeros(NUM_CLASSES, NUM_CLASSES)
    with torch.no_grad():
        for inputs, target in val_loader:
            for t, p in zip(target, model(inputs).argmax(1)):
                confusion[t, p] += 1
    print(epoch, "balanced accuracy", (confusion.diag() / confusion.sum(1)).mean().item())
