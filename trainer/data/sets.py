"""Ready sets: the usual list of transforms for some kinds of images, by one name. Each can be followed by more transforms.

The constants are the means and standard deviations of each channel over the training images, in [0, 1]: CIFAR-10's and MNIST's as
most published recipes have them, ImageNet's as torchvision's pretrained weights expect them.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainer.data.transforms import TransformList, torchvision_v2

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MNIST_MEAN, MNIST_STD = (0.1307,), (0.3081,)


class CifarTrain(TransformList):
    """``cifar_train``: a random crop of the padded image, a mirror image half of the time, Normalize (He et al. 2016, section 4.2).

    Args:
        size: height and width of the crop.
        padding: black pixels added on each side before it.
        mean: of each channel.
        std: of each channel.
    """

    def __init__(self, size: int = 32, padding: int = 4, mean: Sequence[float] = CIFAR_MEAN, std: Sequence[float] = CIFAR_STD) -> None:
        v2 = torchvision_v2()
        super().__init__([v2.RandomCrop(size, padding=padding), v2.RandomHorizontalFlip(), v2.Normalize(mean, std)])


class CifarEval(TransformList):
    """``cifar_eval``: Normalize.

    Args:
        mean: of each channel.
        std: of each channel.
    """

    def __init__(self, mean: Sequence[float] = CIFAR_MEAN, std: Sequence[float] = CIFAR_STD) -> None:
        super().__init__([torchvision_v2().Normalize(mean, std)])


class ImagenetTrain(TransformList):
    """``imagenet_train``: a random part of the image at a fixed size, a mirror image half of the time, Normalize.

    From Szegedy et al. 2015 (Inception): the part has 8 … 100 % of the area.

    Args:
        size: height and width of what comes out.
        scale: least and greatest share of the area.
        mean: of each channel.
        std: of each channel.
    """

    def __init__(
        self,
        size: int = 224,
        scale: tuple[float, float] = (0.08, 1.0),
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        v2 = torchvision_v2()
        crop = v2.RandomResizedCrop(size, scale=tuple(scale), antialias=True)
        super().__init__([crop, v2.RandomHorizontalFlip(), v2.Normalize(mean, std)])


class ImagenetEval(TransformList):
    """``imagenet_eval``: the shorter side to `resize`, the middle of it, Normalize (Krizhevsky et al. 2012; torchvision's presets).

    Args:
        size: height and width of what comes out.
        resize: length of the shorter side before.
        mean: of each channel.
        std: of each channel.
    """

    def __init__(
        self, size: int = 224, resize: int = 256, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
    ) -> None:
        v2 = torchvision_v2()
        super().__init__([v2.Resize(resize, antialias=True), v2.CenterCrop(size), v2.Normalize(mean, std)])


class MnistTrain(TransformList):
    """``mnist_train``: a random crop of the padded digit, Normalize. No mirror images: a digit's is none.

    Args:
        size: height and width of the crop.
        padding: black pixels added on each side before it.
        mean: of the one channel.
        std: of the one channel.
    """

    def __init__(self, size: int = 28, padding: int = 2, mean: Sequence[float] = MNIST_MEAN, std: Sequence[float] = MNIST_STD) -> None:
        v2 = torchvision_v2()
        super().__init__([v2.RandomCrop(size, padding=padding), v2.Normalize(mean, std)])


class MnistEval(TransformList):
    """``mnist_eval``: Normalize.

    Args:
        mean: of the one channel.
        std: of the one channel.
    """

    def __init__(self, mean: Sequence[float] = MNIST_MEAN, std: Sequence[float] = MNIST_STD) -> None:
        super().__init__([torchvision_v2().Normalize(mean, std)])
