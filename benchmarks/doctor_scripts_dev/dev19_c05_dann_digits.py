# Unsupervised domain adaptation with gradient reversal (Ganin & Lempitsky 2015): plain digits -> digits on cluttered ground.
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd import Function
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

torch.manual_seed(11)

n_epoch = 24
batch_size = 64
lr = 0.02


def source_images(count, seed):
    x, y = draw_digits(count, seed=seed, noise=0.1)
    x = x.float() / 255
    return (x - 0.25) / 0.35, y


def target_images(count, seed):
    """|digit - ground|, as MNIST-M is made: the ground is a smooth random field."""
    x, y = draw_digits(count, seed=seed, noise=0.1)
    x = x.float() / 255
    g = torch.Generator().manual_seed(seed + 1000)
    ground = F.interpolate(torch.rand(count, 1, 4, 4, generator=g), size=16, mode="bilinear", align_corners=False) * 0.38
    x = (x - ground).abs()
    return (x - 0.25) / 0.35, y


class ReverseLayerF(Function):
    @staticmethod
    def forward(ctx, x, alpha):
        ctx.alpha = alpha
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output.neg() * ctx.alpha, None


class CNNModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.feature = nn.Sequential()
        self.feature.add_module("f_conv1", nn.Conv2d(1, 24, kernel_size=3, padding=1))
        self.feature.add_module("f_gn1", nn.GroupNorm(4, 24))
        self.feature.add_module("f_relu1", nn.ReLU(True))
        self.feature.add_module("f_pool1", nn.MaxPool2d(2))
        self.feature.add_module("f_conv2", nn.Conv2d(24, 48, kernel_size=3, padding=1))
        self.feature.add_module("f_gn2", nn.GroupNorm(4, 48))
        self.feature.add_module("f_relu2", nn.ReLU(True))
        self.feature.add_module("f_pool2", nn.MaxPool2d(2))
        self.feature.add_module("f_flat", nn.Flatten())
        self.feature.add_module("f_fc", nn.Linear(48 * 4 * 4, 64))
        self.feature.add_module("f_relu3", nn.ReLU(True))

        self.class_classifier = nn.Sequential()
        self.class_classifier.add_module("c_drop1", nn.Dropout(0.2))
        self.class_classifier.add_module("c_fc1", nn.Linear(64, 10))

        self.domain_classifier = nn.Sequential()
        self.domain_classifier.add_module("d_fc1", nn.Linear(64, 64))
        self.domain_classifier.add_module("d_relu1", nn.ReLU(True))
        self.domain_classifier.add_module("d_fc2", nn.Linear(64, 2))

    def forward(self, input_data, alpha):
        feature = self.feature(input_data)
        reverse_feature = ReverseLayerF.apply(feature, alpha)
        return self.class_classifier(feature), self.domain_classifier(reverse_feature)


@torch.no_grad()
def test(net, loader):
    net.eval()
    n_total = n_correct = 0
    for t_img, t_label in loader:
        class_output, _ = net(input_data=t_img, alpha=0)
        n_correct += class_output.argmax(1).eq(t_label).sum().item()
        n_total += len(t_label)
    return n_correct / n_total


dataloader_source = DataLoader(TensorDataset(*source_images(2000, seed=0)), batch_size=batch_size, shuffle=True, drop_last=True)
# the labels of the target are never used in training
dataloader_target = DataLoader(TensorDataset(target_images(2000, seed=5)[0]), batch_size=batch_size, shuffle=True, drop_last=True)
test_source = DataLoader(TensorDataset(*source_images(400, seed=1)), batch_size=200)
test_target = DataLoader(TensorDataset(*target_images(400, seed=6)), batch_size=200)

my_net = CNNModel()
optimizer = torch.optim.SGD(my_net.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
loss_class = nn.CrossEntropyLoss()
loss_domain = nn.CrossEntropyLoss()

for epoch in range(n_epoch):
    my_net.train()
    len_dataloader = min(len(dataloader_source), len(dataloader_target))
    err_s, err_dom = 0.0, 0.0
    for i, ((s_img, s_label), (t_img,)) in enumerate(zip(dataloader_source, dataloader_target)):
        p = float(i + epoch * len_dataloader) / n_epoch / len_dataloader
        alpha = 2.0 / (1.0 + np.exp(-10 * p)) - 1
        for group in optimizer.param_groups:  # the annealing of the paper
            group["lr"] = lr / (1 + 10 * p) ** 0.75

        optimizer.zero_grad()
        # both domains in one batch
        class_output, domain_output = my_net(input_data=torch.cat([s_img, t_img]), alpha=alpha)
        domain_label = torch.cat([torch.zeros(len(s_img)), torch.ones(len(t_img))]).long()
        err_s_label = loss_class(class_output[: len(s_img)], s_label)
        err_domain = loss_domain(domain_output, domain_label)

        err = err_s_label + err_domain
        err.backward()
        optimizer.step()
        err_s += err_s_label.item() / len_dataloader
        err_dom += err_domain.item() / len_dataloader
    print(
        "epoch: %2d, alpha: %.2f, err_s_label: %.3f, err_domain: %.3f, acc source: %.3f, acc target: %.3f"
        % (epoch, alpha, err_s, err_dom, test(my_net, test_source), test(my_net, test_target))
    )
