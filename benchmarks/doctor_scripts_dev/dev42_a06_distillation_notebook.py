# %% [markdown]
# # Knowledge distillation
# A large network (the teacher) is trained on digits; a small one (the student) learns from it, with mixup.

# %%
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, random_split

import toydata

torch.manual_seed(11)
np.random.seed(11)
device = "cuda" if torch.cuda.is_available() else "cpu"
amp_dtype = torch.float16 if device == "cuda" else torch.bfloat16

# %% Data


def to_float(image):
    return (image.float() / 255 - 0.17) / 0.30


full = toydata.Digits(train=True, count=1400, transform=to_float)
train_ds, valid_ds = random_split(full, [1200, 200], generator=torch.Generator().manual_seed(11))
test_ds = toydata.Digits(train=False, count=300, transform=to_float)
train_dl = DataLoader(train_ds, batch_size=60, shuffle=True)
valid_dl = DataLoader(valid_ds, batch_size=128)
test_dl = DataLoader(test_ds, batch_size=128)

# %% Networks


def conv_bn(cin, cout, stride=1):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU())


class Teacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(conv_bn(1, 24), conv_bn(24, 48, 2), conv_bn(48, 64), conv_bn(64, 96, 2))
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(96, 10)

    def forward(self, x):
        return self.fc(self.drop(self.body(x).mean((2, 3))))


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(conv_bn(1, 8, 2), conv_bn(8, 16, 2), nn.Flatten())
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(16 * 4 * 4, 10)

    def forward(self, x):
        return self.fc(self.drop(self.body(x)))


def count_parameters(net):
    return sum(p.numel() for p in net.parameters())


# %% Evaluation


@torch.no_grad()
def evaluate(net, dl):
    net.eval()
    correct, total = 0, 0
    for xb, yb in dl:
        pred = net(xb.to(device)).argmax(dim=1).cpu()
        correct += (pred == yb).sum().item()
        total += len(yb)
    return correct / total


# %% Train the teacher
teacher = Teacher().to(device)
opt = torch.optim.Adam(teacher.parameters(), lr=2e-3)
sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=4e-3, epochs=6, steps_per_epoch=len(train_dl))
for epoch in range(6):
    teacher.train()
    for xb, yb in train_dl:
        loss = F.cross_entropy(teacher(xb.to(device)), yb.to(device))
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
    print(f"teacher {epoch}: loss {loss.item():.3f} valid {evaluate(teacher, valid_dl):.3f}")

teacher.eval()
for p in teacher.parameters():
    p.requires_grad_(False)

# %% Distill
T, alpha, mix = 3.0, 0.5, 0.4
epochs = 14


def distill_loss(student_logits, teacher_logits):
    log_p = F.log_softmax(student_logits / T, dim=1)
    q = F.softmax(teacher_logits / T, dim=1)
    return F.kl_div(log_p, q, reduction="batchmean") * T * T


student = Student().to(device)
optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
scaler = torch.amp.GradScaler(device)
history = []

for epoch in range(epochs):
    student.train()
    losses = []
    for xb, yb in train_dl:
        xb, yb = xb.to(device), yb.to(device)
        lam = float(np.random.beta(mix, mix))
        perm = torch.randperm(len(xb), device=device)
        mixed = lam * xb + (1 - lam) * xb[perm]
        with torch.no_grad():
            teacher_logits = teacher(mixed)
        with torch.autocast(device, dtype=amp_dtype):
            logits = student(mixed)
        logits = logits.float()
        hard = lam * F.cross_entropy(logits, yb) + (1 - lam) * F.cross_entropy(logits, yb[perm])
        loss = alpha * distill_loss(logits, teacher_logits) + (1 - alpha) * hard

        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(student.parameters(), 2.0)
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    scheduler.step()
    history.append((np.mean(losses), evaluate(student, valid_dl)))
    print(f"student {epoch}: loss {history[-1][0]:.3f} valid {history[-1][1]:.3f}")

# %% Compare
print(f"teacher: {count_parameters(teacher)} parameters, test accuracy {evaluate(teacher, test_dl):.4f}")
print(f"student: {count_parameters(student)} parameters, test accuracy {evaluate(student, test_dl):.4f}")
