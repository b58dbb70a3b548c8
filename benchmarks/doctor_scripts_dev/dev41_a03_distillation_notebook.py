# %% [markdown]
# # Knowledge distillation, without labels
# A wide network learns the digits from labels. A slim one then learns from the logits of the wide one alone.

# %%
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

torch.manual_seed(1234)

# %% data
x, y = draw_digits(1200, seed=0)
x_test, y_test = draw_digits(300, seed=1)

x, x_test = x.float() / 255, x_test.float() / 255
mu, sigma = x[:1000].mean(), x[:1000].std()
x, x_test = (x - mu) / sigma, (x_test - mu) / sigma

train_ds = TensorDataset(x[:1000], y[:1000])
val_ds = TensorDataset(x[1000:], y[1000:])
test_ds = TensorDataset(x_test, y_test)
train_dl = DataLoader(train_ds, batch_size=32, shuffle=True)
print(len(train_ds), len(val_ds), len(test_ds), x.shape)


# %% networks
def make_net(width, p_drop):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * 16, 64),
        nn.ReLU(),
        nn.Dropout(p_drop),
        nn.Linear(64, 10),
    )


def count(net):
    return sum(p.numel() for p in net.parameters())


@torch.no_grad()
def predict(net, loader):
    net.eval()
    return torch.cat([net(batch[0]) for batch in loader])


def accuracy(net, dataset):
    logits = predict(net, DataLoader(dataset, batch_size=100))
    return (logits.argmax(dim=1) == dataset.tensors[1]).float().mean().item()


# %% the teacher
teacher = make_net(32, 0.5)
opt = torch.optim.Adam(teacher.parameters(), lr=2e-3)

for epoch in range(8):
    teacher.train()
    for xb, yb in train_dl:
        loss = F.cross_entropy(teacher(xb), yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(f"teacher, epoch {epoch}: val acc {accuracy(teacher, val_ds):.3f}")

# %% what it says of each training sample
ordered_dl = DataLoader(train_ds, batch_size=100)
teacher_logits = predict(teacher, ordered_dl)
distill_ds = TensorDataset(x[:1000], teacher_logits)
distill_dl = DataLoader(distill_ds, batch_size=32, shuffle=True)

# %% the student
EPOCHS = 14
T = 4.0

student = make_net(8, 0.2)
optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=1e-4)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS, eta_min=5e-5)
print("parameters:", count(teacher), "->", count(student))

best_acc, best_weights = 0.0, None
for epoch in range(EPOCHS):
    student.train()
    running = 0.0
    for xb, tb in distill_dl:
        out = student(xb)
        loss = F.kl_div(F.log_softmax(out / T, dim=1), F.softmax(tb / T, dim=1), reduction="batchmean") * T * T
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running += loss.item() * len(xb)
    scheduler.step()

    acc = accuracy(student, val_ds)
    print(f"student, epoch {epoch}: loss {running / len(distill_ds):.4f}, val acc {acc:.3f}")
    if acc > best_acc:
        best_acc, best_weights = acc, copy.deepcopy(student.state_dict())

# %% results
if best_weights is not None:
    student.load_state_dict(best_weights)
print(f"test accuracy: teacher {accuracy(teacher, test_ds):.3f}, student {accuracy(student, test_ds):.3f}")
