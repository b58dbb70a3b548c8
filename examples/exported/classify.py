"""Classify pictures with an exported network, by onnxruntime, NumPy and Pillow alone.

python classify.py net.onnx photo.jpg …
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def read(name: str, mode: str) -> np.ndarray:
    """The bytes of a picture as striate reads them: upright, over white where it is transparent, 16 bits as 8."""
    image = ImageOps.exif_transpose(Image.open(name))
    if image.mode[0] in "IF":  # gray of more than 8 bits
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            sys.exit(f"{name}: values of {values.min()} to {values.max()}, which are not those of 16 bits")
        image = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB").convert(mode))


session = onnxruntime.InferenceSession(sys.argv[1])
facts = session.get_modelmeta().custom_metadata_map
classes = json.loads(facts["classes"])
mode = "L" if session.get_inputs()[0].shape[3] == 1 else "RGB"
for name in sys.argv[2:]:
    pixels = read(name, mode)
    image = pixels.reshape(1, *pixels.shape[:2], -1)  # (N, H, W, C) bytes of any size: all else is in the file
    (probabilities,) = session.run(["probabilities"], {"image": image})
    best = probabilities[0].argmax()
    print(f"{name} {classes[best]} {probabilities[0][best]:.6f}")
