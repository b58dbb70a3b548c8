"""What an augmentation does, in words."""

from __future__ import annotations

from striate.data.config import AugmentConfig

_FILLS = {"edge": "", "reflect": "mirror images beyond the edge", "zero": "black beyond the edge"}


def describe_augmentation(config: AugmentConfig, channels: int) -> tuple[str, ...]:
    """A few words for each option that is on, in the order in which they are applied; `channels` of the images."""
    looks = "brightness, contrast, saturation and hue" if channels == 3 else "brightness and contrast"
    words = {
        "policy": "one operation of TrivialAugment each" if config.policy == "trivial" else "",
        "crop": f"crops down to {config.crop or 1:.0%} of the area" if (config.crop or 1) < 1 else "",
        "flip": "mirroring in every other epoch" if config.flip == "alternate" else "mirroring",
        "vertical_flip": "mirroring upside down",
        "shear": f"slants up to {config.shear or 0:g}°",
        "scale": f"sizes ± {config.scale or 0:.0%}",
        "rotate": f"rotations up to {config.rotate or 0:g}°",
        "shift": f"shifts up to {config.shift or 0} px",
        "fill": _FILLS[config.fill or "edge"],
        "color": f"{looks} ± {config.color or 0:.0%}",
        "blur": f"blur up to {config.blur or 0:g} px",
        "cutout": f"a square of {config.cutout or 0:.0%} of the side blanked",
        "noise": f"noise up to {config.noise or 0:g} of the spread",
        "mixup": "pairs blended (mixup)",
        "cutmix": "boxes pasted from other images (cutmix)",
    }
    return tuple(text for name, text in words.items() if text and getattr(config, name))
