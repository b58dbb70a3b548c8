"""A run as one value: the complete frozen tree that is saved as config.yaml, free of torch.

`None` in a field means "not decided yet"; a recipe (`recipes/`) decides it before training starts, so that the
saved file has no such field left except those that stay unused by choice.

The docstring under a field is what `--help` says of it (`config_fields.py`). One that begins with "Recorded by the run"
is written by a run and not set by a user.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt, Predicate

from striate.data.config import AugmentConfig, DataConfig
from striate.models.config import ModelConfig
from striate.models.trusted_code import names_code
from striate.tasks.config import TaskConfig

Code = Annotated[str, Predicate(names_code)]
"""`file.py:name`, or the name of an object given in Python."""


@dataclass(frozen=True)
class OptimizerConfig:
    """Fields of `optim.*`: the optimizer."""

    name: Literal["sgd", "adamw", "muon", "lamb", "lars", "local-rule"] | Code | None = None
    """The optimizer. `local-rule` computes no gradients: the network learns by its local learning rule. `file.py:name`
    RUNS that code: a function that takes the parameters and returns their torch.optim.Optimizer. Default: the recipe
    decides."""
    lr: Annotated[float, Gt(0), Le(1e30)] | None = None
    """Peak learning rate; the schedule scales it. Default: the recipe decides; an optimizer from `file.py:name`
    uses its own rate."""
    weight_decay: Annotated[float, Ge(0), Le(1e6)] | None = None
    """Decay of weights (never of biases and normalization parameters). Default: the recipe decides."""
    momentum: Annotated[float, Ge(0), Lt(1)] | None = None
    """Momentum of `sgd`, `muon` and `lars`. Default: 0.9, or what the recipe decides."""
    nesterov: bool = True
    """Nesterov's form of the momentum of `sgd`, `muon` and `lars`."""
    betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.9, 0.999)
    """Decay of the running moments of `adamw`, `lamb`, and of the AdamW part of `muon`."""
    fixed_norm: bool | None = None
    """Whether `muon` rotates each kernel by an angle of about the learning rate and preserves its norm; for networks
    that normalize the kernel's output. Default: false, or what the recipe decides."""
    other_lr: Annotated[float, Gt(0), Le(1e30)] | None = None
    """Peak learning rate of the parameters that `muon` leaves to AdamW: biases, normalizations, the output layer.
    Default: optim.lr."""
    clip: Annotated[float, Ge(0), Le(1e6)] = 0.0
    """Gradient clipping: the largest L2 norm of the whole gradient; a longer gradient is scaled down to it. 0 turns it
    off."""
    ema: Annotated[float, Ge(0), Lt(1)] | None = None
    """Decay of the exponential moving average of the weights; predictions then come from the average. 0 turns it off.
    Default: the recipe decides."""


@dataclass(frozen=True)
class ScheduleConfig:
    """Fields of `schedule.*`: the learning rate over the run, as a share of `optim.lr`, and progressive resizing."""

    name: Literal["one-cycle", "cosine", "triangle", "step", "constant"] | Code | None = None
    """The learning rate schedule; `triangle` rises and falls in straight lines. `file.py:name` RUNS that code: a
    function of the step, from 0, and the number of steps that returns the share of the peak rate. Default: one-cycle,
    or the schedule that the network's local learning rule is made for."""
    warmup: Annotated[float, Ge(0), Lt(1)] | None = None
    """Share of all steps in which the rate rises from a 25th of its peak to the peak (`one-cycle`, `cosine`,
    `triangle`). Default: 0.2, or what the recipe decides."""
    final: Annotated[float, Ge(0), Le(1)] = 0.001
    """Share of the peak that is left at the end (`one-cycle`, `cosine`, `triangle`)."""
    milestones: tuple[Annotated[float, Gt(0), Lt(1)], ...] = (0.5, 0.75)
    """Shares of all steps after which the rate drops (`step`)."""
    factor: Annotated[float, Gt(0), Lt(1)] = 0.1
    """Factor that multiplies the rate at each milestone (`step`)."""
    first_size: Annotated[float, Ge(0.25), Le(1)] | None = None
    """Progressive resizing: height and width of training images at the first step, as a share of the full size. 1
    trains at full size throughout. Default: 1, or what the recipe decides."""
    full_size_from: Annotated[float, Gt(0), Lt(1)] | None = None
    """Share of all steps after which images have their full size, where `first_size` is below 1. Default: 0.6."""


