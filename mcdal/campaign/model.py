"""The result as a folder that others use: the network from pixels to probabilities, what it needs to be told, and an example."""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from mcdal.campaign.definition import Opened
from mcdal.campaign.judging import Audit, Share
from mcdal.campaign.rebuilt import rebuilt
from mcdal.campaign.trained import RoundModel
from mcdal.classifier import Classifier
from mcdal.encoders.base import Built, Encoder
from mcdal.errors import CampaignError, McdalError
from mcdal.inputs import Inputs
from mcdal.models.base import Architecture, Model
from mcdal.pool.frozen import FeatureImages
from mcdal.settings import to_json
from mcdal.tensors import write_tensors
from mcdal.version import __version__
from mcdal.writing import replaced, write_atomically

VERSION = 1
"""Of model.json: raised when a field changes its meaning."""
READING = (
    "Open with Pillow; of a JPEG call draft(None, (2 * side, 2 * side)) first; apply the EXIF orientation; cut the largest "
    "square out of the centre and resize it to side x side with Pillow's bilinear filter (one call of resize with `box`); repeat "
    "grey to three channels where there are three. Transparent, animated, palette, CMYK and 16-bit images were set aside in "
    "training. Give bytes of 0 to 255 (uint8), channels first: normalisation is inside the model. example.py does all of this."
)


