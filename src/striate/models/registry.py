"""The zoo as a table: what there is, without loading any of it; free of torch.

A new family is one file in `zoo/` and its entries here. Its function is called as
`function(input_shape, outputs, **arguments)` with every parameter of the entry.
"""

from __future__ import annotations

from dataclasses import dataclass

from striate.errors import ModelError
from striate.models.arguments import nearest
from striate.models.words import MAX_NUMBER, Parameter, show_signature


@dataclass(frozen=True)
class ModelInfo:
    """One network of the zoo.

    `path` is `module:function`; `input_shape` and `outputs` are those of the published form, and
    `published_parameters` the trainable parameters it then has.
    """

    name: str
    path: str
    year: int
    description: str
    source: str
    input_shape: tuple[int, ...]
    outputs: int
    published_parameters: int
    parameters: tuple[Parameter, ...] = ()
    dense: bool = False

    @property
    def signature(self) -> str:
        """How it is written with all its arguments: `small-resnet(width=32, blocks=2)`."""
        return show_signature(self.name, self.parameters)


_ACTIVATIONS = ("relu", "leaky", "prelu", "elu", "sigmoid", "tanh", "swish")
_ZOO = "striate.models.zoo."


def _width(default: int) -> Parameter:
    return Parameter("width", "count", default, low=1, high=4096)


MODELS: dict[str, ModelInfo] = {
    info.name: info
    for info in (
        ModelInfo(
            name="perceptron",
            path=_ZOO + "perceptron:perceptron",
            year=1958,
            description="one linear layer, the baseline that anything else has to beat",
            source="Rosenblatt, The perceptron, Psychological Review 65",
            input_shape=(1, 28, 28),
            outputs=10,
            published_parameters=7_850,
        ),
        ModelInfo(
            name="mlp",
            path=_ZOO + "mlp:mlp",
            year=1986,
            description="fully connected layers of the given sizes; for tables",
            source="Rumelhart et al., Learning representations by back-propagating errors, Nature 323",
            input_shape=(1, 28, 28),
            outputs=10,
            published_parameters=109_386,
            parameters=(
                Parameter("sizes", "count", low=1, high=MAX_NUMBER, many=True),
                Parameter("activation", "choice", "relu", choices=_ACTIVATIONS),
                Parameter("dropout", "number", 0.0, high=0.999),
            ),
        ),
        ModelInfo(
            name="lenet5",
            path=_ZOO + "lenet:lenet5",
            year=1998,
            description="the first convolutional network in wide use, in its common modern form",
            source="LeCun et al., Gradient-based learning applied to document recognition, Proc. IEEE 86",
            input_shape=(1, 28, 28),
            outputs=10,
            published_parameters=61_706,
        ),
        ModelInfo(
            name="mnist-cnn",
            path=_ZOO + "mnist_cnn:mnist_cnn",
            year=2012,
            description="two convolutions and a hidden layer with dropout; for small gray images",
            source="the network of the lectures, 16c5-p2-24c5-p2-64-10; dropout: Hinton et al., arXiv:1207.0580",
            input_shape=(1, 28, 28),
            outputs=10,
            published_parameters=35_330,
        ),
        ModelInfo(
            name="small-cnn",
            path=_ZOO + "small_cnn:small_cnn",
            year=2015,
            description="convolutions with batch normalization, as deep as the input allows; 1-D, 2-D and 3-D grids",
            source="Ioffe and Szegedy, Batch normalization, ICML 2015",
            input_shape=(1, 8, 8),
            outputs=10,
            published_parameters=72_666,
            parameters=(_width(16),),
        ),
        ModelInfo(
            name="small-resnet",
            path=_ZOO + "small_resnet:small_resnet",
            year=2016,
            description="a small residual network for photographs and CIFAR-sized images, trained from scratch",
            source="He et al., Deep residual learning for image recognition, CVPR 2016",
            input_shape=(3, 32, 32),
            outputs=10,
            published_parameters=696_618,
            parameters=(_width(32), Parameter("blocks", "count", 2, low=1, high=50)),
        ),
        ModelInfo(
            name="small-unet",
            path=_ZOO + "small_unet:small_unet",
            year=2015,
            description="encoder and decoder with skip connections for masks; sizes divisible by 4",
            source="Ronneberger et al., U-Net, MICCAI 2015",
            input_shape=(3, 64, 64),
            outputs=2,
            published_parameters=117_378,
            parameters=(_width(16),),
            dense=True,
        ),
        ModelInfo(
            name="small-dilated",
            path=_ZOO + "small_dilated:small_dilated",
            year=2016,
            description="dilated convolutions at full resolution for masks of any size",
            source="Yu and Koltun, Multi-scale context aggregation by dilated convolutions, ICLR 2016",
            input_shape=(3, 64, 64),
            outputs=2,
            published_parameters=47_394,
            parameters=(_width(32),),
            dense=True,
        ),
    )
}


def describe_model(name: str | None = None) -> list[ModelInfo]:
    """The entry of one zoo model, or all of them by year and name.

    Raises ModelError, with the nearest name, where there is no such model.
    """
    if name is None:
        return sorted(MODELS.values(), key=lambda info: (info.year, info.name))
    if name in MODELS:
        return [MODELS[name]]
    close = nearest(name, MODELS)
    remedy = f"write {close}" if close else "choose one of these"
    raise ModelError("model", f"no zoo model `{name[:80]}`", ", ".join(MODELS), remedy)
