# Kaggle-style: 3-fold teachers, out-of-fold soft targets, one small student for the submission
import copy
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import StratifiedKFold
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves


class CFG:
    seed = 2024
    n_fold = 3
    n_class = 4
    teacher_width = 24
    student_width = 8
    teacher_epochs = 9
    student_epochs = 16
    bs = 32
    lr = 3e-3
    T = 2.0
    alpha = 0.3


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def build(width):
    return nn.Sequential(
        nn.Conv1d(1, width, 9, padding=4), nn.BatchNorm1d(width), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(width, 2 * width, 7, padding=3), nn.BatchNorm1d(2 * width), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(2 * width, 2 * width, 5, padding=2), nn.BatchNorm1d(2 * width), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(),
        nn.Linear(2 * width, CFG.n_class),
    )


def upside_down(x):
    # a wave with its sign turned is a wave of the same kind, half a period later
    return x * (2 * torch.randint(0, 2, (len(x), 1, 1)) - 1)


@torch.no_grad()
def infer(model, x):
    model.eval()
    return torch.cat([model(chunk) for chunk in x.split(256)])


def hard_loss(logits, batch):
    return F.cross_entropy(logits, batch[1])


def distill_loss(logits, batch):
    _, label, teacher_logits = batch
    soft = F.kl_div(
        F.log_softmax(logits / CFG.T, dim=1), F.softmax(teacher_logits / CFG.T, dim=1), reduction="batchmean"
    )
    return CFG.alpha * F.cross_entropy(logits, label) + (1 - CFG.alpha) * CFG.T ** 2 * soft


def fit(model, tensors, criterion, epochs, valid=None):
    loader = DataLoader(TensorDataset(*tensors), batch_size=CFG.bs, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * len(loader))
    best_loss, best_state = np.inf, None
    for epoch in range(epochs):
        model.train()
        for batch in loader:
            loss = criterion(model(upside_down(batch[0])), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        if valid is not None:
            val_loss = F.cross_entropy(infer(model, valid[0]), valid[1]).item()
            if val_loss < best_loss:
                best_loss, best_state = val_loss, copy.deepcopy(model.state_dict())
    if best_state is not None:
        model.load_state_dict(best_state)
    return model


def report(name, y, logits):
    y, p = y.numpy(), logits.softmax(1).double()
    p = (p / p.sum(1, keepdim=True)).numpy()
    print(f"{name:<22} acc {accuracy_score(y, p.argmax(1)):.4f}  logloss "
          f"{log_loss(y, p, labels=list(range(CFG.n_class))):.4f}")


if __name__ == "__main__":
    seed_everything(CFG.seed)
    x, y = waves(900, seed=0)
    test_x, test_y = waves(300, seed=5)

    oof = torch.zeros(len(x), CFG.n_class)
    test_logits = torch.zeros(len(test_x), CFG.n_class)
    folds = StratifiedKFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
    for fold, (trn, val) in enumerate(folds.split(np.zeros(len(y)), y.numpy())):
        trn, val = torch.from_numpy(trn), torch.from_numpy(val)
        teacher = fit(build(CFG.teacher_width), (x[trn], y[trn]), hard_loss, CFG.teacher_epochs, (x[val], y[val]))
        oof[val] = infer(teacher, x[val])
        test_logits += infer(teacher, test_x) / CFG.n_fold
        report(f"fold {fold}", y[val], oof[val])
    report("teachers, out of fold", y, oof)
    report("teachers, test", test_y, test_logits)

    # each signal is explained to the student by the teacher that was not trained with it;
    # there is nothing left to validate with, so the last epoch is taken
    student = fit(build(CFG.student_width), (x, y, oof), distill_loss, CFG.student_epochs)
    report("student, test", test_y, infer(student, test_x))