def export_model(
    campaign: Opened, trained: RoundModel, audit: Audit, out: Path, formats: Sequence[str]
) -> dict[str, Any]:
    """Writes the folder, model.json at its end; gives what that holds. CampaignError where `out` holds something already."""
    if unknown := [name for name in formats if name not in FORMATS]:
        raise CampaignError(f"--format {unknown[0]}: there are {', '.join(FORMATS)}")
    if not formats:
        raise CampaignError(f"--format names none: there are {', '.join(FORMATS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CampaignError(f"--out {out} is not an empty folder: give a new one")
    encoder = None if trained.plan.config.encoder is None else trained.plan.config.encoder.build()
    shape = _shape(trained)
    classifier = Classifier.of(
        trained.model, trained.inputs, audit.calibration.temperature.value, encoder, shape[1:]
    )  # fmt: skip
    with _whole(out) as folder:
        for name in formats:
            _write(name, folder, classifier, shape)
        write_atomically(folder / "example.py", files("mcdal.campaign").joinpath("example.py").read_bytes())
        told = _told(campaign, trained, audit, shape) | {"normalisation": _normalisation(trained, encoder)}
        told["files"] = {path.name: _described(path) for path in sorted(folder.iterdir())}
        content = json.dumps(told, ensure_ascii=False, indent=1) + "\n"
        write_atomically(folder / "model.json", content.encode("utf-8"))
    return told


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder that takes this name once all is in it; after an error nothing stays."""
    beside = out.with_name(f"{out.name}.{os.getpid()}.part")
    try:
        beside.mkdir(parents=True)
        yield beside
        beside.replace(out)  # over an empty one, if it is there
    except OSError as error:
        raise CampaignError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write(name: str, folder: Path, classifier: Classifier, shape: tuple[int, int, int]) -> None:
    file, write = FORMATS[name]
    try:
        write(folder / file, classifier, shape)
    except (McdalError, OSError):
        raise
    except Exception as error:  # whatever torch says of a network that it cannot put down
        first = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise CampaignError(
            f"--format {name}: torch cannot write this network so ({first}): take another format"
        ) from error


def _shape(trained: RoundModel) -> tuple[int, int, int]:
    """Channels, height and width of an image that the whole takes."""
    images = trained.pool.images
    height, width, channels = (images.of if isinstance(images, FeatureImages) else images).read(0).shape
    return channels, height, width


def load_classifier(folder: Path) -> Classifier:
    """From model.json and model.safetensors. CampaignError where they are not what `mcdal campaign model` wrote."""
    try:
        told = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        weights = safetensors.torch.load_file(folder / "model.safetensors")
        inputs = Inputs.from_text({"mcdal": json.dumps(told["inputs"])})
        assert inputs is not None
        channels, height, width = inputs.shape
        architecture: Architecture = rebuilt(told["architecture"], Architecture)
        model: Model = architecture.build(len(inputs.classes), channels, (height, width))
        encoder = None if told["encoder"] is None else rebuilt(told["encoder"], Encoder).build()
        size = tuple(told["input"]["shape"][1:])
        made = Classifier.of(model, inputs, 1.0, encoder, size)
        made.load_state_dict(weights)
    except (OSError, KeyError, TypeError, json.JSONDecodeError, RuntimeError, safetensors.SafetensorError) as error:
        raise CampaignError(f"{folder} holds no model as `mcdal campaign model` writes it: {error}") from error
    return made


def _safetensors(path: Path, classifier: Classifier, _: tuple[int, int, int]) -> None:
    write_tensors(path, classifier.state_dict(), {})


def _exported(path: Path, classifier: Classifier, shape: tuple[int, int, int]) -> None:
    """A graph that runs without the code that it was made of, of any number of images."""
    batch = {"x": {0: torch.export.Dim.DYNAMIC}}
    with replaced(path) as beside, beside.open("wb") as file:
        torch.export.save(torch.export.export(classifier, (_some(shape),), dynamic_shapes=batch), file)


def _torchscript(path: Path, classifier: Classifier, shape: tuple[int, int, int]) -> None:
    with replaced(path) as beside, warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # it is deprecated, which the documentation says
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]  # sizes are taken for fixed, as they are
        torch.jit.trace(classifier, (_some(shape),)).save(str(beside))  # type: ignore[no-untyped-call]


def _onnx(path: Path, classifier: Classifier, shape: tuple[int, int, int]) -> None:
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise CampaignError(f"--format onnx needs {error.name}: pip install 'mcdal[onnx]'") from error
    batch = {"x": {0: torch.export.Dim.DYNAMIC}}
    with replaced(path) as beside, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(
            classifier, (_some(shape),), str(beside), dynamo=True, dynamic_shapes=batch, external_data=False, verbose=False,
            input_names=["image"], output_names=["probabilities"],
        )  # fmt: skip


def _some(shape: tuple[int, int, int]) -> torch.Tensor:
    """Two images: of one, a graph would take their number for fixed."""
    return torch.zeros(2, *shape, dtype=torch.uint8)


FORMATS: Mapping[str, tuple[str, Callable[[Path, Classifier, tuple[int, int, int]], None]]] = {
    "safetensors": ("model.safetensors", _safetensors),
    "pt2": ("model.pt2", _exported),
    "torchscript": ("model.ts", _torchscript),
    "onnx": ("model.onnx", _onnx),
}


def _told(campaign: Opened, trained: RoundModel, audit: Audit, shape: tuple[int, int, int]) -> dict[str, Any]:
    config, calibration = trained.plan.config, audit.calibration
    return {
        "version": VERSION,
        "mcdal": __version__,
        "campaign": campaign.campaign.name,
        "round": trained.round,
        "labels": trained.record.labeled,
        "strategy": campaign.campaign.strategy,
        "classes": list(trained.inputs.classes),
        "input": {"shape": list(shape), "dtype": "uint8", "values": [0, 255], "reading": READING},
        "output": {"shape": [len(trained.inputs.classes)], "dtype": "float32", "is": "probabilities, calibrated"},
        "accuracy": None if audit.accuracy is None else _share(audit.accuracy),
        "recall": {name: _share(share) for name, share in audit.recall.items()},
        "temperature": calibration.temperature.value,
        "calibration": asdict(calibration),
        "architecture": to_json(config.model),
        "encoder": to_json(config.encoder),
        "inputs": asdict(trained.inputs),
        "notes": list(trained.notes),
    }


def _normalisation(trained: RoundModel, encoder: Built | None) -> dict[str, Any]:
    """Said for whoever looks; it is inside the model already."""
    told = {"inside": True, "of": "x / 255"}
    if encoder is None:
        return told | {"mean": list(trained.inputs.mean), "std": list(trained.inputs.std)}
    resized = {"resized_to": list(encoder.size), "by": encoder.interpolation}
    return told | resized | {"mean": list(encoder.mean), "std": list(encoder.std)}


def _share(share: Share) -> dict[str, Any]:
    return {"value": share.value, **asdict(share)}


def _described(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}
