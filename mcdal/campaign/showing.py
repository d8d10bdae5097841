"""Images as a browser gets them: whole where that is harmless and small, else made anew once and kept."""

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
from mcdal.campaign.originals_base import File, Originals
from mcdal.errors import PoolError
from mcdal.pool.decode import FORMATS, MAX_PIXELS, odd, to_plain, upright

Size = Literal["image", "thumb"]
SIDES: dict[Size, int] = {"image": 2048, "thumb": 320}
AS_THEY_ARE = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
"""Formats that every browser shows, with their media types."""
SMALL_BYTES = 1 << 21
AT_ONCE = 2
"""Images that are decoded at the same time: each may take as much memory as its pixels."""


class TooLargeError(PoolError):
    """An image that is never decoded: whoever labels may know it."""


@dataclass(frozen=True)
class Shown:
    content: bytes
    media_type: str


class Pictures:
    """The images of a campaign, by id, and what was made of them in a folder."""

    def __init__(self, originals: Originals, kept: Path):
        self._originals, self._kept = originals, kept
        self._decoding = threading.Semaphore(AT_ONCE)

    @classmethod
    def of(cls, campaign: Opened, lists: bool = True) -> "Pictures":
        """lists: as in `originals_of`."""
        from mcdal.campaign.originals import originals_of  # with torch, which a page of others does without

        return cls(originals_of(campaign, lists), campaign.folder / "cache" / "shown")

    def is_there(self, id: str) -> bool:
        """Whether it can be shown now."""
        return self._originals.can_be_read(id)

    def version(self, id: str) -> str:
        """Changes with the file, so that nobody is shown an older one under the same address."""
        return self._originals.version(id)

    def size(self, id: str, shown: bool = True) -> tuple[int, int]:
        """Width and height as it is shown, or of the file; 0, 0 of a file that is no image. PoolError for one that has gone."""
        self.version(id)
        try:
            with self._originals.open(id) as file, _opened(file, id) as image:
                width, height = image.size
                turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        except Exception:  # Pillow's plugins raise nearly anything on broken files
            return 0, 0
        width, height = (height, width) if turned else (width, height)
        scale = min(1.0, SIDES["image"] / max(width, height)) if shown else 1.0
        return round(width * scale), round(height * scale)

    def show(self, id: str, size: Size) -> Shown:
        """PoolError names an image that cannot be shown, and says why."""
        try:
            key = f"{id}|{self.version(id)}|{size}"
            kept = self._kept / f"{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}.jpg"
            if kept.exists():
                return Shown(kept.read_bytes(), "image/jpeg")
            with self._originals.open(id) as file:
                if (shown := _as_it_is(file, id, SIDES[size])) is not None:
                    return shown
                made = self._made(file, id, SIDES[size])
            self._keep(kept, made)
            return Shown(made, "image/jpeg")
        except PoolError:
            raise
        except Image.DecompressionBombError as error:
            raise TooLargeError(f"the image {id!r} has too many pixels to be shown") from error
        except Exception as error:
            raise PoolError(f"the image {id!r} cannot be shown: {error or type(error).__name__}") from error

    def _keep(self, where: Path, content: bytes) -> None:
        """For the next one who asks. Without: on a full disk it is made anew each time."""
        beside = where.with_suffix(f".{threading.get_ident()}.part")  # several threads may make the same
        with suppress(OSError):
            where.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(content)
            beside.replace(where)

    def _made(self, file: File, id: str, side: int) -> bytes:
        with self._decoding, _opened(file, id) as image:
            image.draft("RGB", (side, side))
            image.load()
            plain = upright(to_plain(image) if odd(image) else image)
            plain.thumbnail((side, side))
            sink = io.BytesIO()
            plain.convert("RGB").save(sink, "JPEG", quality=88)
        return sink.getvalue()


def _as_it_is(file: File, id: str, side: int) -> Shown | None:
    """Where a browser may have it so: of these pixels at most, and few bytes."""
    with _opened(file, id) as image:
        format, fits = str(image.format), max(image.size) <= side
    if not fits or format not in AS_THEY_ARE or file.seek(0, io.SEEK_END) > SMALL_BYTES:
        return None
    file.seek(0)
    return Shown(file.read(), AS_THEY_ARE[format])


def _opened(file: File, id: str) -> Image.Image:
    """Its header read, nothing decoded. PoolError for one with more pixels than are ever decoded."""
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large ones, which are judged here
        image = Image.open(file, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise TooLargeError(f"{id} has {image.width}x{image.height} pixels, too many to be shown")
    return image
