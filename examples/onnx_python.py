"""Restyle a picture without PyTorch: python onnx_python.py solver.onnx photo.jpg painting.jpg out.png"""

import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model, photo, painting, output = sys.argv[1:]
content, style = (ImageOps.exif_transpose(Image.open(path)).convert("RGB") for path in (photo, painting))
style = ImageOps.contain(style, (max(content.size),) * 2)  # strokes are as large as this is beside the photograph
content, style = (np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255 for image in (content, style))
(image,) = onnxruntime.InferenceSession(model).run(["image"], {"content": content, "style": style})
Image.fromarray((255 * image[0]).round().astype(np.uint8).transpose(1, 2, 0)).save(output)
