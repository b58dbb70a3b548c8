# Trains a small convnet on 16x16 colour images of ten classes as fast as one CPU core allows.
# Descends from the CIFAR-10 speedruns: frozen whitening layer, dirac-initialized convolutions,
# alternating flips, label smoothing, Nesterov SGD under a triangular schedule, averaged weights.
import copy
import time
from math import ceil

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

# learning rate and weight decay are decoupled, per 1024 examples, for a loss summed over the batch
hyp = {
    'opt': {
        'train_epochs': 8, 'batch_size': 100,
        'lr': 24.0, 'momentum': 0.85,
        'weight_decay': 0.0153,
        'bias_scaler': 16.0,      # scales up learning rate (but not weight decay) for BatchNorm biases
        'label_smoothing': 0.2,
        'whiten_bias_epochs': 3,  # how many epochs to train the whitening layer bias before freezing
    },
    'ema': {'epochs': 4, 'decay': 0.95, 'every_n_steps': 5},
    'aug': {'flip': True, 'translate': 1},
    'net': {'widths': (24, 48), 'batchnorm_momentum': 0.6, 'scaling_factor': 1/3, 'tta_level': 1},
}

def make_images(n, rng, size=16, noise=0.14):
    # five shapes in warm or in cool colours
    labels = np.sort(np.arange(n) % 10)
    yy, xx = np.mgrid[:size, :size]
    cx, cy = rng.uniform(6.0, 9.0, (2, n, 1, 1))
    r = rng.uniform(3.5, 5.5, (n, 1, 1))
    u, v = (xx - cx) / r, (yy - cy) / r
    d = np.hypot(u, v)
    shapes = np.stack([
        d < 1,
        (d < 1) & (d > 0.5),
        (v < 0.8) & (np.abs(u) < 0.55 * (v + 1)),
        (v > -0.8) & (np.abs(u) < 0.55 * (1 - v)),
        (np.abs(u) < 0.9) & (np.abs(v) < 0.9) & ~((np.abs(u) < 0.45) & (v > -0.3)),
    ])
    mask = shapes[labels % 5, np.arange(n)][..., None]
    tint = np.where(labels < 5, 1, -1)[:, None] * np.array([0.10, 0.0, -0.10])
    front = rng.uniform(0.35, 0.65, (n, 1)) + tint + rng.normal(0, 0.06, (n, 3))
    back = rng.uniform(0.15, 0.85, (n, 1)) + rng.normal(0, 0.06, (n, 3))
    images = np.where(mask, front[:, None, None], back[:, None, None]) + rng.normal(0, noise, (n, size, size, 3))
    return (255 * images.clip(0, 1)).astype(np.uint8), labels

def batch_flip_lr(inputs):
    flip_mask = (torch.rand(len(inputs)) < 0.5).view(-1, 1, 1, 1)
    return torch.where(flip_mask, inputs.flip(-1), inputs)

def batch_crop(images, crop_size):
    r = (images.size(-1) - crop_size) // 2
    shifts = torch.randint(-r, r + 1, size=(len(images), 2))
    images_out = torch.empty((len(images), 3, crop_size, crop_size))
    for sy in range(-r, r + 1):
        for sx in range(-r, r + 1):
            mask = (shifts[:, 0] == sy) & (shifts[:, 1] == sx)
            images_out[mask] = images[mask, :, r+sy:r+sy+crop_size, r+sx:r+sx+crop_size]
    return images_out

class Loader:
    def __init__(self, images, labels, mean, std, batch_size=500, train=False):
        self.images, self.labels = images, labels
        self.normalize = lambda x: (x - mean) / std
        self.epoch, self.batch_size, self.train = 0, batch_size, train

    def __len__(self):
        return len(self.images) // self.batch_size if self.train else ceil(len(self.images) / self.batch_size)

    def __iter__(self):
        images = self.normalize(self.images)
        if self.train:
            if self.epoch == 0:
                # Pre-flip and pre-pad images to save time in the later epochs
                pre = batch_flip_lr(images) if hyp['aug']['flip'] else images
                self.padded = F.pad(pre, (hyp['aug']['translate'],) * 4, 'reflect')
            images = batch_crop(self.padded, self.images.shape[-2])
            if hyp['aug']['flip'] and self.epoch % 2 == 1:
                images = images.flip(-1)
            self.epoch += 1
        indices = (torch.randperm if self.train else torch.arange)(len(images))
        for i in range(len(self)):
            idxs = indices[i * self.batch_size : (i + 1) * self.batch_size]
            yield images[idxs], self.labels[idxs]

class BatchNorm(nn.BatchNorm2d):
    def __init__(self, num_features):
        super().__init__(num_features, momentum=1 - hyp['net']['batchnorm_momentum'])
        self.weight.requires_grad = False

class Conv(nn.Conv2d):
    def __init__(self, in_channels, out_channels):
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        nn.init.dirac_(self.weight.data[:in_channels])

class ConvGroup(nn.Module):
    def __init__(self, channels_in, channels_out):
        super().__init__()
        self.conv1, self.norm1 = Conv(channels_in, channels_out), BatchNorm(channels_out)
        self.conv2, self.norm2 = Conv(channels_out, channels_out), BatchNorm(channels_out)

    def forward(self, x):
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return F.gelu(self.norm2(self.conv2(x)))

