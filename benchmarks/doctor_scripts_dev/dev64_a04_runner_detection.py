import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from toydata import Shapes


def normalize(results, mean=0.5, std=0.2):
    results['img'] = (results['img'] - mean) / std
    return results


train_pipeline = [normalize]
test_pipeline = [normalize]
cfg = dict(
    model=dict(num_classes=6, channels=16, loss_bbox_weight=5.0, loss_scale_weight=5.0),
    data=dict(samples_per_gpu=32, img_size=20,
              train=dict(train=True, pipeline=train_pipeline), val=dict(train=False, pipeline=test_pipeline)),
    optimizer=dict(lr=2e-3),
    optimizer_config=dict(max_norm=10.0),
    lr_config=dict(milestones=[8, 11], gamma=0.2),
    runner=dict(max_epochs=12),
    dist=dict(world_size=1, rank=0),
    seed=0)


class ShapeDataset(Dataset):
    def __init__(self, train, pipeline, img_size):
        self.shapes = Shapes(train=train, size=img_size)
        self.pipeline = pipeline

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, idx):
        results = dict(img=self.shapes.images[idx], gt_bbox=self.shapes.boxes[idx], gt_label=self.shapes.targets[idx])
        for transform in self.pipeline:
            results = transform(results)
        results['gt_scale'] = results['gt_bbox'][2] - results['gt_bbox'][0]
        return results


class SingleObjectDetector(nn.Module):
    def __init__(self, num_classes, channels, loss_bbox_weight, loss_scale_weight):
        super().__init__()
        c = channels
        self.backbone = nn.Sequential(
            nn.Conv2d(3, c, 3, 1, 1), nn.BatchNorm2d(c), nn.ReLU(),
            nn.Conv2d(c, 2 * c, 3, 2, 1), nn.BatchNorm2d(2 * c), nn.ReLU(),
            nn.Conv2d(2 * c, 3 * c, 3, 2, 1), nn.BatchNorm2d(3 * c), nn.ReLU())
        self.neck = nn.Sequential(nn.Flatten(), nn.Linear(3 * c * 25, 96), nn.ReLU())
        self.cls_head = nn.Linear(96, num_classes)
        self.bbox_head = nn.Linear(96, 4)
        self.scale_head = nn.Linear(96, 1)
        self.weights = loss_bbox_weight, loss_scale_weight

    def forward(self, img):
        x = self.neck(self.backbone(img))
        return self.cls_head(x), self.bbox_head(x).sigmoid(), self.scale_head(x)

    def loss(self, data):
        cls_score, bbox_pred, scale_pred = self(data['img'])
        losses = dict(
            loss_cls=F.cross_entropy(cls_score, data['gt_label']),
            loss_bbox=self.weights[0] * F.smooth_l1_loss(bbox_pred, data['gt_bbox'], beta=0.1),
            loss_scale=self.weights[1] * F.mse_loss(scale_pred.squeeze(1), data['gt_scale']))
        losses['loss'] = sum(losses.values())
        return losses


def bbox_iou(a, b):
    lt, rb = torch.max(a[:, :2], b[:, :2]), torch.min(a[:, 2:], b[:, 2:])
    inter = (rb - lt).clamp(min=0).prod(1)
    area = lambda x: (x[:, 2:] - x[:, :2]).clamp(min=0).prod(1)
    return inter / (area(a) + area(b) - inter)


class Hook:
    def before_train_epoch(self, runner): pass
    def after_train_iter(self, runner): pass
    def after_train_epoch(self, runner): pass


class ParamSchedulerHook(Hook):
    def __init__(self, scheduler):
        self.scheduler = scheduler

    def after_train_epoch(self, runner):
        self.scheduler.step()


class OptimizerHook(Hook):
    def __init__(self, max_norm):
        self.max_norm = max_norm

    def after_train_iter(self, runner):
        runner.optimizer.zero_grad()
        runner.outputs['loss'].backward()
        nn.utils.clip_grad_norm_(runner.model.parameters(), self.max_norm)
        runner.optimizer.step()


class DistSamplerSeedHook(Hook):
    def before_train_epoch(self, runner):
        runner.loader.sampler.set_epoch(runner.epoch)


class EvalHook(Hook):
    def __init__(self, loader):
        self.loader = loader

    @torch.no_grad()
    def after_train_epoch(self, runner):
        runner.model.eval()
        hits, ious, errors = [], [], []
        for data in self.loader:
            cls_score, bbox, scale = runner.model(data['img'])
            hits.append((cls_score.argmax(1) == data['gt_label']).float())
            ious.append(bbox_iou(bbox, data['gt_bbox']))
            errors.append((scale.squeeze(1) - data['gt_scale']).abs())
        hits, ious, errors = (torch.cat(v).mean().item() for v in (hits, ious, errors))
        print(f'Epoch(val) [{runner.epoch + 1}] acc: {hits:.3f}, mIoU: {ious:.3f}, scale MAE: {errors:.4f}')


class Runner:
    def __init__(self, model, optimizer, loader, hooks):
        self.model, self.optimizer, self.loader, self.hooks = model, optimizer, loader, hooks

    def call_hook(self, name):
        for hook in self.hooks:
            getattr(hook, name)(self)

    def run(self, max_epochs):
        for self.epoch in range(max_epochs):
            self.model.train()
            self.call_hook('before_train_epoch')
            for data in self.loader:
                self.outputs = self.model.loss(data)
                self.call_hook('after_train_iter')
            print(f'Epoch [{self.epoch + 1}]', {k: round(v.item(), 4) for k, v in self.outputs.items()})
            self.call_hook('after_train_epoch')


def main():
    torch.manual_seed(cfg['seed'])
    data, dist = cfg['data'], cfg['dist']
    trainset, valset = (ShapeDataset(img_size=data['img_size'], **data[k]) for k in ('train', 'val'))
    sampler = DistributedSampler(trainset, num_replicas=dist['world_size'], rank=dist['rank'], seed=cfg['seed'])
    loader = DataLoader(trainset, data['samples_per_gpu'], sampler=sampler, drop_last=True)
    model = SingleObjectDetector(**cfg['model'])
    optimizer = torch.optim.Adam(model.parameters(), **cfg['optimizer'])
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, **cfg['lr_config'])
    hooks = [ParamSchedulerHook(scheduler), OptimizerHook(**cfg['optimizer_config']), DistSamplerSeedHook(),
             EvalHook(DataLoader(valset, 64))]
    Runner(model, optimizer, loader, hooks).run(**cfg['runner'])


if __name__ == '__main__':
    main()
