"""Face detection by UltraFace: photographs to calibrate int8 on, and whether the boxes are kept.

`python faces.py prepare` writes crops.npz (to calibrate) and faces.npz (to judge).
`python faces.py check A.onnx B.onnx` compares the boxes of two files on faces.npz.
"""

import sys
from collections.abc import Iterator
from importlib.metadata import files

import numpy as np
import onnxruntime
from PIL import Image
from sklearn.datasets import load_sample_images

SIZE = (320, 240)
"""Width and height of the network's input."""
SCORE, OVERLAP, IOU = 0.7, 0.3, 0.8
"""What counts as a face; from which IoU two boxes show the same face; the IoU a kept box must have."""


def prepared(photograph: Image.Image) -> np.ndarray:
    """(3, 240, 320) as the network was trained: RGB, (value - 127) / 128."""
    pixels = np.asarray(photograph.convert("RGB").resize(SIZE), np.float32)
    return ((pixels - 127) / 128).transpose(2, 0, 1)


def crops(photograph: Image.Image, count: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Random parts in the input's proportions, a half to the whole of the photograph's height."""
    for _ in range(count):
        height = generator.integers(photograph.height // 2, photograph.height + 1)
        width = min(height * SIZE[0] // SIZE[1], photograph.width)
        left = generator.integers(photograph.width - width + 1)
        top = generator.integers(photograph.height - height + 1)
        yield prepared(photograph.crop((left, top, left + width, top + height)))


def prepare() -> None:
    """Calibrates on two photographs; judges on crops of a third that calibration does not see."""
    generator = np.random.default_rng(0)
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    calibrating = [crop for photograph in photographs for crop in crops(photograph, 32, generator)]
    np.savez("crops.npz", input=np.stack(calibrating))
    (face,) = (file for file in files("scikit-image") if file.name == "astronaut.png")
    astronaut = Image.open(str(face.locate()))
    np.savez("faces.npz", input=np.stack(list(crops(astronaut, 32, generator))))


def priors() -> np.ndarray:
    """(4420, 4) of centre x, y, width, height: where each place of the network looks."""
    rows = [
        ((column + 0.5) * stride / 320, (row + 0.5) * stride / 240, side / 320, side / 240)
        for stride, sides in ((8, (10, 16, 24)), (16, (32, 48)), (32, (64, 96)), (64, (128, 192, 256)))
        for row in range(-(-240 // stride))
        for column in range(320 // stride)
        for side in sides
    ]
    return np.array(rows).clip(0, 1)


def decoded(offsets: np.ndarray) -> np.ndarray:
    """Boxes (left, top, right, bottom) from the network's offsets, as its authors decode them."""
    places = priors()
    centre = offsets[:, :2] * 0.1 * places[:, 2:] + places[:, :2]
    half = np.exp(offsets[:, 2:] * 0.2) * places[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def faces(session: onnxruntime.InferenceSession, image: np.ndarray) -> list[np.ndarray]:
    """Boxes (left, top, right, bottom) with a score over 0.7, the best first, one for each face."""
    scores, offsets = session.run(["scores", "boxes"], {"input": image[None]})
    boxes = decoded(offsets[0])
    ranked = sorted(np.flatnonzero(scores[0, :, 1] > SCORE), key=lambda place: -scores[0, place, 1])
    kept: list[np.ndarray] = []
    for place in ranked:
        if all(iou(boxes[place], other) < OVERLAP for other in kept):
            kept.append(boxes[place])
    return kept


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = sides.clip(0).prod()
    return float(shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared))


def check(before: str, after: str) -> int:
    """Prints how the faces of `before` fare in `after`; 0 if each is kept with IoU 0.8 and none is new."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    first, second = (onnxruntime.InferenceSession(file, options) for file in (before, after))
    overlaps, new = [], 0
    for image in np.load("faces.npz")["input"]:
        old, now = faces(first, image), faces(second, image)
        overlaps += [max((iou(box, other) for other in now), default=0.0) for box in old]
        new += sum(all(iou(box, other) < OVERLAP for other in old) for box in now)
    kept = sum(overlap >= IOU for overlap in overlaps)
    print(f"{kept} of {len(overlaps)} faces kept with IoU {IOU}: least {min(overlaps):.3f}, new {new}")
    return int(kept < len(overlaps) or new > 0)


if __name__ == "__main__":
    sys.exit(prepare() if sys.argv[1] == "prepare" else check(*sys.argv[2:]))
