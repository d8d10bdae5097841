"""Image files as a browser gets them: whole where that is harmless and small, else made anew once and kept."""

import hashlib
import io
import threading
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from mcdal.campaign.definition import Opened
from mcdal.errors import PoolError
from mcdal.pool.decode import FORMATS, MAX_PIXELS, odd, to_plain, upright

Size = Literal["image", "thumb"]
SIDES: dict[Size, int] = {"image": 2048, "thumb": 320}
AS_THEY_ARE = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
"""Formats that every browser shows, with their media types."""
SMALL_BYTES = 1 << 21
AT_ONCE = 2
"""Images that are decoded at the same time: each may take as much memory as its pixels."""


@dataclass(frozen=True)
class Shown:
    content: bytes
    media_type: str


class Pictures:
    """The images of one folder, by id, and what was made of them in another."""

    def __init__(self, root: Path, kept: Path):
        self._root, self._kept = root.resolve(), kept
        self._decoding = threading.Semaphore(AT_ONCE)

    @classmethod
    def of(cls, campaign: Opened) -> "Pictures":
        return cls(campaign.campaign.images, campaign.folder / "cache" / "shown")

    def path(self, id: str) -> Path:
        """The file of an id. PoolError where it is none of this folder, or has gone."""
        try:
            path = (self._root / id).resolve()
            inside = path.is_relative_to(self._root) and path.is_file()
        except (OSError, ValueError):  # the second: a null byte
            inside = False
        if not inside:
            raise PoolError(f"the image {id!r} is not in the folder any more")
        return path

    def is_there(self, id: str) -> bool:
        try:
            self.path(id)
        except PoolError:
            return False
        return True

    def version(self, id: str) -> str:
        """Changes with the file, so that nobody is shown an older one under the same address."""
        state = self.path(id).stat()
        return f"{state.st_size:x}-{state.st_mtime_ns:x}"

    def size(self, id: str, shown: bool = True) -> tuple[int, int]:
        """Width and height as it is shown, or of the file; 0, 0 of a file that is no image."""
        path = self.path(id)
        try:
            with _opened(path) as image:
                width, height = image.size
                turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        except Exception:  # Pillow's plugins raise nearly anything on broken files
            return 0, 0
        width, height = (height, width) if turned else (width, height)
        scale = min(1.0, SIDES["image"] / max(width, height)) if shown else 1.0
        return round(width * scale), round(height * scale)

    def show(self, id: str, size: Size) -> Shown:
        """PoolError names an image that cannot be shown, and says why."""
        path = self.path(id)
        try:
            state = path.stat()
            with _opened(path) as image:
                if max(image.size) <= SIDES[size] and state.st_size <= SMALL_BYTES and image.format in AS_THEY_ARE:
                    return Shown(path.read_bytes(), AS_THEY_ARE[image.format])
            key = f"{id}|{state.st_size}|{state.st_mtime_ns}|{size}"
            kept = self._kept / f"{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}.jpg"
            if kept.exists():
                return Shown(kept.read_bytes(), "image/jpeg")
            made = self._made(path, SIDES[size])
            self._keep(kept, made)
            return Shown(made, "image/jpeg")
        except PoolError:
            raise
        except Image.DecompressionBombError as error:
            raise PoolError(f"the image {id!r} has too many pixels to be shown") from error
        except Exception as error:
            raise PoolError(f"the image {id!r} cannot be shown: {error or type(error).__name__}") from error

    def _keep(self, where: Path, content: bytes) -> None:
        """For the next one who asks. Without: on a full disk it is made anew each time."""
        beside = where.with_suffix(f".{threading.get_ident()}.part")  # several threads may make the same
        with suppress(OSError):
            where.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(content)
            beside.replace(where)

    def _made(self, path: Path, side: int) -> bytes:
        with self._decoding, _opened(path) as image:
            image.draft("RGB", (side, side))
            image.load()
            plain = upright(to_plain(image) if odd(image) else image)
            plain.thumbnail((side, side))
            sink = io.BytesIO()
            plain.convert("RGB").save(sink, "JPEG", quality=88)
        return sink.getvalue()


def _opened(path: Path) -> Image.Image:
    """Its header read, nothing decoded. PoolError for one with more pixels than are ever decoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large ones, which are judged here
        image = Image.open(path, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise PoolError(f"{path.name} has {image.width}x{image.height} pixels, too many to be shown")
    return image
