"""Few-shot classification of sensor codes with prototypical networks, in bfloat16 autocast."""

import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


def make_classes(num_classes, per_class, mixing, seed):
    """Each class is a code of 8 numbers, seen among 16 nuisance sources through 48 mixed sensors."""
    rng = np.random.default_rng(seed)
    codes = rng.standard_normal((num_classes, 1, 8)).repeat(per_class, axis=1)
    codes = codes + 0.15 * rng.standard_normal(codes.shape)
    nuisance = 1.5 * rng.standard_normal((num_classes, per_class, 16))
    sensors = np.concatenate([codes, nuisance], axis=2) @ mixing
    sensors = sensors + 0.05 * rng.standard_normal(sensors.shape)
    return torch.from_numpy(sensors).float()


class Encoder(nn.Module):
    def __init__(self, x_dim=48, hid_dim=96, z_dim=32):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(x_dim, hid_dim),
            nn.ReLU(),
            nn.Linear(hid_dim, hid_dim),
            nn.ReLU(),
            nn.Linear(hid_dim, z_dim),
        )

    def forward(self, x):
        return self.net(x)


class EpisodeSampler:
    """Yields support (way, shot, dim) and query (way, query, dim) of classes drawn anew."""

    def __init__(self, data, n_way, n_shot, n_query, n_episodes, seed=None):
        self.data, self.n_way, self.n_shot, self.n_query = data, n_way, n_shot, n_query
        self.n_episodes, self.seed = n_episodes, seed
        self.generator = torch.Generator().manual_seed(0 if seed is None else seed)

    def __len__(self):
        return self.n_episodes

    def __iter__(self):
        if self.seed is not None:
            self.generator.manual_seed(self.seed)  # evaluation sees the same episodes each time
        for _ in range(self.n_episodes):
            classes = torch.randperm(len(self.data), generator=self.generator)[: self.n_way]
            episode = []
            for c in classes.tolist():
                order = torch.randperm(self.data.size(1), generator=self.generator)
                episode.append(self.data[c, order[: self.n_shot + self.n_query]])
            episode = torch.stack(episode)
            yield {"xs": episode[:, : self.n_shot], "xq": episode[:, self.n_shot :]}


class Protonet(nn.Module):
    def __init__(self, encoder, amp):
        super().__init__()
        self.encoder = encoder
        self.amp = amp

    def embed(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.amp):
            z = self.encoder(x)
        return z.float()

    def loss(self, sample):
        xs, xq = sample["xs"], sample["xq"]
        n_way, n_shot, n_query = xs.size(0), xs.size(1), xq.size(1)
        target = torch.arange(n_way).repeat_interleave(n_query)

        z = self.embed(torch.cat([xs.flatten(0, 1), xq.flatten(0, 1)]))
        proto = z[: n_way * n_shot].view(n_way, n_shot, -1).mean(1)
        zq = z[n_way * n_shot :]

        dists = (zq.unsqueeze(1) - proto.unsqueeze(0)).pow(2).sum(-1)
        loss = F.cross_entropy(-dists, target)
        acc = (dists.argmin(1) == target).float().mean()
        return loss, {"loss": loss.item(), "acc": acc.item()}


@torch.no_grad()
def evaluate(model, sampler):
    model.eval()
    meters = [model.loss(sample)[1] for sample in sampler]
    return {key: float(np.mean([m[key] for m in meters])) for key in meters[0]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data.way", dest="way", type=int, default=5)
    parser.add_argument("--data.shot", dest="shot", type=int, default=5)
    parser.add_argument("--data.query", dest="query", type=int, default=10)
    parser.add_argument("--data.train_episodes", dest="train_episodes", type=int, default=50)
    parser.add_argument("--train.epochs", dest="epochs", type=int, default=10)
    parser.add_argument("--train.learning_rate", dest="lr", type=float, default=2e-3)
    parser.add_argument("--no-amp", dest="amp", action="store_false")
    opt = parser.parse_args()

    torch.manual_seed(1234)
    mixing = np.random.default_rng(99).standard_normal((24, 48)) / np.sqrt(24)
    train_data = make_classes(60, 20, mixing, seed=0)
    val_data = make_classes(20, 20, mixing, seed=1)  # other classes
    mean, std = train_data.mean((0, 1)), train_data.std((0, 1))
    train_data, val_data = (train_data - mean) / std, (val_data - mean) / std

    train_sampler = EpisodeSampler(train_data, opt.way, opt.shot, opt.query, opt.train_episodes)
    val_sampler = EpisodeSampler(val_data, opt.way, opt.shot, opt.query, 40, seed=77)

    model = Protonet(Encoder(), opt.amp)
    optimizer = torch.optim.Adam(model.parameters(), lr=opt.lr)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.85)

    for epoch in range(opt.epochs):
        model.train()
        losses, accs = [], []
        for sample in train_sampler:
            optimizer.zero_grad()
            loss, output = model.loss(sample)
            loss.backward()
            optimizer.step()
            losses.append(output["loss"])
            accs.append(output["acc"])
        scheduler.step()
        val = evaluate(model, val_sampler)
        print(
            f"epoch {epoch:02d} train loss {np.mean(losses):.3f} acc {np.mean(accs):.3f}"
            f" | val loss {val['loss']:.3f} acc {val['acc']:.3f}"
        )


if __name__ == "__main__":
    main()
