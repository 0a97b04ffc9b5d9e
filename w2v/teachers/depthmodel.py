"""Monocular depth models of transformers, admitted only where their output is meters.

A label derived from depth is as true as the depth's scale, so a model must be metric, or the
user must say how many meters its unit is. Relative *inverse* depth (MiDaS, Depth Anything) is
refused even then: it is known up to scale and shift, ``a / z + b``, and no single number turns
that into meters (Ranftl et al., arXiv 1907.01341, section 4).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from w2v import torchvision_cpu
from w2v.errors import BadFile, W2VError
from w2v.records import Intrinsics

torchvision_cpu.install()

import torch  # noqa: E402
from transformers import AutoConfig, AutoImageProcessor, AutoModelForDepthEstimation  # noqa: E402

METRIC_TYPES = ("depth_pro", "glpn", "zoedepth")
"""Models whose every checkpoint is trained on meters."""
HINT = (
    "name a metric model such as depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf, "
    "or give the scenes depth maps"
)

_T = TypeVar("_T")


@dataclass(frozen=True)
class Estimate:
    """(H, W) float32 z-depth in meters, and the horizontal field of view in degrees if seen."""

    depth: np.ndarray
    field_of_view: float | None = None


class DepthModel:
    """One depth model, loaded.

    Args:
        name: A folder, or a name on the Hugging Face hub; what is on disk is used first.
        meters_per_unit: What one unit of a model that is not metric is said to be; 0 for nothing.
    """

    def __init__(self, name: str, meters_per_unit: float = 0.0) -> None:
        self.name = name
        self.kind, config = _load(name, _config)
        self.meters_per_unit = _meters_per_unit(name, config, meters_per_unit)
        self.sees_camera = bool(getattr(config, "use_fov_model", False))
        self.processor = _load(name, _processor)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.network = _load(name, _network).to(self.device).eval()

    def estimate(self, image: np.ndarray, camera: Intrinsics | None) -> Estimate:
        """Return the depth of an image.

        Args:
            image: (H, W, 3) uint8.
            camera: Of the image, where it is known; a model that guesses it is then corrected.
        """
        size = image.shape[:2]
        inputs = self.processor(images=image, return_tensors="pt").to(self.device)
        with torch.inference_mode():
            outputs = self.network(**inputs)
        sizes = {"source_sizes": [size]} if self.kind == "zoedepth" else {}
        found = self.processor.post_process_depth_estimation(outputs, target_sizes=[size], **sizes)[
            0
        ]
        depth = found["predicted_depth"].float().cpu().numpy() * self.meters_per_unit
        angle = found.get("field_of_view")
        degrees = None if angle is None else float(angle)
        if self.kind == "depth_pro":
            depth *= _focal_correction(degrees, camera, size[1])
        depth = np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)
        return Estimate(depth, degrees)


def _focal_correction(degrees: float | None, camera: Intrinsics | None, width: int) -> float:
    """Return what Depth Pro's depth must be multiplied with where the focal length is known.

    It predicts canonical inverse depth C and z = f / (width x C) (Bochkovskii et al.,
    arXiv 2410.02073, section 3.1), with its own guess of f where it has one, else with 1.
    """
    guessed = 1.0
    if degrees is not None:
        guessed = 0.5 / math.tan(math.radians(degrees) / 2)
    if camera is not None:
        return camera.fx / width / guessed
    if degrees is None:
        raise W2VError(
            "Depth Pro without its field-of-view head needs to know the camera",
            "give the scene intrinsics, or name a checkpoint with use_fov_model",
        )
    return 1.0


def _meters_per_unit(name: str, config: Any, stated: float) -> float:
    """Return the scale to use, 1 for a metric model.

    Raises:
        W2VError: The output of this model cannot be turned into meters.
    """
    kind = str(config.model_type)
    if kind in METRIC_TYPES or getattr(config, "depth_estimation_type", "") == "metric":
        return 1.0
    if _is_inverse(config):
        raise W2VError(
            f"{name} predicts relative inverse depth, which no scale turns into meters", HINT
        )
    if stated > 0:
        return stated
    raise W2VError(
        f"{name} predicts relative depth: name a metric model or state meters_per_unit", HINT
    )


def _is_inverse(config: Any) -> bool:
    """Return whether a model is known to predict inverse depth.

    DPT does, as MiDaS released it; its checkpoints on DINOv2 were trained on depth itself.
    """
    if hasattr(config, "depth_estimation_type"):
        return bool(config.depth_estimation_type == "relative")
    backbone = getattr(config, "backbone_config", None)
    return config.model_type == "dpt" and getattr(backbone, "model_type", "") != "dinov2"


def _load(name: str, load: Callable[[str, bool], _T]) -> _T:
    """Return what ``load`` finds on disk, or else on the hub where the name is no folder."""
    try:
        try:
            return load(name, True)
        except OSError:
            if Path(name).exists():
                raise
            return load(name, False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadFile(
            f"depth model {name!r} cannot be loaded: {first}",
            "depth_model is a folder or a hub name that AutoModelForDepthEstimation can load",
        ) from error


def _config(name: str, local: bool) -> tuple[str, Any]:
    config = AutoConfig.from_pretrained(name, local_files_only=local)
    return str(config.model_type), config


def _processor(name: str, local: bool) -> Any:
    return AutoImageProcessor.from_pretrained(name, local_files_only=local)


def _network(name: str, local: bool) -> Any:
    return AutoModelForDepthEstimation.from_pretrained(
        name, local_files_only=local, use_safetensors=True, dtype=torch.float32
    )
