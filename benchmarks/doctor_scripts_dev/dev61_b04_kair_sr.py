"""Super-resolution (x2) of generated pictures with a small residual network, after KAIR's options and ModelPlain."""

import random

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

OPT = {
    "scale": 2,
    "datasets": {
        "train": {"n_images": 320, "H_size": 24, "dataloader_batch_size": 16, "seed": 1},
        "test": {"n_images": 60, "H_size": None, "dataloader_batch_size": 1, "seed": 2},
    },
    "netG": {"nc": 32, "nb": 3},
    "train": {"epochs": 10, "G_optimizer_lr": 2e-3, "G_scheduler_milestones": [120, 170], "G_scheduler_gamma": 0.4},
}


def draw_picture(rng, size=32):
    y, x = np.mgrid[:size, :size]
    img = np.ones((size, size, 3)) * rng.uniform(0, 1, 3)
    for _ in range(4):
        cy, cx, r = rng.uniform(4, size - 4), rng.uniform(4, size - 4), rng.uniform(3, 8)
        if rng.rand() < 0.5:
            inside = (y - cy) ** 2 + (x - cx) ** 2 < r**2
        else:
            inside = np.abs((x - cx) * np.cos(r) + (y - cy) * np.sin(r)) < 2
        img[inside] = rng.uniform(0, 1, 3)
    return (img * 255).round().astype(np.uint8)


def downsample(img, sf):
    h, w, c = img.shape
    return img.reshape(h // sf, sf, w // sf, sf, c).mean(axis=(1, 3)).round().astype(np.uint8)


def uint2single(img):
    return np.float32(img / 255.0)


def single2tensor3(img):
    return torch.from_numpy(np.ascontiguousarray(img)).permute(2, 0, 1).float()


def augment_img(img, mode):
    return np.rot90(np.flipud(img) if mode >= 4 else img, k=mode % 4)


def calculate_psnr(img1, img2):
    mse = torch.mean((img1.double() - img2.double()) ** 2).clamp(min=1e-10)
    return (10 * torch.log10(1.0 / mse)).item()


class DatasetSR(Dataset):
    def __init__(self, opt, phase, sf):
        rng = np.random.RandomState(opt["seed"])
        self.phase, self.sf, self.patch_size = phase, sf, opt["H_size"]
        self.imgs_H = [draw_picture(rng) for _ in range(opt["n_images"])]

    def __len__(self):
        return len(self.imgs_H)

    def __getitem__(self, index):
        img_H = self.imgs_H[index]
        img_L = downsample(img_H, self.sf)
        if self.phase == "train":
            img_H, img_L = uint2single(img_H), uint2single(img_L)
            l_size = self.patch_size // self.sf
            top, left = (random.randint(0, side - l_size) for side in img_L.shape[:2])
            img_L = img_L[top : top + l_size, left : left + l_size]
            img_H = img_H[top * self.sf :, left * self.sf :][: self.patch_size, : self.patch_size]
            mode = random.randint(0, 7)
            img_L, img_H = augment_img(img_L, mode), augment_img(img_H, mode)
        else:
            img_H, img_L = uint2single(img_H), uint2single(img_L)
        return {"L": single2tensor3(img_L), "H": single2tensor3(img_H)}


def conv(nc_in, nc_out, mode="CR"):
    layers = []
    for t in mode:
        if t == "C":
            layers.append(nn.Conv2d(nc_in if not layers else nc_out, nc_out, 3, padding=1))
        elif t == "R":
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class ResBlock(nn.Module):
    def __init__(self, nc, mode="CRC"):
        super().__init__()
        self.res = conv(nc, nc, mode)

    def forward(self, x):
        return x + self.res(x)


class MSRResNet(nn.Module):
    def __init__(self, nc, nb, sf):
        super().__init__()
        self.head = conv(3, nc, mode="C")
        self.body = nn.Sequential(*[ResBlock(nc) for _ in range(nb)])
        self.tail = nn.Sequential(nn.Conv2d(nc, 3 * sf * sf, 3, padding=1), nn.PixelShuffle(sf))

    def forward(self, x):
        return self.tail(self.body(self.head(x)))


class ModelPlain:
    def __init__(self, opt):
        self.netG = MSRResNet(sf=opt["scale"], **opt["netG"])
        self.G_lossfn = nn.L1Loss()
        train = opt["train"]
        self.G_optimizer = torch.optim.Adam(self.netG.parameters(), lr=train["G_optimizer_lr"])
        milestones, gamma = train["G_scheduler_milestones"], train["G_scheduler_gamma"]
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.G_optimizer, milestones, gamma)

    def feed_data(self, data):
        self.L, self.H = data["L"], data["H"]

    def optimize_parameters(self):
        self.G_optimizer.zero_grad()
        self.E = self.netG(self.L)
        G_loss = self.G_lossfn(self.E, self.H)
        G_loss.backward()
        self.G_optimizer.step()
        self.scheduler.step()
        self.G_loss = G_loss.item()

    def test(self):
        self.netG.eval()
        with torch.no_grad():
            self.E = self.netG(self.L)
        self.netG.train()


def main(opt=OPT):
    random.seed(0)
    torch.manual_seed(0)
    loaders = {}
    for phase, dopt in opt["datasets"].items():
        dataset = DatasetSR(dopt, phase, opt["scale"])
        loaders[phase] = DataLoader(dataset, dopt["dataloader_batch_size"], shuffle=phase == "train")
    model = ModelPlain(opt)
    for epoch in range(opt["train"]["epochs"]):
        for train_data in loaders["train"]:
            model.feed_data(train_data)
            model.optimize_parameters()
        psnrs = []
        for test_data in loaders["test"]:
            model.feed_data(test_data)
            model.test()
            psnrs.append(calculate_psnr(model.E.clamp(0, 1), model.H))
        print(f"<epoch:{epoch:3d}> G_loss: {model.G_loss:.4f}, PSNR: {np.mean(psnrs):.2f}dB")


if __name__ == "__main__":
    main()
