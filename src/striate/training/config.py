"""A run as one value: the complete frozen tree that is saved as config.yaml, free of torch.

`None` in a field means "not decided yet"; a recipe (`recipes/`) decides it before training starts, so that the
saved file has no such field left except those that stay unused by choice.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt, Predicate

from striate.data.config import AugmentConfig, DataConfig
from striate.models.config import ModelConfig
from striate.models.own_code import names_code
from striate.tasks.config import TaskConfig

Code = Annotated[str, Predicate(names_code)]
"""`file.py:name`, or the name of what was given in Python."""


@dataclass(frozen=True)
class OptimizerConfig:
    """Fields of `optim.*`."""

    name: Literal["sgd", "adamw", "muon", "lamb", "lars", "own-rule"] | Code | None = None
    """`own-rule`: no gradient, but the learning rule of the network itself. Or `file.py:name`, which runs that code: a
    function of the parameters that gives their torch.optim.Optimizer."""
    lr: Annotated[float, Gt(0), Le(1e30)] | None = None
    """Peak learning rate; the schedule scales it. None takes what the recipe decides, or what an optimizer of your own
    has."""
    weight_decay: Annotated[float, Ge(0), Le(1e6)] | None = None
    """Decay of weights (never of biases and normalization parameters)."""
    momentum: Annotated[float, Ge(0), Lt(1)] | None = None
    """Momentum of `sgd`, `muon` and `lars`. None takes 0.9, or what the recipe decides."""
    nesterov: bool = True
    """Nesterov's form of the momentum of `sgd`, `muon` and `lars`."""
    betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.9, 0.999)
    """Decay of the running moments of `adamw`, `lamb`, and of the AdamW part of `muon`."""
    fixed_norm: bool | None = None
    """Whether `muon` turns each kernel, by an angle of about the rate, and keeps its norm: for networks that normalize
    what comes out of it. None is false, or what the recipe decides."""
    other_lr: Annotated[float, Gt(0), Le(1e30)] | None = None
    """Peak rate of what `muon` leaves to AdamW: biases, normalizations, the output layer. None takes `lr`."""
    clip: Annotated[float, Ge(0), Le(1e6)] = 0.0
    """Largest L2 norm of the whole gradient; a longer one is scaled down to it. 0 turns it off."""
    ema: Annotated[float, Ge(0), Lt(1)] | None = None
    """Decay of the exponential moving average of the weights, which is then what answers; 0 turns it off."""


@dataclass(frozen=True)
class ScheduleConfig:
    """Fields of `schedule.*`: the learning rate over the run, as a share of `optim.lr`, and the size of the images."""

    name: Literal["one-cycle", "cosine", "triangle", "step", "constant"] | None = None
    """None takes `one-cycle`, or what the network's own learning rule is made for."""
    warmup: Annotated[float, Ge(0), Lt(1)] | None = None
    """Share of all steps in which the rate rises from a 25th to its peak (`one-cycle`, `cosine`, `triangle`). None
    takes 0.2, or what the recipe decides."""
    final: Annotated[float, Ge(0), Le(1)] = 0.001
    """Share of the peak that is left at the end (`one-cycle`, `cosine`, `triangle`)."""
    milestones: tuple[Annotated[float, Gt(0), Lt(1)], ...] = (0.5, 0.75)
    """Shares of all steps after which the rate drops (`step`)."""
    factor: Annotated[float, Gt(0), Lt(1)] = 0.1
    """What the rate is multiplied with at each milestone (`step`)."""
    first_size: Annotated[float, Ge(0.25), Le(1)] | None = None
    """Height and width of training images at the first step, as a share of the full ones, to which they grow; 1 trains
    at full size throughout. None takes 1, or what the recipe decides."""
    full_size_from: Annotated[float, Gt(0), Lt(1)] | None = None
    """Share of all steps after which images have their full size, where `first_size` is below 1; None takes 0.6."""


@dataclass(frozen=True)
class RegularizeConfig:
    """Fields of `regularize.*`: terms that are added to the loss. 0 turns each off."""

    l1: Annotated[float, Ge(0), Le(1e3)] = 0.0
    """Times the sum of the absolute values of kernels and matrices."""
    l2: Annotated[float, Ge(0), Le(1e3)] = 0.0
    """Times half the sum of their squares: decay through the gradient, unlike `optim.weight_decay`."""
    sparsity: Annotated[float, Ge(0), Le(1e3)] = 0.0
    """Times the mean absolute output of each layer of hidden units (activation modules), so that few of them answer to
    an input; the share of silent ones is measured as `hidden_sparsity`."""


@dataclass(frozen=True)
class AuxiliaryConfig:
    """Fields of `auxiliary.*`: further heads, which exist while training only."""

    rotation: Annotated[float, Ge(0), Le(1e3)] = 0.0
    """Weight of the loss of a second head, which tells by how many quarter turns an image was turned; 0 leaves it
    out."""
    layers: tuple[str, ...] = ()
    """Names of inner layers that get a classifier of their own, as in GoogLeNet; of masks a 1 × 1 convolution, enlarged
    to the size of the image."""
    weight: Annotated[float, Gt(0), Le(1e3)] = 0.3
    """Weight of the loss of each classifier of `layers`."""


@dataclass(frozen=True)
class FineTuneConfig:
    """Fields of `fine_tune.*`: how a network with weights of its own goes on learning."""

    head_share: Annotated[float, Ge(0), Lt(1)] | None = None
    """Share of all steps, at the beginning, in which only the head learns."""
    layer_decay: Annotated[float, Gt(0), Le(1)] | None = None
    """Learning rate of each layer as a share of that of the layer after it; 1 gives all the same."""


