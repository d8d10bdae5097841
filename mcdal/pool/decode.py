"""One encoded image to pixels, or the reason why not. Nothing is decoded before its header has been found harmless."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

Encoded: TypeAlias = bytes | Path | None
"""An image's bytes or file; None where a table has no value."""

BadImages: TypeAlias = Literal["refuse", "quarantine", "convert"]

MAX_PIXELS = 178_956_970
"""Pillow's own limit, beyond which it takes an image for a decompression bomb."""

# Nothing that starts another program (EPS) or is no photograph (ICO, PSD, ...).
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
EXTENSIONS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .ppm .pgm .pbm .pnm".split()  # noqa: SIM905
)
SMALLEST = 2


@dataclass(frozen=True)
class Decoded:
    """pixels: 0 to 255, one channel for grey. conversion: why an image had to be made plain L or RGB.

    full: height and width before it was scaled; None where a JPEG was decoded at a fraction of them.
    """

    pixels: UInt8[np.ndarray, "h w c"]
    conversion: str | None = None
    full: tuple[int, int] | None = None


@dataclass(frozen=True)
class Bad:
    """Why an image cannot be used as it is, and whether there is a defined conversion."""

    reason: str
    convertible: bool = False


class _UnusableError(Exception):
    """Carries a Bad out of the steps of decoding."""

    def __init__(self, reason: str, convertible: bool = False):
        super().__init__(reason)
        self.bad = Bad(reason, convertible)


@dataclass(frozen=True)
class Decoder:
    """How images are decoded: `size` (None keeps it), whether odd kinds are converted, the most pixels allowed.

    size: a side, which the shorter one is scaled to before the centre is cropped; or height and width, which the whole image
    is scaled to.
    """

    size: int | tuple[int, int] | None = None
    convert: bool = False
    max_pixels: int = MAX_PIXELS

    def decode(self, encoded: Encoded) -> Decoded | Bad:
        """The image, its EXIF orientation applied, at `size`."""
        try:
            if encoded is None or not (encoded if isinstance(encoded, bytes) else encoded.stat().st_size):
                return Bad("empty: zero bytes")
            with Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded, formats=FORMATS) as image:
                return self._decode(image)
        except _UnusableError as found:
            return found.bad
        except UnidentifiedImageError:
            return Bad("not an image, or of a kind that is not read (known: " + ", ".join(FORMATS) + ")")
        except Image.DecompressionBombError:
            return Bad(f"gigantic: more than {MAX_PIXELS:,} pixels")
        except Exception as error:  # Pillow's plugins raise nearly anything on broken files
            return Bad(f"cannot be decoded: {str(error) or type(error).__name__}")

    def _decode(self, image: Image.Image) -> Decoded:
        if image.width * image.height > self.max_pixels:
            raise _UnusableError(f"gigantic: {image.width}x{image.height}, more than {self.max_pixels:,} pixels")
        if min(image.size) < SMALLEST:
            raise _UnusableError(f"only {image.width}x{image.height} pixels")
        oddity = odd(image)
        if oddity and not self.convert:
            raise _UnusableError(oddity, convertible=image.mode != "F")
        if isinstance(self.size, int):
            # Lets JPEG decode at a fraction of its size; twice the target is left for the filter.
            image.draft(None, (2 * self.size, 2 * self.size))
        image.load()
        plain = to_plain(image) if oddity else image
        if plain.mode not in ("L", "RGB"):
            raise _UnusableError(oddity or f"mode {plain.mode}")
        turned = upright(plain)
        pixels = np.asarray(self._resized(turned))
        full = None if isinstance(self.size, int) else (turned.height, turned.width)
        return Decoded(pixels if pixels.ndim == 3 else pixels[..., None], oddity, full)

    def _resized(self, image: Image.Image) -> Image.Image:
        if isinstance(self.size, tuple):
            height, width = self.size  # Pillow's bilinear filter takes in the whole area that a pixel comes from
            return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR)
        if self.size is None or image.size == (self.size, self.size):
            return image
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        return image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box)


def upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF block says; one that cannot be read says nothing about the pixels."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def odd(image: Image.Image) -> str | None:
    """What sets an image apart from plain 8-bit grey or colour, by its header; None for a plain one."""
    # A phone's MPO is a JPEG with a preview behind it, not an animation.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        return "several frames (animated)"
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        return f"transparent (mode {image.mode})"
    if image.mode.startswith("I") or any(is_16_bit(tile) for tile in getattr(image, "tile", ())):
        return f"16 bits a channel (mode {image.mode})"
    if image.mode not in ("L", "RGB"):
        names = {"P": "palette", "CMYK": "CMYK", "1": "two-valued", "F": "floating point"}
        return f"{names.get(image.mode, 'unusual colours')} (mode {image.mode})"
    return None


def is_16_bit(tile: tuple[object, ...]) -> bool:
    """Pillow cuts 16-bit colour to 8 bits without a word; only the raw mode, such as "RGB;16B", tells."""
    raw = tile[3]
    raw = raw[0] if isinstance(raw, tuple) and raw else raw
    return isinstance(raw, str) and ";16" in raw


def to_plain(image: Image.Image) -> Image.Image:
    """Grey or RGB: the first frame, transparency over white, 16 bits scaled to 8. Other modes go back as they are."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 0xFFFF:
            return image
        return _copy_exif(image, Image.fromarray(np.rint(values / 257).astype(np.uint8)))
    if image.mode == "1":
        return image.convert("L")
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        layered = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        flat = Image.alpha_composite(white, layered).convert("RGB")
        return _copy_exif(image, flat.convert("L") if image.mode in ("L", "LA", "La") else flat)
    return image.convert("RGB") if image.mode not in ("L", "RGB", "F") else image


def _copy_exif(image: Image.Image, converted: Image.Image) -> Image.Image:
    """The orientation stands in the EXIF block, which new images lack."""
    converted.getexif().update(image.getexif())
    return converted
