# Semi-supervised digits: 200 labels, 1000 images without, a teacher that is the average of its student.
import copy
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

import toydata

torch.manual_seed(11)

EPOCHS = 16
LABELED = 200
BATCH_L, BATCH_U = 25, 50
THRESHOLD = 0.9
EMA = 0.97
LR = 2e-3

# ---- data ----------------------------------------------------------------------------------------------------------
images, labels = toydata.draw_digits(1200, seed=0)
test_images, test_labels = toydata.draw_digits(400, seed=1)
images = (images.float() / 255 - 0.2) / 0.3
test_images = (test_images.float() / 255 - 0.2) / 0.3
order = torch.randperm(len(images))
x_lab, y_lab = images[order[:LABELED]], labels[order[:LABELED]]
x_unl = images[order[LABELED:]]
print(f"{len(x_lab)} labeled, {len(x_unl)} unlabeled, {len(test_images)} to test")


def weak(x):
    down, right = torch.randint(-1, 2, (2,)).tolist()
    return torch.roll(x, (down, right), dims=(2, 3))


def strong(x):
    x = weak(x)
    gain = 0.8 + 0.4 * torch.rand(len(x), 1, 1, 1)
    x = x * gain + 0.25 * torch.randn_like(x)
    top, left = torch.randint(0, 13, (2,)).tolist()
    x[:, :, top : top + 4, left : left + 4] = 0.0
    return x


# ---- networks ------------------------------------------------------------------------------------------------------
def make_net():
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1), nn.GroupNorm(4, 24), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(24, 48, 3, padding=1), nn.GroupNorm(4, 48), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(48 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, 10),
    )


student = make_net()
teacher = copy.deepcopy(student).eval()
for p in teacher.parameters():
    p.requires_grad = False


@torch.no_grad()
def update_teacher(step):
    decay = min(EMA, (1 + step) / (10 + step))
    for slow, fast in zip(teacher.parameters(), student.parameters()):
        slow.mul_(decay).add_(fast, alpha=1 - decay)


@torch.no_grad()
def accuracy(net):
    was_training = net.training
    net.eval()
    right = (net(test_images).argmax(1) == test_labels).float().mean().item()
    net.train(was_training)
    return right


def labeled_batches():
    while True:
        for index in torch.randperm(len(x_lab)).split(BATCH_L):
            yield x_lab[index], y_lab[index]


# ---- training ------------------------------------------------------------------------------------------------------
optimizer = torch.optim.AdamW(student.parameters(), lr=LR, weight_decay=1e-3)
steps_per_epoch = math.ceil(len(x_unl) / BATCH_U)
total_steps = EPOCHS * steps_per_epoch
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: math.cos(7 * math.pi * s / (16 * total_steps)))
stream = labeled_batches()
step = 0
for epoch in range(EPOCHS):
    student.train()
    ramp = min(1.0, epoch / 4)
    kept = 0.0
    for index in torch.randperm(len(x_unl)).split(BATCH_U):
        xb, yb = next(stream)
        ub = x_unl[index]
        with torch.no_grad():
            confidence, pseudo = teacher(weak(ub)).softmax(1).max(1)
            sure = (confidence > THRESHOLD).float()

        optimizer.zero_grad()
        supervised = F.cross_entropy(student(weak(xb)), yb)
        consistency = (F.cross_entropy(student(strong(ub)), pseudo, reduction="none") * sure).mean()
        (supervised + ramp * consistency).backward()
        optimizer.step()
        scheduler.step()

        step += 1
        update_teacher(step)
        kept += sure.mean().item()
    print(
        f"epoch {epoch:2d}  supervised {supervised.item():.3f}  consistency {consistency.item():.3f}  "
        f"kept {kept / steps_per_epoch:.2f}  student {accuracy(student):.3f}  teacher {accuracy(teacher):.3f}"
    )
