"""Classify pictures with an exported network, by onnxruntime, NumPy and Pillow alone.

python classify.py net.onnx photo.jpg …
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1])
facts = session.get_modelmeta().custom_metadata_map
classes = json.loads(facts["classes"])
mode = "L" if session.get_inputs()[0].shape[3] == 1 else "RGB"
for name in sys.argv[2:]:
    pixels = np.asarray(Image.open(name).convert(mode))
    image = pixels.reshape(1, *pixels.shape[:2], -1)  # (N, H, W, C) bytes of any size: all else is in the file
    (probabilities,) = session.run(["probabilities"], {"image": image})
    best = probabilities[0].argmax()
    print(f"{name} {classes[best]} {probabilities[0][best]:.6f}")
