"""
The simplest, fastest little convnet for the 8x8 digits of scikit-learn. One file, no framework.
$ python c01_nano_convnet.py
"""
import copy
import math
import time
from contextlib import nullcontext

import torch
import torch.nn as nn
from torch.nn import functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

# -----------------------------------------------------------------------------
# I/O
eval_interval = 50
log_interval = 25
eval_iters = 8
# data
gradient_accumulation_steps = 4 # used to simulate larger batch sizes
batch_size = 32 # if gradient_accumulation_steps > 1, this is the micro-batch size
max_shift = 1 # jitter of the training images, in pixels
# model
n_layer = 2
n_channel = 32
n_group = 8
dropout = 0.1
# adamw optimizer
learning_rate = 1e-2 # max learning rate
max_iters = 400 # total number of training iterations
weight_decay = 1e-1
beta1, beta2 = 0.9, 0.99
grad_clip = 1.0 # clip gradients at this value, or disable if == 0.0
# learning rate decay settings
warmup_iters = 20 # how many steps to warm up for
lr_decay_iters = 400 # should be ~= max_iters
min_lr = 1e-4 # minimum learning rate
# system
device = 'cpu'
dtype = 'bfloat16' # 'float32' or 'bfloat16'
torch.manual_seed(1337)
# -----------------------------------------------------------------------------
ptdtype = {'float32': torch.float32, 'bfloat16': torch.bfloat16}[dtype]
ctx = nullcontext() if dtype == 'float32' else torch.amp.autocast(device_type=device, dtype=ptdtype)

# poor man's data loader
images, targets = load_digits(return_X_y=True)
images = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8)
images = F.pad(images, (1, 1, 1, 1)) # a border of background, 10x10 now
targets = torch.tensor(targets, dtype=torch.long)
ix_train, ix_rest = train_test_split(torch.arange(len(images)), test_size=0.4, stratify=targets, random_state=0)
ix_val, ix_test = train_test_split(ix_rest, test_size=0.5, stratify=targets[ix_rest], random_state=0)
images = (images - images[ix_train].mean()) / images[ix_train].std()
data = {k: (images[ix], targets[ix]) for k, ix in (('train', ix_train), ('val', ix_val), ('test', ix_test))}

def get_batch(split):
    xs, ys = data[split]
    ix = torch.randint(len(xs), (batch_size,))
    x, y = xs[ix], ys[ix]
    if split == 'train' and max_shift > 0:
        dy, dx = torch.randint(-max_shift, max_shift + 1, (2,)).tolist()
        x = torch.roll(x, shifts=(dy, dx), dims=(2, 3))
    return x.to(device), y.to(device)

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(n_channel, n_channel, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(n_group, n_channel)
        self.conv2 = nn.Conv2d(n_channel, n_channel, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(n_group, n_channel)

    def forward(self, x):
        h = F.relu(self.norm1(self.conv1(x)))
        h = self.norm2(self.conv2(h))
        return F.relu(x + h)

class ConvNet(nn.Module):
    def __init__(self, n_class=10):
        super().__init__()
        self.stem = nn.Conv2d(1, n_channel, 3, stride=2, padding=1, bias=False)
        self.norm_s = nn.GroupNorm(n_group, n_channel)
        self.blocks = nn.ModuleList([Block() for _ in range(n_layer)])
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(n_channel, n_class)
        self.apply(self._init_weights)
        # the last norm of each residual branch starts at zero, so that a block starts as the identity
        for pn, p in self.named_parameters():
            if pn.endswith('norm2.weight'):
                nn.init.zeros_(p)
        print("number of parameters: %.2fK" % (sum(p.numel() for p in self.parameters()) / 1e3,))

    def _init_weights(self, module):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity='relu')
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, mean=0.0, std=0.02)
            nn.init.zeros_(module.bias)

    def forward(self, x, targets=None):
        x = F.relu(self.norm_s(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.drop(x.mean(dim=(2, 3)))).float()
        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits, targets, ignore_index=-1)
        return logits, loss

    def configure_optimizers(self):
        # all weight tensors in convs and linears decay, all biases and norms don't
        decay_params = [p for p in self.parameters() if p.dim() >= 2]
        nodecay_params = [p for p in self.parameters() if p.dim() < 2]
        optim_groups = [
            {'params': decay_params, 'weight_decay': weight_decay},
            {'params': nodecay_params, 'weight_decay': 0.0}
        ]
        return torch.optim.AdamW(optim_groups, lr=learning_rate, betas=(beta1, beta2))

model = ConvNet()
model.to(device)
optimizer = model.configure_optimizers()

# helps estimate an arbitrarily accurate loss over either split using many batches
@torch.no_grad()
def estimate_loss():
    out = {}
    model.eval()
    for split in ['train', 'val']:
        losses = torch.zeros(eval_iters)
        for k in range(eval_iters):
            X, Y = get_batch(split)
            with ctx:
                logits, loss = model(X, Y)
            losses[k] = loss.item()
        out[split] = losses.mean()
    model.train()
    return out

# learning rate decay scheduler (cosine with warmup)
def get_lr(it):
    # 1) linear warmup for warmup_iters steps
    if it < warmup_iters:
        return learning_rate * (it + 1) / (warmup_iters + 1)
    # 2) if it > lr_decay_iters, return min learning rate
    if it > lr_decay_iters:
        return min_lr
    # 3) in between, use cosine decay down to min learning rate
    decay_ratio = (it - warmup_iters) / (lr_decay_iters - warmup_iters)
    coeff = 0.5 * (1.0 + math.cos(math.pi * decay_ratio)) # coeff ranges 0..1
    return min_lr + coeff * (learning_rate - min_lr)

# training loop
X, Y = get_batch('train') # fetch the very first batch
checkpoint = None
best_val_loss = 1e9
iter_num = 0
t0 = time.time()
while True:
    lr = get_lr(iter_num)
    for param_group in optimizer.param_groups:
        param_group['lr'] = lr
    # evaluate the loss on train/val sets and keep the best weights
    if iter_num % eval_interval == 0:
        losses = estimate_loss()
        print(f"step {iter_num}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}")
        if losses['val'] < best_val_loss:
            best_val_loss = losses['val']
            checkpoint = {'model': copy.deepcopy(model.state_dict()), 'iter_num': iter_num}
    # forward backward update, with gradient accumulation to simulate larger batch size
    for micro_step in range(gradient_accumulation_steps):
        with ctx:
            logits, loss = model(X, Y)
        loss = loss / gradient_accumulation_steps # scale the loss to account for gradient accumulation
        X, Y = get_batch('train')
        loss.backward()
    # clip the gradient
    if grad_clip != 0.0:
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    # timing and logging
    if iter_num % log_interval == 0:
        lossf = loss.item() * gradient_accumulation_steps
        print(f"iter {iter_num}: loss {lossf:.4f}, lr {lr:.2e}, time {time.time() - t0:.1f}s")
    iter_num += 1
    if iter_num > max_iters:
        break

# the best weights on the test images
model.load_state_dict(checkpoint['model'])
model.eval()
xs, ys = data['test']
with torch.no_grad(), ctx:
    logits, loss = model(xs.to(device), ys.to(device))
acc = (logits.argmax(dim=-1) == ys).float().mean().item()
print(f"best iter {checkpoint['iter_num']}: test loss {loss.item():.4f}, test accuracy {100 * acc:.2f}%")
