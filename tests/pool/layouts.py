"""Tiny data sets in the exact layouts that people have on disk."""

import gzip
import io
import json
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

FINE = [f"fine{i:02d}" for i in range(100)]
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def class_folders(root: Path, classes: tuple[str, ...] = ("cat", "dog"), each: int = 5, side: int = 8) -> Path:
    """`root/cat/000.png` and so on, all of one shape."""
    for c, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(each):
            (root / name / f"{i:03d}.png").write_bytes(encoded(noise(c * 1000 + i, side, side, 3)))
    return root


def png(width: int, height: int, depth: int, colour: int, content: bytes) -> bytes:
    """A PNG from its parts, whatever they say."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(content)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def write_idx(path: Path, values: np.ndarray, magic: int | None = None) -> None:
    header = struct.pack(f">I{values.ndim}I", 0x0800 + values.ndim if magic is None else magic, *values.shape)
    content = header + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def mnist(folder: Path, suffix: str = ".gz", count: int = 20) -> Path:
    folder.mkdir(parents=True)
    for seed, part in enumerate(("train", "t10k")):
        write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", noise(seed, count, 28, 28))
        write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", np.arange(count) % 10)
    return folder


def text(content: bytes) -> bytes:
    """Opcode of a Python 2 string."""
    return b"T" + struct.pack("<I", len(content)) + content


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def listed(values: list[bytes]) -> bytes:
    return b"](" + b"".join(values) + b"e"


def python2_array(rows: np.ndarray) -> bytes:
    """A uint8 table as numpy under Python 2 pickled it."""
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + number(0) + b"\x85" + text(b"b") + b"\x87R"
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + number(0) + number(1) + b"\x87R"
    dtype += b"(" + number(3) + text(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    shape = number(rows.shape[0]) + number(rows.shape[1]) + b"\x86"
    return made + b"(" + number(1) + shape + dtype + b"\x89" + text(rows.tobytes()) + b"tb"


def python2_pickle(content: dict[str, bytes]) -> bytes:
    """A dictionary in protocol 2; the values are opcodes already."""
    return b"\x80\x02}(" + b"".join(text(key.encode()) + value for key, value in content.items()) + b"u."


def cifar_rows(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    return noise(seed, count, 3072), np.arange(count)


def cifar_python(root: Path, classes: int, count: int = 10) -> Path:
    folder = root / {10: "cifar-10-batches-py", 100: "cifar-100-python"}[classes]
    folder.mkdir(parents=True)
    files = {10: [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"], 100: ["train", "test"]}[classes]
    key = {10: "labels", 100: "fine_labels"}[classes]
    for seed, file in enumerate(files):
        rows, labels = cifar_rows(seed, count)
        content = {"batch_label": text(b"batch"), "data": python2_array(rows), key: listed([number(y) for y in labels])}
        content["filenames"] = listed([text(b"x_s_000.png")] * count)
        (folder / file).write_bytes(python2_pickle(content))
    names = listed([text(name.encode()) for name in (CIFAR10 if classes == 10 else FINE)])
    meta = {"label_names": names} if classes == 10 else {"coarse_label_names": listed([]), "fine_label_names": names}
    (folder / {10: "batches.meta", 100: "meta"}[classes]).write_bytes(python2_pickle(meta))
    return folder


def cifar_binary(root: Path, classes: int, count: int = 10) -> Path:
    folder = root / {10: "cifar-10-batches-bin", 100: "cifar-100-binary"}[classes]
    folder.mkdir(parents=True)
    files = {10: [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"], 100: ["train.bin", "test.bin"]}
    for seed, file in enumerate(files[classes]):
        rows, labels = cifar_rows(seed, count)
        columns = [labels[:, None]] if classes == 10 else [labels[:, None] // 5, labels[:, None]]
        (folder / file).write_bytes(np.concatenate([*columns, rows], axis=1).astype(np.uint8).tobytes())
    names = "\n".join(CIFAR10 if classes == 10 else FINE) + "\n\n"
    (folder / {10: "batches.meta.txt", 100: "fine_label_names.txt"}[classes]).write_text(names)
    return folder


def hugging_face(features: dict[str, list[str]]) -> dict[bytes, bytes]:
    """Schema metadata with class names, as the datasets library writes it."""
    kinds = {name: {"names": names, "_type": "ClassLabel"} for name, names in features.items()}
    return {b"huggingface": json.dumps({"info": {"features": kinds}}).encode()}


def write_parquet(
    path: Path,
    images: list[bytes | None],
    columns: dict[str, list[object]],
    image: str = "image",
    metadata: dict[bytes, bytes] | None = None,
    plain: bool = False,
    rows: int = 4,
    compression: str = "snappy",
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = pyarrow.binary() if plain else pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    values = images if plain else [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(images)]
    table = pyarrow.table({image: pyarrow.array(values, kind), **columns})
    pyarrow.parquet.write_table(
        table.replace_schema_metadata(metadata), path, row_group_size=rows, compression=compression
    )


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def cifar_parquet(root: Path, classes: int, count: int = 10, image: str = "img") -> Path:
    label = "label" if classes == 10 else "fine_label"
    for seed, split in enumerate(("train", "test")):
        rows, labels = cifar_rows(seed, count)
        images = [encoded(np.ascontiguousarray(row.reshape(3, 32, 32).transpose(1, 2, 0))) for row in rows]
        names = hugging_face({label: CIFAR10 if classes == 10 else FINE})
        write_parquet(root / f"{split}-00000-of-00001.parquet", images, {label: labels.tolist()}, image, names)
    return root


def mask(seed: int, values: list[int], height: int = 12, width: int = 16) -> np.ndarray:
    """Blocks of 4x4 of these values, all of which occur where there is room."""
    random = np.random.default_rng(seed)
    blocks = np.resize(np.array(values, dtype=np.uint8), (height // 4) * (width // 4))
    return random.permutation(blocks).reshape(height // 4, width // 4).repeat(4, 0).repeat(4, 1)


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def camvid(root: Path, each: int = 4, kind: str = "png") -> Path:
    """SegNet's CamVid: of each split frames of two drives, 12x16, masks of 0 to 11."""
    for s, split in enumerate(("train", "val", "test")):
        for i in range(each):
            name = f"{'0001TP' if i % 2 else 'Seq05VD'}_{'f' * (1 - i % 2)}{i:05d}"
            put(root / split / f"{name}.{kind}", encoded(noise(100 * s + i, 12, 16, 3), kind.upper(), lossless=True))
            put(root / f"{split}annot" / f"{name}.png", encoded(mask(100 * s + i, list(range(12)))))
    return root