@dataclass(frozen=True)
class BudgetConfig:
    """Fields of `budget.*`: how long to train."""

    epochs: Annotated[int, Ge(1), Le(1_000_000)] | None = None
    minutes: Annotated[float, Gt(0), Le(525_600)] | None = None
    """Wall-clock minutes; `steps` follows from the speed measured at the start, and from what steps take then."""
    steps: Annotated[int, Ge(1)] | None = None
    """What was decided: optimizer steps in all."""
    steps_before: tuple[tuple[Annotated[int, Ge(1)], Annotated[int, Ge(1)]], ...] = ()
    """What was decided: pairs of a number of steps and the `steps` that the schedule had until these were done, since
    the machine became slower or faster there. A run that goes on or is repeated takes the same path."""
    patience: Annotated[int, Ge(0), Le(1_000_000)] | None = None
    """Stop when so many epochs in a row were worse on validation than one before; 0 trains to the end. `keep` says
    which epoch is then the result."""
    target: Annotated[float, Gt(0), Le(1e30)] | None = None
    """Stop after the first epoch whose validation reaches it: accuracy or IoU as a share (0.94), for numbers the RMSE
    in their units."""

    def of(self, steps: int | None) -> BudgetConfig:
        """Of another training, which has so many steps and one schedule from its first to its last."""
        return replace(self, steps=steps, steps_before=())


@dataclass(frozen=True)
class EvaluationConfig:
    """Fields of `evaluation.*`: how the network answers, in validation and for good."""

    views: Literal["none", "mirror", "mirror-shift"] | None = None
    """Of how many views of an image the answer is the mean: of itself (`none`), also mirrored (`mirror`), or of six:
    both, and both shifted by a pixel either way along the diagonal (`mirror-shift`). None takes `none`, or what the
    recipe decides."""
    train_samples: Annotated[int, Ge(1)] | None = None
    """How many training samples are measured once training is over, evenly spaced over them. None measures all, or what
    the recipe decides."""


@dataclass(frozen=True)
class ExecutionConfig:
    """Fields of `execution.*`: how it is computed, frozen at the start so that a repeat takes the same path."""

    device: str | None = None
    """`cpu`, `cuda` or `cuda:1`; None takes a GPU where there is one."""
    plan: Literal["auto", "plain"] = "auto"
    """Whether the fields below that are None are decided by measuring (`auto`), or are fp32, contiguous and uncompiled
    (`plain`)."""
    threads: Annotated[int, Ge(1), Le(1024)] | None = None
    precision: Literal["fp32", "tf32", "bf16", "fp16"] | None = None
    """In what the convolutions and matrix products of training steps are computed; weights are kept in fp32. `tf32` is
    fp32 with products rounded to 10 bits, `fp16` scales the loss; both need a GPU."""
    memory_format: Literal["contiguous", "channels_last"] | None = None
    compile: Literal["off", "default", "cuda-graphs"] | None = None
    """Whether `torch.compile` turns the training step into kernels of its own first; `cuda-graphs` also replays them
    as one launch."""
    allocator: Literal["keep", "system"] | None = None
    """`keep`: freed memory stays with the process (glibc) instead of going back to the system at every step."""
    micro_batch: Annotated[int, Ge(1), Le(1_000_000)] | None = None
    """Most samples computed at once: gradients of the parts of a batch are added up to those of the whole, but for
    batch normalization, which sees a part, and dropout, whose masks are others. A lone last sample joins the part
    before it. Evaluation takes as many at once. None computes whole batches."""
    micro_batch_from: tuple[tuple[Annotated[int, Ge(0)], Annotated[int, Ge(1)]], ...] = ()
    """What was decided: pairs of a number of steps and the `micro_batch` that holds after them, since memory ran out
    there. A run that goes on or is repeated takes the same path."""
    evaluation_batch: Annotated[int, Ge(1), Le(1_000_000)] | None = None
    """Most samples measured at once. None takes `micro_batch`, or two batches."""
    deterministic: bool = False
    """Whether operations without a deterministic form are refused."""
    processes: Annotated[int, Ge(1), Le(100_000)] | None = None
    """What was decided: how many processes computed it together, as torchrun started them. None is one."""
    fsdp: bool = False
    """Whether the network is spread over the processes (`--fsdp`): for one too large for the memory of each."""


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
    recipe: Literal["quick", "standard", "speedrun", "fine-tune"] = "standard"
    batch: Annotated[int, Ge(1), Le(1_000_000)] | None = None
    """Samples in one optimizer step."""
    keep: Literal["best", "last"] | None = None
    """Which epoch's network is the result: the best on validation, or the last."""
    baseline: bool = False
    """Also fit what a network has to beat, on the same splits: majority class, logistic regression, HOG and SVM."""
    cv: str | None = None
    """`FOLDSxREPEATS` of cross-validation, as `5x5`; None trains once on the given or made splits."""
    seed: Annotated[int, Ge(0), Le(2**32 - 1)] = 0
    """Initialization, order of samples, augmentation and dropout all follow from it."""
    save_seconds: Annotated[float, Gt(0), Le(86_400)] = 2.0
    """Seconds between two checkpoints; also at the ends of epochs longer than 2 s; more where saving would take over
    1 % of the time."""
    code: tuple[tuple[str, str], ...] = ()
    """What was decided: pairs of a `file.py:name` that a field names and the SHA-256 of its file. A run goes on only
    with the same code."""
    decided: tuple[str, ...] = ()
    """Which fields the recipe or the data decided: open again when what they follow from is replaced."""
