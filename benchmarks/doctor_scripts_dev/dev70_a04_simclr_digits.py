"""SimCLR on the 8x8 digits, followed by a linear probe on ten labels per class."""
import io
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

config = {
    'seed': 0,
    'pretrain': {'epochs': 25, 'batch_size': 200, 'lr': 2e-3, 'weight_decay': 1e-4,
                 'temperature': 0.3, 'out_dim': 32},
    'augment': {'degrees': 25., 'scale': 0.25, 'translate': 0.15, 'noise': 0.15, 'erase': 3},
    'probe': {'per_class': 10, 'steps': 300, 'lr': 0.02, 'weight_decay': 1e-3},
}


class RandomAffineNoise:
    def __init__(self, degrees, scale, translate, noise, erase):
        self.angle, self.scale, self.translate = math.radians(degrees), scale, translate
        self.noise, self.erase = noise, erase

    def __call__(self, x):
        n, _, h, w = x.shape
        angle = (torch.rand(n) * 2 - 1) * self.angle
        zoom = 1 + (torch.rand(n) * 2 - 1) * self.scale
        shift = (torch.rand(n, 2, 1) * 2 - 1) * self.translate * 2
        rot = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(n, 2, 2)
        theta = torch.cat([rot * zoom.view(n, 1, 1), shift], 2)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        x = F.grid_sample(x, grid, align_corners=False, padding_mode='border')
        top = torch.randint(0, h - self.erase + 1, (n, 1, 1))
        left = torch.randint(0, w - self.erase + 1, (n, 1, 1))
        rows, cols = torch.arange(h).view(1, h, 1), torch.arange(w).view(1, 1, w)
        hole = (rows >= top) & (rows < top + self.erase) & (cols >= left) & (cols < left + self.erase)
        x = x.masked_fill(hole.unsqueeze(1), 0.)
        return x + self.noise * torch.randn_like(x)


class ConvNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 24, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.conv2 = nn.Conv2d(24, 48, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(48)
        self.conv3 = nn.Conv2d(48, 64, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(64)
        self.fc = nn.Linear(256, num_classes)

    def forward_features(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.max_pool2d(F.relu(self.bn3(self.conv3(x))), 2)
        return x.flatten(1)

    def forward(self, x):
        return self.fc(self.forward_features(x))


class ConvSimCLR(nn.Module):
    def __init__(self, out_dim):
        super().__init__()
        self.backbone = ConvNet(num_classes=out_dim)
        dim_mlp = self.backbone.fc.in_features
        self.backbone.fc = nn.Sequential(nn.Linear(dim_mlp, 128), nn.ReLU(), nn.Linear(128, out_dim))

    def forward(self, x):
        return self.backbone(x)


class SimCLR:
    def __init__(self, model, optimizer, scheduler, transform, args):
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        self.transform, self.args = transform, args

    def info_nce_loss(self, z1, z2):
        features = F.normalize(torch.cat([z1, z2]), dim=1)
        logits = features @ features.T / self.args['temperature']
        logits = logits.masked_fill(torch.eye(len(features), dtype=torch.bool), float('-inf'))
        labels = torch.arange(len(features)).roll(len(z1))
        return F.cross_entropy(logits, labels)

    def train(self, images):
        self.model.train()
        for epoch in range(self.args['epochs']):
            losses = []
            for idx in torch.randperm(len(images)).split(self.args['batch_size']):
                v1, v2 = self.transform(images[idx]), self.transform(images[idx])
                loss = self.info_nce_loss(self.model(v1), self.model(v2))
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.scheduler.step()
                losses.append(loss.item())
            print(f'Epoch: {epoch}\tLoss: {np.mean(losses):.4f}')
        checkpoint = io.BytesIO()
        torch.save({'epoch': self.args['epochs'], 'state_dict': self.model.state_dict()}, checkpoint)
        return checkpoint


def load_backbone(checkpoint):
    checkpoint.seek(0)
    model = ConvNet(num_classes=10)
    state_dict = torch.load(checkpoint)['state_dict']
    state_dict = {k[len('backbone.'):]: v for k, v in state_dict.items()
                  if k.startswith('backbone.') and not k.startswith('backbone.fc')}
    log = model.load_state_dict(state_dict, strict=False)
    assert log.missing_keys == ['fc.weight', 'fc.bias']
    return model


@torch.no_grad()
def extract_features(model, images):
    model.eval()
    return torch.cat([model.forward_features(batch) for batch in images.split(256)])


def linear_probe(model, x_train, y_train, x_test, y_test, args):
    f_train, f_test = extract_features(model, x_train), extract_features(model, x_test)
    mean, std = f_train.mean(0), f_train.std(0) + 1e-5
    f_train, f_test = (f_train - mean) / std, (f_test - mean) / std
    optimizer = torch.optim.AdamW(model.fc.parameters(), lr=args['lr'], weight_decay=args['weight_decay'])
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args['steps'])
    for step in range(args['steps']):
        loss = F.cross_entropy(model.fc(f_train), y_train)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    with torch.no_grad():
        pred = model.fc(f_test).argmax(1)
    return (pred == y_test).float().mean().item()


def main():
    torch.manual_seed(config['seed'])
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    y = torch.tensor(digits.target)
    idx_train, idx_test = train_test_split(
        np.arange(len(y)), test_size=597, stratify=digits.target, random_state=config['seed'])
    rng = np.random.default_rng(config['seed'])
    labelled = np.concatenate([rng.choice(idx_train[digits.target[idx_train] == c],
                                          config['probe']['per_class'], replace=False) for c in range(10)])

    args = config['pretrain']
    model = ConvSimCLR(args['out_dim'])
    optimizer = torch.optim.AdamW(model.parameters(), args['lr'], weight_decay=args['weight_decay'])
    steps = args['epochs'] * math.ceil(len(idx_train) / args['batch_size'])
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, args['lr'], total_steps=steps)
    simclr = SimCLR(model, optimizer, scheduler, RandomAffineNoise(**config['augment']), args)
    checkpoint = simclr.train(x[idx_train])

    acc = linear_probe(load_backbone(checkpoint), x[labelled], y[labelled], x[idx_test], y[idx_test], config['probe'])
    acc0 = linear_probe(ConvNet(10), x[labelled], y[labelled], x[idx_test], y[idx_test], config['probe'])
    print(f'linear probe, 100 labels: pretrained {acc:.4f}, random encoder {acc0:.4f}')


if __name__ == '__main__':
    main()