class SpeedyNet(nn.Module):
    def __init__(self, widths=hyp['net']['widths'], kernel=2):
        super().__init__()
        width0 = 2 * 3 * kernel**2
        self.whiten = nn.Conv2d(3, width0, kernel, bias=True)
        self.whiten.weight.requires_grad = False
        self.group1 = ConvGroup(width0, widths[0])
        self.group2 = ConvGroup(widths[0], widths[1])
        self.head = nn.Linear(widths[1], 10, bias=False)

    def forward(self, x):
        x = self.group2(self.group1(F.gelu(self.whiten(x))))
        return self.head(F.max_pool2d(x, 3).flatten(1)) * hyp['net']['scaling_factor']

def init_whitening_conv(layer, images, eps=5e-4):
    c, (h, w) = images.shape[1], layer.weight.shape[2:]
    patches = images.unfold(2, h, 1).unfold(3, w, 1).transpose(1, 3).reshape(-1, c * h * w)
    eigenvalues, eigenvectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = eigenvectors.T.reshape(-1, c, h, w) / torch.sqrt(eigenvalues + eps).view(-1, 1, 1, 1)
    layer.weight.data[:] = torch.cat((filters, -filters))

class NetworkEMA:
    def __init__(self, net):
        self.net = copy.deepcopy(net).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, current, decay):
        for ema_value, value in zip(self.net.state_dict().values(), current.state_dict().values()):
            if value.dtype in (torch.half, torch.float):
                ema_value.lerp_(value, 1 - decay)

def evaluate(net, loader, tta_level=0):
    net.eval()
    infer_fn = [net, lambda x: 0.5 * net(x) + 0.5 * net(x.flip(-1))][tta_level]
    with torch.no_grad():
        logits = torch.cat([infer_fn(x) for x in loader.normalize(loader.images).split(500)])
    return (logits.argmax(1) == loader.labels).float().mean().item()

def main(run, n_train=3000, n_test=1000):
    torch.manual_seed(run)
    rng = np.random.default_rng(2024)
    (x_train, y_train), (x_test, y_test) = make_images(n_train, rng), make_images(n_test, rng)
    train_images = torch.from_numpy(x_train).permute(0, 3, 1, 2).float() / 255
    test_images = torch.from_numpy(x_test).permute(0, 3, 1, 2).float() / 255
    std, mean = torch.std_mean(train_images, dim=(0, 2, 3), keepdim=True)
    opt, ema, batch_size = hyp['opt'], hyp['ema'], hyp['opt']['batch_size']
    train_loader = Loader(train_images, torch.from_numpy(y_train), mean, std, batch_size, train=True)
    test_loader = Loader(test_images, torch.from_numpy(y_test), mean, std)
    total_steps = opt['train_epochs'] * len(train_loader)
    kilostep_scale = 1024 * (1 + 1 / (1 - opt['momentum']))
    lr = opt['lr'] / kilostep_scale # un-decoupled learning rate for PyTorch SGD
    wd = opt['weight_decay'] * batch_size / kilostep_scale
    lr_biases = lr * opt['bias_scaler']
    model = SpeedyNet()
    init_whitening_conv(model.whiten, train_loader.normalize(train_images[torch.randperm(n_train)[:1000]]))
    loss_fn = nn.CrossEntropyLoss(label_smoothing=opt['label_smoothing'], reduction='none')
    norm_biases = [p for k, p in model.named_parameters() if 'norm' in k and p.requires_grad]
    other_params = [p for k, p in model.named_parameters() if 'norm' not in k and p.requires_grad]
    optimizer = torch.optim.SGD([dict(params=norm_biases, lr=lr_biases, weight_decay=wd / lr_biases),
                                 dict(params=other_params, lr=lr, weight_decay=wd / lr)],
                                momentum=opt['momentum'], nesterov=True)
    lr_schedule = np.interp(np.arange(1 + total_steps), [0, int(0.23 * total_steps), total_steps], [0.2, 1, 0.07])
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: lr_schedule[i])
    net_ema, step, start = None, 0, time.time()
    for epoch in range(opt['train_epochs']):
        model.whiten.bias.requires_grad = (epoch < opt['whiten_bias_epochs'])
        model.train()
        for inputs, labels in train_loader:
            outputs = model(inputs)
            loss = loss_fn(outputs, labels).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            step += 1
            if epoch >= opt['train_epochs'] - ema['epochs'] and step % ema['every_n_steps'] == 0:
                if net_ema is None:
                    net_ema = NetworkEMA(model)
                else:
                    net_ema.update(model, decay=ema['decay'] ** ema['every_n_steps'])
        train_acc = (outputs.detach().argmax(1) == labels).float().mean().item()
        val_acc = evaluate(model, test_loader)
        print(f'| {run} | {epoch} | loss {loss.item() / len(labels):.4f} | train_acc {train_acc:.4f} '
              f'| val_acc {val_acc:.4f} | {time.time() - start:.1f}s |')
    val_acc = evaluate(net_ema.net, test_loader)
    tta_acc = evaluate(net_ema.net, test_loader, tta_level=hyp['net']['tta_level'])
    print(f'| {run} | eval | ema_val_acc {val_acc:.4f} | tta_val_acc {tta_acc:.4f} |')
    return tta_acc

if __name__ == '__main__':
    accs = torch.tensor([main(run) for run in range(1)])
    print('Mean: %.4f' % accs.mean())