def cityscapes(root: Path, wrapped: bool = False) -> Path:
    """Two cities for each split; with the files that are published beside those that are read."""
    images = root / "leftImg8bit_trainvaltest" if wrapped else root
    masks = root / "gtFine_trainvaltest" if wrapped else root
    ids = [*range(34), 255]
    for s, (split, cities) in enumerate({"train": ("aachen", "bochum"), "val": ("lindau", "munster")}.items()):
        for c, city in enumerate(cities):
            for i in range(2):
                frame, seed = f"{city}_{i:06d}_000019", 100 * s + 10 * c + i
                image = encoded(noise(seed, 24, 48, 3))
                put(images / "leftImg8bit" / split / city / f"{frame}_leftImg8bit.png", image)
                folder = masks / "gtFine" / split / city
                put(folder / f"{frame}_gtFine_labelIds.png", encoded(mask(seed, ids, 24, 48)))
                trained = encoded(mask(seed, [*range(19), 255], 24, 48))
                put(folder / f"{frame}_gtFine_labelTrainIds.png", trained)
                put(folder / f"{frame}_gtFine_color.png", encoded(noise(seed, 24, 48, 4)))
                put(folder / f"{frame}_gtFine_polygons.json", b"{}")
    return root


def mask_folder(root: Path, count: int = 6) -> Path:
    """`root/images/a_0.jpg` and so on with masks of ids 1, 2 and 9, and a table in which 9 is void."""
    for i in range(count):
        name = f"{'abc'[i // 2]}_{i}"
        put(root / "images" / f"{name}.jpg", encoded(noise(i, 12, 16, 3), "JPEG"))
        put(root / "masks" / f"{name}.png", encoded(mask(i, [1, 2, 9])))
    put(root / "classes.csv", b"id,name,void\n1,grass,\n2,path,\n9,,1\n")
    return root
