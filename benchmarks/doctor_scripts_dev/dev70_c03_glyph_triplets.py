# %% [markdown]
# # Glyph retrieval with a triplet network
# Embeddings are learned on some glyph classes and tested by retrieval on glyphs never seen.

# %%
import math
import torch
import torch.nn as nn
import torch.nn.functional as F

SEED = 3
SIZE = 20
N_TRAIN, N_VAL, N_TEST = 100, 15, 30
PER_CLASS = 16
P, K = 12, 4
MARGIN = 0.2
ITERS = 200
EVAL_EVERY = 40
LR = 1e-3

torch.manual_seed(SEED)
g = torch.Generator().manual_seed(SEED)

# %% glyphs are strokes through five control points
ticks = (torch.arange(SIZE) + 0.5) / SIZE
GRID = torch.stack(torch.meshgrid(ticks, ticks, indexing="ij"), dim=-1).reshape(-1, 2)


def render(ctrl):
    t = torch.linspace(0, 1, 9)[:-1].view(1, 1, -1, 1)
    a, b = ctrl[:, :-1, None], ctrl[:, 1:, None]
    pts = (a + t * (b - a)).flatten(1, 2)
    out = []
    for chunk in pts.split(128):
        d = torch.cdist(GRID.expand(len(chunk), -1, -1), chunk).min(dim=-1).values
        out.append(torch.exp(-d ** 2 / (2 * 0.04 ** 2)))
    return torch.cat(out).view(-1, 1, SIZE, SIZE)


def draw_instances(protos):
    n = len(protos)
    ctrl = protos + 0.042 * torch.randn(protos.shape, generator=g) - 0.5
    phi = 0.5 * (torch.rand(n, generator=g) - 0.5)
    rot = torch.stack([phi.cos(), -phi.sin(), phi.sin(), phi.cos()], dim=-1).view(n, 2, 2)
    scale = 0.75 + 0.4 * torch.rand(n, 1, 1, generator=g)
    move = 0.1 * (torch.rand(n, 1, 2, generator=g) - 0.5)
    img = render(scale * (ctrl @ rot) + 0.5 + move)
    return img + 0.12 * torch.randn(img.shape, generator=g)


def make_pool(n_classes):
    protos = 0.12 + 0.76 * torch.rand(n_classes, 5, 2, generator=g)
    labels = torch.arange(n_classes).repeat_interleave(PER_CLASS)
    return protos, draw_instances(protos[labels]), labels


train_protos, x_train, y_train = make_pool(N_TRAIN)
_, x_val, y_val = make_pool(N_VAL)
_, x_test, y_test = make_pool(N_TEST)
mu, sd = x_train.mean(), x_train.std()
x_train, x_val, x_test = [(x - mu) / sd for x in (x_train, x_val, x_test)]
print("train", tuple(x_train.shape), "val", tuple(x_val.shape), "test", tuple(x_test.shape))


# %% network
class EmbeddingNet(nn.Module):
    def __init__(self, dim=48):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(48, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        )
        self.proj = nn.Linear(64 * 25, dim)

    def forward(self, x):
        return F.normalize(self.proj(self.conv(x).flatten(1)), dim=1)


# %% batch-hard triplets
def batch_hard_triplet(emb, labels, margin=MARGIN):
    dist = torch.cdist(emb, emb)
    same = labels[:, None] == labels[None, :]
    hardest_pos = dist.masked_fill(~same, 0.0).max(dim=1).values
    hardest_neg = dist.masked_fill(same, float("inf")).min(dim=1).values
    return F.softplus((hardest_pos - hardest_neg + margin) * 5).mean() / 5


def pk_batch():
    classes = torch.randperm(N_TRAIN, generator=g)[:P]
    idx = torch.cat([c * PER_CLASS + torch.randperm(PER_CLASS, generator=g)[:K] for c in classes])
    return x_train[idx], y_train[idx]


# %% retrieval: every picture is a query against all the others
@torch.no_grad()
def retrieval(net, x, y):
    net.eval()
    emb = torch.cat([net(b) for b in x.split(256)])
    sim = emb @ emb.t()
    sim.fill_diagonal_(-float("inf"))
    r = PER_CLASS - 1
    ranked = sim.topk(r, dim=1).indices
    hit = (y[ranked] == y[:, None]).float()
    prec = hit.cumsum(dim=1) / torch.arange(1, r + 1)
    return hit[:, 0].mean().item(), ((prec * hit).sum(dim=1) / r).mean().item()


# %% training
net = EmbeddingNet()
opt = torch.optim.Adam(net.parameters(), lr=LR, weight_decay=1e-5)
sched = torch.optim.lr_scheduler.LambdaLR(opt, lambda it: 0.5 * (1 + math.cos(math.pi * it / ITERS)))
print("untrained val R@1 %.3f MAP@R %.3f" % retrieval(net, x_val, y_val))

best, best_state = -1.0, None
running = 0.0
for it in range(1, ITERS + 1):
    net.train()
    xb, yb = pk_batch()
    loss = batch_hard_triplet(net(xb), yb)
    opt.zero_grad(set_to_none=True)
    loss.backward()
    opt.step()
    sched.step()
    running += loss.item()
    if it % EVAL_EVERY == 0:
        r1, mapr = retrieval(net, x_val, y_val)
        print(f"iter {it:4d} loss {running / EVAL_EVERY:.4f} val R@1 {r1:.3f} MAP@R {mapr:.3f}")
        running = 0.0
        if mapr > best:
            best = mapr
            best_state = {k: v.clone() for k, v in net.state_dict().items()}

# %% unseen glyphs
net.load_state_dict(best_state)
r1, mapr = retrieval(net, x_test, y_test)
print(f"test ({N_TEST} new classes) R@1 {r1:.3f} MAP@R {mapr:.3f}")