@dataclass(frozen=True)
class RegularizeConfig:
    """Fields of `regularize.*`: terms that are added to the loss. 0 turns each off."""

    l1: Annotated[float, Ge(0), Le(1e3)] = 0.0
    """Weight of the L1 penalty: the sum of the absolute values of kernels and matrices."""
    l2: Annotated[float, Ge(0), Le(1e3)] = 0.0
    """Weight of the L2 penalty: half the sum of squares of kernels and matrices. It acts through the gradient, unlike
    `optim.weight_decay`."""
    sparsity: Annotated[float, Ge(0), Le(1e3)] = 0.0
    """Weight of the sparsity penalty: the mean absolute output of each activation layer, and of the code of an
    autoencoder, so that few hidden units are active for an input. The share of inactive units is reported as
    `hidden_sparsity`."""
    kl: Annotated[float, Ge(0), Le(1e3)] = 0.0
    """Weight of the sparsity penalty of logistic units: the Kullback–Leibler divergence of `kl_target` from the mean
    activation of each unit over the samples that are computed at once, summed over units."""
    kl_target: Annotated[float, Gt(0), Lt(1)] = 0.05
    """The mean activation that `kl` holds logistic units to."""

    @property
    def penalizes_activations(self) -> bool:
        """Whether a penalty is on outputs of hidden units."""
        return self.sparsity > 0 or self.kl > 0


@dataclass(frozen=True)
class AuxiliaryConfig:
    """Fields of `auxiliary.*`: auxiliary heads, which exist during training only."""

    rotation: Annotated[float, Ge(0), Le(1e3)] = 0.0
    """Weight of the loss of a second head that predicts by how many quarter turns an image was rotated. 0 turns it
    off."""
    layers: tuple[str, ...] = ()
    """Names of inner layers that get an auxiliary classifier, as in GoogLeNet; for masks a 1 × 1 convolution whose
    output is enlarged to the size of the image."""
    weight: Annotated[float, Gt(0), Le(1e3)] = 0.3
    """Weight of the loss of each classifier of `layers`."""
    task: Annotated[float, Ge(0), Le(1e3)] = 1.0
    """Weight of the loss of the task itself beside `rotation`. 0: only rotation is learned, without any label; the run
    is then what another begins with (--weights)."""


@dataclass(frozen=True)
class FineTuneConfig:
    """Fields of `fine_tune.*`: training that begins with pretrained weights."""

    head_share: Annotated[float, Ge(0), Lt(1)] | None = None
    """Head warm-up: the share of all steps, at the beginning, in which only the head is trained. Default: the recipe
    decides."""
    layer_decay: Annotated[float, Gt(0), Le(1)] | None = None
    """Learning rate of each layer as a share of that of the layer after it; 1 gives all layers the same rate. Default:
    the recipe decides."""


@dataclass(frozen=True)
class BudgetConfig:
    """Fields of `budget.*`: how long to train."""

    epochs: Annotated[int, Ge(1), Le(1_000_000)] | None = None
    """Passes over the training data. Default: the recipe decides, or 10 minutes where its epochs would take over
    15."""
    minutes: Annotated[float, Gt(0), Le(525_600)] | None = None
    """Wall-clock minutes for the whole command, instead of epochs. The number of steps follows from the speed that is
    measured at the start, and changes where steps become slower or faster."""
    steps: Annotated[int, Ge(1)] | None = None
    """Optimizer steps in all, instead of epochs. Default: they follow from epochs or minutes."""
    steps_before: tuple[tuple[Annotated[int, Ge(1)], Annotated[int, Ge(1)]], ...] = ()
    """Recorded by the run: pairs of a number of steps and the `steps` that the schedule had until these were done,
    since the machine became slower or faster there. A resumed or repeated run takes the same path."""
    patience: Annotated[int, Ge(0), Le(1_000_000)] | None = None
    """Early stopping: stop when this many epochs in a row were worse on validation than the best one before; 0 trains
    to the end. `--keep` says which epoch is the result. Default: the recipe decides."""
    target: Annotated[float, Gt(0), Le(1e30)] | None = None
    """Stop after the first epoch whose validation metric reaches this value: accuracy or IoU as a fraction (0.94); for
    regression the RMSE, in the units of the target."""

    def of(self, steps: int | None) -> BudgetConfig:
        """The budget of a training with this number of steps and one schedule from its first to its last step."""
        return replace(self, steps=steps, steps_before=())


@dataclass(frozen=True)
class EvaluationConfig:
    """Fields of `evaluation.*`: how predictions are computed, in validation and in the final evaluation."""

    views: Literal["none", "mirror", "mirrors", "mirror-shift"] | None = None
    """Test-time augmentation: the prediction is the mean over the image alone (`none`), the image and its mirror image
    (`mirror`), these two and both upside down (`mirrors`), or six images: the image and its mirror image, each also
    shifted by a pixel either way along the diagonal (`mirror-shift`). Default: none, or what the recipe decides."""
    val_samples: Annotated[int, Ge(1)] | None = None
    """Number of validation samples, evenly spaced, that are evaluated after each epoch; in the end all are. Default:
    all, or what the recipe decides."""
    train_samples: Annotated[int, Ge(1)] | None = None
    """Number of training samples, evenly spaced, that are evaluated after training. Default: all, or what the recipe
    decides."""


