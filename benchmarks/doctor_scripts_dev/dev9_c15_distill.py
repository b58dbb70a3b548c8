"""Knowledge distillation: the teacher is trained here, saved, loaded, frozen; the student learns on soft targets via a hook too."""
import os
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

params = dict(T=4.0, alpha=0.7, beta=0.1, student_epochs=8, teacher_epochs=4)


def make(width):
    return nn.Sequential()  .append(nn.Sequential(nn.Conv2d(1, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU())) \
        .append(nn.Flatten()).append(nn.LazyLinear(10))


def norm(b):
    return torch.stack([i for i, _ in b]).float().sub(43).div(76), torch.tensor([t for _, t in b])


class RunningAverage():
    def __init__(self): self.steps, self.total = 0, 0
    def update(self, v): self.total += v; self.steps += 1
    def __call__(self): return self.total / float(self.steps)


def loss_fn_kd(outputs, labels, teacher_outputs, params):
    T, a = params['T'], params['alpha']
    kd = nn.KLDivLoss(reduction='batchmean')(F.log_softmax(outputs / T, dim=1), F.softmax(teacher_outputs / T, dim=1))
    return kd * (a * T * T) + F.cross_entropy(outputs, labels) * (1. - a)


def attention_map(f):
    return F.normalize(F.adaptive_avg_pool2d(f.pow(2).mean(1, keepdim=True), 4).flatten(1))


def evaluate(net, dl):
    was = net.training
    net.eval()
    with torch.no_grad():
        acc = sum((net(x).argmax(1) == y).sum().item() for x, y in dl) / len(dl.dataset)
    net.train(was)
    return acc


torch.manual_seed(230)
train_dl = DataLoader(Digits(True), 40, shuffle=True, collate_fn=norm)
dev_dl = DataLoader(Digits(False), 150, collate_fn=norm)
xb, _ = next(iter(dev_dl))
with tempfile.TemporaryDirectory() as model_dir:
    teacher = make(24)
    teacher(xb[:2])  # materialize the lazy layer
    opt = torch.optim.Adam(teacher.parameters(), 2e-3)
    for epoch in range(params['teacher_epochs']):
        for x, y in train_dl:
            loss = F.cross_entropy(teacher(x), y)
            opt.zero_grad(); loss.backward(); opt.step()
        print(f"teacher {epoch}: {evaluate(teacher, dev_dl):.3f}")
    torch.save({'epoch': epoch, 'state_dict': teacher.state_dict()}, os.path.join(model_dir, 'best.pth.tar'))
    teacher = make(24)
    teacher(xb[:2])
    teacher.load_state_dict(torch.load(os.path.join(model_dir, 'best.pth.tar'))['state_dict'])

for p in teacher.parameters():
    p.requires_grad = False
teacher.eval()
student = make(4)
student.eval(); student(xb[:1]); student.train()
taps = {}
for name, net in dict(t=teacher, s=student).items():
    net[0].register_forward_hook(lambda m, i, o, name=name: taps.__setitem__(name, o))
optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, nesterov=True)
print("student before", evaluate(student, dev_dl))
for epoch in range(params['student_epochs']):
    avg = RunningAverage()
    for x, y in train_dl:
        with torch.no_grad():
            soft = teacher(x)
        out = student(x)
        loss = loss_fn_kd(out, y, soft, params)
        loss = loss + params['beta'] * (attention_map(taps['s']) - attention_map(taps['t'])).pow(2).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 5.)
        optimizer.step()
        avg.update(loss.item())
    print(f"- student {epoch}: loss={avg():.3f} acc={evaluate(student, dev_dl):.3f}")
