# Imbalanced "defect" classification: balanced sampler, gradient accumulation, bf16 autocast, SWA at the end.
import contextlib
import os

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix
from torch import nn
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn
from torch.utils.data import DataLoader, Subset, WeightedRandomSampler

from toydata import NAMES, Shapes

# ---------------------------------------------------------------------------------------------
epochs = 16
swa_start = 12
micro_batch = 8
accum_steps = 4
learning_rate = 0.06
eval_batch = 120
dtype = torch.bfloat16
keep = {"red square": 1.0, "red disc": 0.6, "red cross": 0.15, "blue square": 0.3, "blue disc": 0.2, "blue cross": 0.5}
config = {k: v for k, v in globals().items() if not k.startswith("_") and isinstance(v, (int, float, str))}
# ---------------------------------------------------------------------------------------------
torch.manual_seed(9)
rng = np.random.default_rng(9)
ctx = torch.autocast("cpu", dtype=dtype) if os.environ.get("NO_AMP") is None else contextlib.nullcontext()
print(config)


def standardize(image):
    return (image - 0.47) / 0.22


def thin_out(dataset):
    share = np.array([keep[name] for name in dataset.names])
    return np.flatnonzero(rng.random(len(dataset)) < share)


full = Shapes(True, count=1800, transform=standardize)
train_index = thin_out(full)
train_labels = np.asarray(full.targets)[train_index]
class_counts = np.bincount(train_labels, minlength=6)
print("training classes:", dict(zip(NAMES, class_counts.tolist())))
class_weights = 1.0 / class_counts
sample_weights = torch.as_tensor(class_weights[train_labels], dtype=torch.double)
sampler = WeightedRandomSampler(sample_weights, num_samples=len(train_index), replacement=True)


def collate(samples):
    images, labels = zip(*samples)
    return torch.stack(images).to(memory_format=torch.channels_last), torch.tensor(labels)


train_loader = DataLoader(Subset(full, train_index.tolist()), batch_size=micro_batch, sampler=sampler, collate_fn=collate, drop_last=True)
val_loader = DataLoader(Shapes(False, transform=standardize), batch_size=eval_batch, collate_fn=collate)


class Residual(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(c, c, 3, padding=1, bias=False), nn.GroupNorm(4, c), nn.SiLU(),
                                  nn.Conv2d(c, c, 3, padding=1, bias=False), nn.GroupNorm(4, c))

    def forward(self, x):
        return torch.nn.functional.silu(x + self.body(x))


model = nn.Sequential(
    nn.Conv2d(3, 20, 3, stride=2, padding=1), nn.SiLU(),
    Residual(20), nn.MaxPool2d(2), Residual(20),
    nn.Flatten(), nn.Linear(20 * 16, 6),
).to(memory_format=torch.channels_last)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9, weight_decay=1e-4, nesterov=True)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=swa_start)
swa_model = AveragedModel(model)
swa_scheduler = SWALR(optimizer, swa_lr=0.5 * learning_rate, anneal_epochs=2)


@torch.no_grad()
def evaluate(net):
    net.eval()
    truth, predicted = [], []
    for images, labels in val_loader:
        with ctx:
            logits = net(images)
        predicted += logits.float().argmax(-1).tolist()
        truth += labels.tolist()
    net.train()
    return balanced_accuracy_score(truth, predicted), confusion_matrix(truth, predicted)


for epoch in range(epochs):
    total = 0.0
    for step, (images, labels) in enumerate(train_loader):
        with ctx:
            logits = model(images)
            loss = criterion(logits.float(), labels) / accum_steps
        loss.backward()
        total += loss.item() * accum_steps
        if (step + 1) % accum_steps == 0:
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    if epoch >= swa_start:
        swa_model.update_parameters(model)
        swa_scheduler.step()
    else:
        scheduler.step()
    score, _ = evaluate(model)
    print(f"epoch {epoch}: loss {total / len(train_loader):.4f}, balanced accuracy {score:.4f}")

update_bn(train_loader, swa_model)
score, matrix = evaluate(swa_model)
print("recall per class:", (matrix.diagonal() / matrix.sum(1)).round(2).tolist())
print(f"SWA balanced accuracy {score:.4f}")
