# %% [markdown]
# # Knowledge distillation on digits
# A teacher with batch norm and dropout, a student of two small convolutions which learns from its soft answers.

# %%
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset

from toydata import Digits

torch.manual_seed(0)

BATCH = 64
NOISE = 0.2
TEMPERATURE = 3.0
ALPHA = 0.7
TEACHER_EPOCHS = 7
STUDENT_EPOCHS = 12


# %% data
def to_tensor(img):
    return (img.float() / 255 - 0.2) / 0.3


def augment(img):
    dy, dx = torch.randint(-1, 2, (2,)).tolist()
    img = torch.roll(img, shifts=(dy, dx), dims=(1, 2)).clone()
    if torch.rand(()) < 0.5:
        y, x = torch.randint(0, 12, (2,)).tolist()
        img[:, y : y + 5, x : x + 5] = 0
    return to_tensor(img)


augmented = Digits(train=True, count=1500, transform=augment, noise=NOISE)
plain = Digits(train=True, count=1500, transform=to_tensor, noise=NOISE)
order = torch.randperm(1500).tolist()
train_set = Subset(augmented, order[:1300])
val_set = Subset(plain, order[1300:])
test_set = Digits(train=False, count=300, transform=to_tensor, noise=NOISE)

train_loader = DataLoader(train_set, batch_size=BATCH, shuffle=True)
val_loader = DataLoader(val_set, batch_size=BATCH)
test_loader = DataLoader(test_set, batch_size=BATCH)

x, y = next(iter(train_loader))
print(x.shape, x.mean().item(), x.std().item(), y[:10].tolist())


# %% accuracy
def evaluate(net, loader):
    net.eval()
    correct = 0
    with torch.no_grad():
        for x, y in loader:
            correct += (net(x).argmax(dim=1) == y).sum().item()
    return correct / len(loader.dataset)


# %% the teacher
teacher = nn.Sequential(
    nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(64 * 4 * 4, 128), nn.ReLU(), nn.Dropout(0.3),
    nn.Linear(128, 10),
)
teacher_opt = torch.optim.Adam(teacher.parameters(), lr=1e-3)

for epoch in range(TEACHER_EPOCHS):
    teacher.train()
    for x, y in train_loader:
        teacher_opt.zero_grad()
        loss = F.cross_entropy(teacher(x), y)
        loss.backward()
        teacher_opt.step()
    print(f"teacher {epoch}: loss {loss.item():.3f}, val acc {evaluate(teacher, val_loader):.3f}")

# %% from here on the teacher only answers
teacher.eval()
for p in teacher.parameters():
    p.requires_grad_(False)

# %% the student
student = nn.Sequential(
    nn.Conv2d(1, 16, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.Conv2d(16, 32, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(32 * 4 * 4, 10),
)
student_opt = torch.optim.Adam(student.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(student_opt, T_max=STUDENT_EPOCHS)
print(sum(p.numel() for p in teacher.parameters()), "->", sum(p.numel() for p in student.parameters()))


def distillation_loss(student_logits, teacher_logits, target):
    soft_target = F.softmax(teacher_logits / TEMPERATURE, dim=1)
    log_student = F.log_softmax(student_logits / TEMPERATURE, dim=1)
    soft = F.kl_div(log_student, soft_target, reduction="batchmean") * TEMPERATURE**2
    hard = F.cross_entropy(student_logits, target)
    return ALPHA * soft + (1 - ALPHA) * hard


# %%
best_acc, best_weights = -1.0, None
for epoch in range(STUDENT_EPOCHS):
    student.train()
    running = 0.0
    for x, y in train_loader:
        with torch.no_grad():
            teacher_logits = teacher(x)
        loss = distillation_loss(student(x), teacher_logits, y)
        student_opt.zero_grad()
        loss.backward()
        student_opt.step()
        running += loss.item() * len(x)
    scheduler.step()
    acc = evaluate(student, val_loader)
    if acc > best_acc:
        best_acc, best_weights = acc, copy.deepcopy(student.state_dict())
    print(f"student {epoch}: loss {running / len(train_set):.3f}, val acc {acc:.3f}")

# %% final numbers
student.load_state_dict(best_weights)
print(f"test accuracy: teacher {evaluate(teacher, test_loader):.3f}, student {evaluate(student, test_loader):.3f}")
