# %% [markdown]
# # What is it and where is it?
# One network with two heads: the name of the shape and its box. The two losses are weighed by
# learned uncertainties (Kendall et al., 2018), so the total may well fall below zero.

# %%
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split

from toydata import NAMES, Shapes

torch.manual_seed(3)
torch.set_num_threads(1)

# %% data
raw = Shapes(train=True, count=1800)
images = torch.stack(raw.images)
mean, std = images.mean((0, 2, 3), keepdim=True), images.std((0, 2, 3), keepdim=True)
everything = TensorDataset((images - mean) / std, torch.tensor(raw.targets), torch.stack(raw.boxes))
train_set, valid_set = random_split(everything, [1500, 300], generator=torch.Generator().manual_seed(0))

raw_test = Shapes(train=False, count=300)
test_set = TensorDataset(
    (torch.stack(raw_test.images) - mean) / std, torch.tensor(raw_test.targets), torch.stack(raw_test.boxes)
)
train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
valid_loader = DataLoader(valid_set, batch_size=150)
test_loader = DataLoader(test_set, batch_size=150)


# %% model
class NameAndPlace(nn.Module):
    def __init__(self, names=len(NAMES)):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1, bias=False),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(48, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 16, 96),
            nn.ReLU(),
            nn.Dropout(0.1),
        )
        self.name = nn.Linear(96, names)
        self.box = nn.Linear(96, 4)

    def forward(self, x):
        hidden = self.body(x)
        return self.name(hidden), torch.sigmoid(self.box(hidden))


class UncertaintyWeights(nn.Module):
    def __init__(self):
        super().__init__()
        self.log_vars = nn.Parameter(torch.zeros(2))

    def forward(self, name_loss, box_loss):
        losses = torch.stack([name_loss, box_loss])
        return (torch.exp(-self.log_vars) * losses + 0.5 * self.log_vars).sum()


net, weigh = NameAndPlace(), UncertaintyWeights()
optimizer = torch.optim.Adam([*net.parameters(), *weigh.parameters()], lr=2e-3)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=4)


# %% metrics
def box_iou(a, b):
    corner1, corner2 = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    overlap = (corner2 - corner1).clamp(min=0).prod(1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(1), (b[:, 2:] - b[:, :2]).prod(1)
    return overlap / (area_a + area_b - overlap)


@torch.no_grad()
def evaluate(loader):
    net.eval()
    right, iou, count = 0, 0.0, 0
    for x, name, box in loader:
        logits, guess = net(x)
        right += (logits.argmax(1) == name).sum().item()
        iou += box_iou(guess, box).sum().item()
        count += len(x)
    return right / count, iou / count


# %% training with early stopping
best_score, best_state, waited = -1.0, None, 0
for epoch in range(50):
    net.train()
    running = 0.0
    for x, name, box in train_loader:
        logits, guess = net(x)
        loss = weigh(F.cross_entropy(logits, name), F.smooth_l1_loss(guess, box, beta=0.05))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        running += loss.item() * len(x)
    accuracy, iou = evaluate(valid_loader)
    score = accuracy + iou
    scheduler.step(score)
    print(f"epoch {epoch:2d}  loss {running / len(train_set):7.3f}  accuracy {accuracy:.3f}  IoU {iou:.3f}")
    if score > best_score:
        best_score, best_state, waited = score, copy.deepcopy(net.state_dict()), 0
    else:
        waited += 1
        if waited == 12:
            print("no better for 12 epochs")
            break

# %% the best epoch on images that nothing was chosen by
net.load_state_dict(best_state)
accuracy, iou = evaluate(test_loader)
print(f"test: accuracy {accuracy:.3f}  IoU {iou:.3f}")
