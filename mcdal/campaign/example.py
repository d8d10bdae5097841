"""Classifies an image with the model in this folder: python example.py IMAGE

Needs torch and pillow for model.pt2 or model.ts, onnxruntime and pillow for model.onnx, and mcdal for model.safetensors alone.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).parent
FILES = ("model.pt2", "model.ts", "model.onnx", "model.safetensors")


def read(path: Path, channels: int, size: int) -> np.ndarray:
    """Pixels of 0 to 255, (1, channels, size, size), as the model saw them in training."""
    with Image.open(path) as opened:
        opened.draft(None, (2 * size, 2 * size))  # a JPEG decodes at a fraction of its size, not below twice the side
        opened.load()
        image = plain(ImageOps.exif_transpose(opened))
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    if image.size != (size, size):
        box = (left, top, left + side, top + side)
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    if channels == 1 and image.mode != "L":
        image = image.convert("L")
    pixels = np.asarray(image if channels == 1 else image.convert("RGB"))
    return pixels.reshape(size, size, channels).transpose(2, 0, 1)[None].copy()


def plain(image: Image.Image) -> Image.Image:
    """Grey or RGB. What is neither was set aside in training: transparency goes over white, other modes are converted."""
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    if image.mode in ("F", "I") or image.mode.startswith("I;"):
        raise SystemExit(f"more than 8 bits a channel (mode {image.mode}): convert the image first")
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        layered = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layered.size, (255, 255, 255, 255)), layered).convert("RGB")
    return image.convert("RGB")


def probabilities(x: np.ndarray) -> np.ndarray:
    """(classes,) of the first of these images, by the first of FILES that is here."""
    path = next(HERE / name for name in FILES if (HERE / name).exists())
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        found: np.ndarray = session.run(None, {"image": x})[0][0]
        return found
    import torch

    with torch.inference_mode():
        of_torch: np.ndarray = loaded(path)(torch.from_numpy(x))[0].numpy()
        return of_torch


def loaded(path: Path) -> Any:
    import torch

    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    if path.suffix == ".ts":
        return torch.jit.load(path)  # type: ignore[no-untyped-call]
    from mcdal.campaign.model import load_classifier

    return load_classifier(HERE)


def main() -> None:
    parser = argparse.ArgumentParser(description="Classify an image.")
    parser.add_argument("image", type=Path)
    told = json.loads((HERE / "model.json").read_text(encoding="utf-8"))
    channels, size, _ = told["input"]["shape"]
    path = parser.parse_args().image
    try:
        x = read(path, channels, size)
    except OSError as error:
        raise SystemExit(f"{path} cannot be read: {error}") from error
    p = probabilities(x)
    for number in np.argsort(-p, kind="stable"):
        print(f"{p[number]:.6f} {told['classes'][number]}")  # noqa: T201


if __name__ == "__main__":
    main()
