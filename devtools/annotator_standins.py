"""Random weight files for the annotators, under their published names and wrapped as those are.

    python devtools/annotator_standins.py MODELS_DIR [KEY ...]

Keys and shapes are the listings in tests/shapes; the numbers are random, so that a map made with them shows
nothing, but has many levels. Each file is the same on every machine with the same torch.
"""

from __future__ import annotations

import json
import math
import os
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

SHAPES = Path(__file__).resolve().parent.parent / "tests" / "shapes"
FOLDER = "controlnet_aux"
BLOCK = 4_194_301
"""How many normals are drawn: a prime, so that rows of a big tensor never repeat in step."""

SEED = 21


class Published(NamedTuple):
    """A file: its name and wrapping, and what lets its map vary: a gain, and biases by their endings.

    `version` rises when the row changes, so that an older file of the same name is written anew.
    """

    name: str
    wrapper: str = ""
    prefix: str = ""
    gain: float = 1.4
    biases: tuple[tuple[str, float], ...] = ()
    version: int = 1


PUBLISHED: dict[str, Published] = {
    "depth_anything_v2": Published(
        "depth_anything_v2_vitl.pth", biases=(("gamma", 0.5), ("output_conv2.2.bias", 1.0))
    ),
    "zoe": Published(
        "ZoeD_M12_N.pt",
        wrapper="model",
        biases=(("gamma_1", 0.3), ("gamma_2", 0.3), ("output_conv.4.bias", 0.5)),
    ),
    "leres": Published("res101.pth", wrapper="depth_model", prefix="module."),
    "leres_merge": Published("latest_net_G.pth"),
    "hed": Published("ControlNetHED.pth", gain=0.8, biases=(("projection.bias", -1.3),)),
    "pidinet": Published("table5_pidinet.pth", wrapper="state_dict", prefix="module.", gain=1.2),
    "lama": Published("ControlNetLama.pth", prefix="model."),
    "line_art_realistic": Published("sk_model.pth"),
    "line_art_coarse": Published("sk_model2.pth"),
    "line_art_anime": Published("netG.pth"),
    "line_art_anime_denoise": Published("erika.pth", prefix="module."),
    "midas": Published("dpt_hybrid-midas-501f0c75.pt", gain=1.0, biases=(("output_conv.4.bias", 1.0),)),
    "mlsd": Published("mlsd_large_512_fp32.pth"),
    "normal_bae": Published("scannet.pt", wrapper="model", gain=1.3),
    "uniformer": Published("upernet_global_small.pth", wrapper="state_dict", gain=3.0),
    "openpose_body": Published(
        "body_pose_model.pth",
        biases=(("Mconv7_stage6_L2.bias", 0.4), ("Mconv7_stage6_L1.bias", 0.3)),
        version=2,
    ),  # with these it finds people in any picture
    "oneformer_ade20k": Published("250_16_swin_l_oneformer_ade20k_160k.pth", wrapper="model", gain=5.0),
    "oneformer_coco": Published("150_16_swin_l_oneformer_coco_100ep.pth", wrapper="model", gain=5.0),
    "openpose_hand": Published("hand_pose_model.pth"),
    "openpose_face": Published("facenet.pth"),
    "segment_anything": Published(
        "mobile_sam.pt",
        biases=(("iou_prediction_head.layers.2.bias", 1.5), ("output_upscaling.1.weight", 200.0)),
    ),  # sure of every mask, so that one of each picture stays
}


def shapes(key: str) -> dict[str, tuple[int, ...]]:
    """The key -> shape listing of an annotator's file, or of a smaller network of its kind."""
    small = SHAPES / "small" / f"{key}.json"
    path = small if small.is_file() else SHAPES / f"{key}.json"
    listing = json.loads(path.read_text(encoding="utf-8"))
    return {name: tuple(shape) for name, shape in listing.items()}


def random_state(key: str) -> dict[str, Any]:
    """Float16 tensors: normals with std gain / sqrt(fan_in), gains and variances 1, biases and means 0."""
    import torch

    block = torch.randn(BLOCK, generator=torch.Generator().manual_seed(SEED)).repeat(2)
    tensors = {}
    for name, shape in shapes(key).items():
        if len(shape) <= 1:
            is_one = len(shape) == 1 and name.endswith(("weight", "running_var"))
            special = [value for ending, value in PUBLISHED[key].biases if name.endswith(ending)]
            value = special[0] if special else float(is_one)
            tensors[name] = torch.full(shape, value, dtype=torch.float16)
            continue
        size = math.prod(shape)
        start = zlib.crc32(f"{key} {name}".encode()) % BLOCK
        normals = block if size <= BLOCK else block.repeat(1 + size // BLOCK)
        scaled = normals[start : start + size] * (PUBLISHED[key].gain / math.sqrt(math.prod(shape[1:])))
        tensors[name] = scaled.to(torch.float16).reshape(shape)
    return tensors


def is_current(key: str, path: Path) -> bool:
    """Whether the file exists and its mark says that it was written from this version of its row."""
    mark = _mark(path)
    return (
        path.is_file() and mark.is_file() and mark.read_text(encoding="utf-8") == str(PUBLISHED[key].version)
    )


def ensure(models_dir: Path, keys: Iterable[str] = PUBLISHED) -> Path:
    """Write the files that are missing into models_dir/controlnet_aux and return that folder.

    A file appears under its name only when it is complete. Raises ValueError for an unknown key.
    """
    wanted = list(keys)
    unknown = [key for key in wanted if key not in PUBLISHED]
    if unknown:
        raise ValueError(
            f"An annotator's stand-in is one of {', '.join(PUBLISHED)}; got {', '.join(unknown)}."
        )
    folder = models_dir / FOLDER
    for key in wanted:
        path = folder / PUBLISHED[key].name
        if not is_current(key, path):
            _write(key, path)
    return folder


def _write(key: str, path: Path) -> None:
    import torch

    published = PUBLISHED[key]
    state = {published.prefix + name: tensor for name, tensor in random_state(key).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        torch.save({published.wrapper: state} if published.wrapper else state, part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    _mark(path).write_text(str(published.version), encoding="utf-8")


def _mark(path: Path) -> Path:
    return path.with_name(f"{path.name}.version")


def main(arguments: list[str]) -> int:
    """Write the named stand-ins (all of them by default) into the models folder of the first argument."""
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    folder = ensure(Path(arguments[0]), arguments[1:] or PUBLISHED)
    for path in sorted(folder.glob("*.pth")):
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
