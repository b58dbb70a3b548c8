"""Transfer from digits to letters with a Learner: rate finder, frozen body, then all of it with smaller rates."""

import copy
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

LETTERS = {  # three by five cells
    "A": "25755", "C": "34443", "E": "74747", "F": "74744", "H": "55755", "L": "44447", "T": "72222", "U": "55557",
}


def draw_letters(count, seed, size=16, noise=0.1):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, len(LETTERS), (count,), generator=g)
    glyphs = torch.tensor([[[int(row) >> bit & 1 for bit in (2, 1, 0)] for row in rows] for rows in LETTERS.values()])
    glyphs = glyphs.float().repeat_interleave(2, 1).repeat_interleave(2, 2)
    images = torch.zeros(count, 1, size, size)
    for i, label in enumerate(labels.tolist()):
        top, left = torch.randint(1, 6, (2,), generator=g).tolist()
        images[i, 0, top : top + 10, left + 2 : left + 8] = glyphs[label] * (0.7 + 0.3 * torch.rand((), generator=g))
    return (images + noise * torch.randn(images.shape, generator=g)).clamp(0, 1), labels


def loaders(train, valid, bs):
    return DataLoader(TensorDataset(*train), bs, shuffle=True), DataLoader(TensorDataset(*valid), 128)


def conv_layer(ni, nf, stride):
    return nn.Sequential(nn.Conv2d(ni, nf, 3, stride, 1, bias=False), nn.BatchNorm2d(nf), nn.ReLU())


class Transfer(nn.Module):
    def __init__(self, body, nf, n_out):
        super().__init__()
        self.body = body
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.25), nn.Linear(nf, n_out))

    def forward(self, x):
        return self.head(self.body(x))


class Learner:
    def __init__(self, train_dl, valid_dl, model, loss_func=F.cross_entropy, opt_func=torch.optim.Adam):
        self.train_dl, self.valid_dl, self.model, self.loss_func = train_dl, valid_dl, model, loss_func
        self.opt_func, self.frozen = partial(opt_func, betas=(0.9, 0.99)), False

    def freeze(self):
        self.frozen = True
        self.model.body.requires_grad_(False)

    def unfreeze(self):
        self.frozen = False
        self.model.body.requires_grad_(True)

    def set_train(self):
        self.model.train()
        if self.frozen:
            self.model.body.eval()  # its running statistics stay too

    def groups(self, lr):
        low, high = (lr.start, lr.stop) if isinstance(lr, slice) else (lr, lr)
        heads = [{"params": list(self.model.head.parameters()), "lr": high}]
        return heads if self.frozen else [{"params": list(self.model.body.parameters()), "lr": low}, *heads]

    def one_batch(self, xb, yb, opt):
        loss = self.loss_func(self.model(xb), yb)
        loss.backward()
        opt.step()
        opt.zero_grad()
        return loss.item()

    def lr_find(self, start=1e-5, end=1.0, num_it=60):
        """A mock run with growing rates; gives a tenth of the rate at which the smoothed loss was lowest."""
        saved = copy.deepcopy(self.model.state_dict())
        opt = self.opt_func(self.groups(start))
        self.set_train()
        smooth, best, best_lr, it = 0.0, float("inf"), start, 0
        while it < num_it:
            for xb, yb in self.train_dl:
                lr = start * (end / start) ** (it / num_it)
                for group in opt.param_groups:
                    group["lr"] = lr
                smooth = 0.9 * smooth + 0.1 * self.one_batch(xb, yb, opt)
                it += 1
                corrected = smooth / (1 - 0.9**it)
                if corrected < best:
                    best, best_lr = corrected, lr
                if it >= num_it or corrected > 4 * best:
                    it = num_it
                    break
        self.model.load_state_dict(saved)
        print(f"suggested rate {best_lr / 10:.2e}")
        return best_lr / 10

    def fit_one_cycle(self, n_epoch, lr):
        opt = self.opt_func(self.groups(lr))
        maxima = [group["lr"] for group in opt.param_groups]
        sched = torch.optim.lr_scheduler.OneCycleLR(opt, maxima, total_steps=n_epoch * len(self.train_dl), pct_start=0.25)
        for epoch in range(n_epoch):
            self.set_train()
            total = 0.0
            for xb, yb in self.train_dl:
                total += self.one_batch(xb, yb, opt) * len(xb)
                sched.step()
            valid_loss, acc = self.validate()
            print(f"{epoch:5d}  {total / len(self.train_dl.dataset):.4f}  {valid_loss:.4f}  {acc:.4f}")

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        outs = [(self.model(xb), yb) for xb, yb in self.valid_dl]
        preds, targs = torch.cat([o[0] for o in outs]), torch.cat([o[1] for o in outs])
        return self.loss_func(preds, targs).item(), (preds.argmax(1) == targs).float().mean().item()


def main():
    torch.manual_seed(3)
    (digits, digit_labels), (more, more_labels) = draw_digits(2400, seed=0), draw_digits(300, seed=1)
    mean, std = digits.float().div(255).mean(), digits.float().div(255).std()
    norm = lambda x: (x - mean) / std
    source = loaders((norm(digits / 255), digit_labels), (norm(more / 255), more_labels), 64)
    body = nn.Sequential(conv_layer(1, 16, 1), conv_layer(16, 32, 2), conv_layer(32, 64, 2))
    print("digits")
    Learner(*source, Transfer(body, 64 * 16, 10)).fit_one_cycle(5, 5e-3)

    (x, y), (vx, vy) = draw_letters(600, seed=10), draw_letters(300, seed=11)
    learn = Learner(*loaders((norm(x), y), (norm(vx), vy), 32), Transfer(body, 64 * 16, len(LETTERS)))
    print("letters")
    learn.freeze()
    lr = learn.lr_find()
    learn.fit_one_cycle(4, lr)
    learn.unfreeze()
    learn.fit_one_cycle(3, slice(lr / 20, lr / 4))


if __name__ == "__main__":
    main()
