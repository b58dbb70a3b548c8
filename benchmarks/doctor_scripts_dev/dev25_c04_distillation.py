# %% [markdown]
# # Knowledge distillation
# A teacher is trained, frozen, and its softened outputs guide a smaller student.

# %%
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

torch.manual_seed(1)

# %%
to_tensor = lambda image: (image.float() / 255 - 0.2) / 0.3  # noqa: E731

train_ds = Digits(train=True, count=2000, transform=to_tensor, noise=0.25)
val_ds = Digits(train=False, count=400, transform=to_tensor, noise=0.25)
train_dl = DataLoader(train_ds, batch_size=50, shuffle=True)
val_dl = DataLoader(val_ds, batch_size=200)

# %%
teacher = nn.Sequential(
    nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(32, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Dropout(0.3), nn.Linear(48 * 16, 96), nn.ReLU(), nn.Linear(96, 10),
)  # fmt: skip

student = nn.Sequential(
    nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(16 * 16, 10),
)  # fmt: skip


def count_parameters(model):
    return sum(p.numel() for p in model.parameters())


print("teacher", count_parameters(teacher), "student", count_parameters(student))


# %%
def accuracy(model):
    was_training = model.training
    model.eval()
    correct = 0
    with torch.no_grad():
        for xb, yb in val_dl:
            correct += (model(xb).argmax(dim=1) == yb).sum().item()
    model.train(was_training)
    return correct / len(val_ds)


# %% the teacher
optimizer = torch.optim.Adam(teacher.parameters(), lr=1e-3)
for epoch in range(10):
    teacher.train()
    total = 0.0
    for xb, yb in train_dl:
        loss = F.cross_entropy(teacher(xb), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(xb)
    print(f"teacher epoch {epoch}: loss {total / len(train_ds):.4f}  val acc {accuracy(teacher):.4f}")

# %% the student
teacher.eval()
for p in teacher.parameters():
    p.requires_grad_(False)

TEMPERATURE = 4.0
ALPHA = 0.7


def distillation_loss(student_logits, teacher_logits, labels):
    soft = F.kl_div(
        F.log_softmax(student_logits / TEMPERATURE, dim=1),
        F.softmax(teacher_logits / TEMPERATURE, dim=1),
        reduction="batchmean",
    )
    hard = F.cross_entropy(student_logits, labels)
    return ALPHA * TEMPERATURE**2 * soft + (1 - ALPHA) * hard


optimizer = torch.optim.Adam(student.parameters(), lr=2e-3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.3)
for epoch in range(26):
    student.train()
    total = 0.0
    for xb, yb in train_dl:
        with torch.no_grad():
            teacher_logits = teacher(xb)
        loss = distillation_loss(student(xb), teacher_logits, yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(xb)
    scheduler.step()
    print(f"student epoch {epoch}: loss {total / len(train_ds):.4f}  val acc {accuracy(student):.4f}")

# %%
print(f"final: teacher {accuracy(teacher):.4f}  student {accuracy(student):.4f}")