@dataclass(frozen=True)
class ExecutionConfig:
    """Fields of `execution.*`: device, precision, threads. They are fixed at the start, so that a repeated run computes
    the same."""

    device: str | None = None
    """`cpu`, `cuda` or `cuda:1`. Default: a GPU where there is one."""
    plan: Literal["auto", "plain"] = "auto"
    """How to choose precision, memory format and threads where you leave them out: `auto` times them before a long run,
    checks each against fp32 and takes the fastest; `plain` takes fp32, contiguous and uncompiled."""
    threads: Annotated[int, Ge(1), Le(1024)] | None = None
    """CPU threads. Default: the plan decides."""
    precision: Literal["fp32", "tf32", "bf16", "fp16"] | None = None
    """Precision of the convolutions and matrix products of training steps; weights stay in fp32. `tf32` is fp32 with
    products rounded to 10 bits, `fp16` scales the loss; both need a GPU. Default: the plan decides."""
    memory_format: Literal["contiguous", "channels_last"] | None = None
    """Memory format of images and kernels. Default: the plan decides."""
    compile: Literal["off", "default", "cuda-graphs"] | None = None
    """Whether `torch.compile` compiles the training step; `cuda-graphs` also replays its kernels as one launch.
    Default: the plan decides."""
    allocator: Literal["keep", "system"] | None = None
    """`keep`: the process reuses freed memory (glibc) instead of returning it to the system at every step. Default:
    the plan decides."""
    micro_batch: Annotated[int, Ge(1), Le(1_000_000)] | None = None
    """Most samples computed at once; gradients of the parts of a batch are accumulated. Batch normalization then sees
    a part of the batch, and dropout draws other masks. A part with a single sample is merged into the one before
    it. Evaluation uses the same number. Default: whole batches."""
    micro_batch_from: tuple[tuple[Annotated[int, Ge(0)], Annotated[int, Ge(1)]], ...] = ()
    """Recorded by the run: pairs of a number of steps and the `micro_batch` that holds after them, since memory ran out
    there. A resumed or repeated run takes the same path."""
    evaluation_batch: Annotated[int, Ge(1), Le(1_000_000)] | None = None
    """Most samples evaluated at once. Default: micro_batch, or two batches."""
    deterministic: bool = False
    """Use deterministic algorithms only, raise an error where PyTorch has none, and base no decision on timings: the
    same command gives the same bits on the same machine, in one process or several (`batch_parts`)."""
    batch_parts: Annotated[int, Ge(1), Le(1024)] | None = None
    """With `deterministic`: the number of parts in which each batch is computed. Their gradients are added up in a
    fixed order, which gives the same bits in any number of processes up to it. Batch normalization sees a part of the
    batch, and dropout draws other masks. 1: whole batches, and the same bits for one number of processes. Default:
    4."""
    processes: Annotated[int, Ge(1), Le(100_000)] | None = None
    """Recorded by the run: the number of processes that trained together, as torchrun started them."""
    fsdp: bool = False
    """Shard the network over the processes that torchrun started, where it does not fit into the memory of each."""


@dataclass(frozen=True)
class Config:
    """Everything that decides a run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    regularize: RegularizeConfig = field(default_factory=RegularizeConfig)
    auxiliary: AuxiliaryConfig = field(default_factory=AuxiliaryConfig)
    fine_tune: FineTuneConfig = field(default_factory=FineTuneConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    recipe: Literal["quick", "standard", "speedrun", "fine-tune", "planner"] | None = None
    """The preset for every field that you leave out. `standard`; `quick`: a quarter of the epochs; `speedrun`: the best
    network in little time (with --minutes); `fine-tune`: for pretrained weights; `planner`: for an environment, a
    search that looks ahead teaches the network. Default: `fine-tune` with --weights, `speedrun` for few photographs
    without --model, `standard` for all else."""
    batch: Annotated[int, Ge(1), Le(1_000_000)] | None = None
    """Samples in one optimizer step. Default: the recipe decides."""
    keep: Literal["best", "last"] | None = None
    """Which epoch's weights are the result: the best epoch on validation, or the last one. Default: best with at least
    200 validation samples, otherwise last."""
    baseline: bool = False
    """Also fit baselines on the same splits: majority class, logistic regression, HOG and SVM. See
    `striate baseline`."""
    compare_single: bool = False
    """Several targets: also train each alone with as many steps, and say whether sharing a network helps it."""
    cv: str | None = None
    """`FOLDSxREPEATS` of cross-validation, such as 5x5, instead of one training: mean and standard deviation of the
    metrics over held-out folds. No network is saved. `null` turns it off on top of --config."""
    seed: Annotated[int, Ge(0), Le(2**32 - 1)] = 0
    """Random seed: initialization, order of samples, augmentation and dropout follow from it."""
    save_seconds: Annotated[float, Gt(0), Le(86_400)] = 2.0
    """Seconds between two checkpoints. A checkpoint is also saved at the end of an epoch that is longer than 2 s; they
    are rarer where saving would take over 1 % of the time."""
    code: tuple[tuple[str, str], ...] = ()
    """Recorded by the run: pairs of a `file.py:name` that a field names and the SHA-256 of its file. A run goes on only
    with the same code."""
    decided: tuple[str, ...] = ()
    """Recorded by the run: the names of the fields that the recipe or the data decided. They are decided anew when what
    they follow from is replaced."""
