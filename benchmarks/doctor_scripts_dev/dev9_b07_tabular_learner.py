"""Loan default with categorical embeddings: a tabular model, a Learner and callbacks, one cycle of training."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(3)
CITIES, JOBS = ["Oslo", "Rome", "Lima", "Cairo", "Perth", "Kyoto"], ["cook", "nurse", "clerk", "pilot", "smith"]


def make_table(n=3000):
    g = torch.Generator().manual_seed(4)
    rows = []
    for _ in range(n):
        city, job = (CITIES[int(torch.randint(6, (1,), generator=g))], JOBS[int(torch.randint(5, (1,), generator=g))])
        z = torch.randn(3, generator=g)
        income, age, debt = 42000 + 15000 * z[0].item(), 42 + 11 * z[1].item(), max(0.0, 9 + 5 * z[2].item())
        risk = 2.4 * (len(city) - 4.5) * (1 if job in ("cook", "smith", "pilot") else -1) - 1.3 * z[0] + 1.2 * z[2] * z[1] - 1.7
        late = bool(torch.rand((), generator=g) < torch.sigmoid(1.6 * risk))
        rows.append(dict(city=city, job=job, income=income if torch.rand((), generator=g) > 0.1 else None, age=age, debt=debt, late=late))
    return rows


class Categorify:
    def fit(self, rows, names):
        self.names = names
        self.maps = {n: {v: i + 1 for i, v in enumerate(sorted({r[n] for r in rows}))} for n in names}  # 0: unknown
        return self

    def __call__(self, rows):
        return torch.tensor([[self.maps[n].get(r[n], 0) for n in self.names] for r in rows])


class FillAndNormalize:
    def fit(self, rows, names):
        self.names, self.median = names, {}
        for n in names:
            self.median[n] = torch.tensor([r[n] for r in rows if r[n] is not None]).median().item()
        table = self.raw(rows)
        self.mean, self.std = table.mean(0), table.std(0)
        return self

    def raw(self, rows):
        return torch.tensor([[self.median[n] if r[n] is None else r[n] for n in self.names] + [float(r["income"] is None)] for r in rows])

    def __call__(self, rows):
        return (self.raw(rows) - self.mean) / (self.std + 1e-7)


def emb_sz_rule(n_cat):
    return min(600, round(1.6 * n_cat**0.56))


class TabularModel(nn.Module):
    def __init__(self, cardinalities, n_cont, layers=(64, 32), ps=(0.1, 0.05), embed_p=0.02):
        super().__init__()
        self.embeds = nn.ModuleList([nn.Embedding(c, emb_sz_rule(c)) for c in cardinalities])
        for e in self.embeds:
            nn.init.trunc_normal_(e.weight, std=0.1)
        self.emb_drop, self.bn_cont = nn.Dropout(embed_p), nn.BatchNorm1d(n_cont)
        sizes = [sum(e.embedding_dim for e in self.embeds) + n_cont, *layers]
        blocks = []
        for a, b, p in zip(sizes, sizes[1:], ps):
            blocks += [nn.Linear(a, b, bias=False), nn.ReLU(inplace=True), nn.BatchNorm1d(b), nn.Dropout(p)]
        self.layers = nn.Sequential(*blocks, nn.Linear(sizes[-1], 1))

    def forward(self, x_cat, x_cont):
        x = self.emb_drop(torch.cat([e(x_cat[:, i]) for i, e in enumerate(self.embeds)], 1))
        return self.layers(torch.cat([x, self.bn_cont(x_cont)], 1)).squeeze(-1)


class Callback:
    def __getattr__(self, name):
        if name.startswith(("before_", "after_")):
            return lambda learn: None
        raise AttributeError(name)


class OneCycle(Callback):
    def before_fit(self, learn):
        self.sched = torch.optim.lr_scheduler.OneCycleLR(learn.opt, learn.lr, total_steps=learn.n_epoch * len(learn.train_dl), pct_start=0.25)

    def after_batch(self, learn):
        if learn.training:
            self.sched.step()


class Recorder(Callback):
    def before_epoch(self, learn):
        self.losses, self.outs, self.targs = [], [], []

    def after_batch(self, learn):
        if learn.training:
            self.losses.append(learn.loss.item())
        else:
            self.outs.append(learn.preds)
            self.targs.append(learn.yb)

    def after_epoch(self, learn):
        outs, targs = torch.cat(self.outs), torch.cat(self.targs).bool()
        hard = torch.sigmoid(outs) > 0.5
        f1 = 2 * (hard & targs).sum() / (hard.sum() + targs.sum()).clamp(min=1)
        auc = (outs[targs][:, None] > outs[~targs][None]).float().mean()
        print(f"{learn.epoch}  train {sum(self.losses) / len(self.losses):.4f}  f1 {f1:.3f}  auc {auc:.3f}")


class Learner:
    def __init__(self, train_dl, valid_dl, model, loss_func, cbs, wd=0.01):
        self.train_dl, self.valid_dl, self.model, self.loss_func, self.cbs, self.wd = train_dl, valid_dl, model, loss_func, cbs, wd

    def __call__(self, event):
        for cb in self.cbs:
            getattr(cb, event)(self)

    def one_epoch(self, training):
        self.training = training
        self.model.train(training)
        with torch.set_grad_enabled(training):
            for *self.xb, self.yb in self.train_dl if training else self.valid_dl:
                self.preds = self.model(*self.xb)
                self.loss = self.loss_func(self.preds, self.yb)
                if training:
                    self.loss.backward()
                    self.opt.step()
                    self.opt.zero_grad()
                self("after_batch")

    def fit_one_cycle(self, n_epoch, lr):
        self.n_epoch, self.lr = n_epoch, lr
        self.opt = torch.optim.AdamW(self.model.parameters(), lr=lr, weight_decay=self.wd, betas=(0.9, 0.99))
        self("before_fit")
        for self.epoch in range(n_epoch):
            self("before_epoch")
            self.one_epoch(True)
            self.one_epoch(False)
            self("after_epoch")


rows = make_table()
train_rows, valid_rows = rows[:2400], rows[2400:]
cats, conts = Categorify().fit(train_rows, ["city", "job"]), FillAndNormalize().fit(train_rows, ["income", "age", "debt"])
pack = lambda part: TensorDataset(cats(part), conts(part), torch.tensor([float(r["late"]) for r in part]))
train_dl = DataLoader(pack(train_rows), batch_size=64, shuffle=True, drop_last=True)
valid_dl = DataLoader(pack(valid_rows), batch_size=256)
share = sum(r["late"] for r in train_rows) / len(train_rows)
loss_func = nn.BCEWithLogitsLoss(pos_weight=torch.tensor((1 - share) / share))
learn = Learner(train_dl, valid_dl, TabularModel([7, 6], 4), loss_func, [OneCycle(), Recorder()])
print(f"share of late loans {share:.3f}")
learn.fit_one_cycle(10, 5e-3)
