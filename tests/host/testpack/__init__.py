"""Test-only nodes for the real server: pictures of any size and content, a slow node, a probe.

Linked beside the pack as a second custom_nodes folder; see tests/host/client.py.
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import torch
from comfy.clip_vision import Output
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.sd import StyleModel
from comfy.t2i_adapter.adapter import StyleAdapter
from comfy_api.latest import io

LARGE = 16384


def _picture(fill: str, shape: tuple[int, int, int, int], value: float, seed: int) -> torch.Tensor:
    height, width = shape[1:3]
    if fill == "noise":
        return torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    if fill == "gradient":
        row = torch.linspace(0, 1, width).view(1, 1, width, 1)
        column = torch.linspace(0, 1, height).view(1, height, 1, 1)
        return ((row + column) / 2).expand(shape).contiguous()
    if fill == "squares":
        rows, columns = torch.arange(height) // 8 % 2, torch.arange(width) // 8 % 2
        return (rows[:, None] ^ columns[None]).float()[None, :, :, None].expand(shape).contiguous()
    return torch.full(shape, value)


class TestImage(io.ComfyNode):
    """IMAGE of any size (0 too), batch and channel count; `nan` spoils one pixel."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestImage",
            display_name="Test image",
            category="Test",
            inputs=[
                io.Int.Input("width", optional=True, default=64, min=0, max=LARGE),
                io.Int.Input("height", optional=True, default=64, min=0, max=LARGE),
                io.Int.Input("batch", optional=True, default=1, min=0, max=64),
                io.Int.Input("channels", optional=True, default=3, min=1, max=8),
                io.Combo.Input(
                    "fill",
                    options=["noise", "gradient", "squares", "constant"],
                    optional=True,
                    default="noise",
                ),
                io.Float.Input("value", optional=True, default=0.5, min=-100.0, max=100.0),
                io.Int.Input("seed", optional=True, default=0, min=0, max=2**31),
                io.Boolean.Input("nan", optional=True, default=False),
            ],
            outputs=[io.Image.Output(), io.Mask.Output()],
        )

    @classmethod
    def execute(
        cls,
        width: int = 64,
        height: int = 64,
        batch: int = 1,
        channels: int = 3,
        fill: str = "noise",
        value: float = 0.5,
        seed: int = 0,
        nan: bool = False,
    ) -> io.NodeOutput:
        image = _picture(fill, (batch, height, width, channels), value, seed)
        if nan:
            image[:, height // 2, width // 2] = float("nan")
        return io.NodeOutput(image, image[..., 0].clone())


class TestSlow(io.ComfyNode):
    """Passes anything on after some time, and can be interrupted meanwhile."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestSlow",
            display_name="Test slow",
            category="Test",
            inputs=[
                io.AnyType.Input("value"),
                io.Float.Input("seconds", optional=True, default=5.0, min=0.0, max=600.0),
            ],
            outputs=[io.AnyType.Output()],
        )

    @classmethod
    def execute(cls, value: Any, seconds: float = 5.0) -> io.NodeOutput:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            throw_exception_if_processing_interrupted()
            time.sleep(0.02)
        return io.NodeOutput(value)


class TestConditioning(io.ComfyNode):
    """Random CONDITIONING, for checkpoints without a text encoder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestConditioning",
            display_name="Test conditioning",
            category="Test",
            inputs=[
                io.Int.Input("width", optional=True, default=768, min=1, max=LARGE),
                io.Int.Input("pooled_width", optional=True, default=768, min=1, max=LARGE),
                io.Int.Input("tokens", optional=True, default=16, min=1, max=1024),
                io.Int.Input("seed", optional=True, default=0, min=0, max=2**31),
            ],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(
        cls, width: int = 768, pooled_width: int = 768, tokens: int = 16, seed: int = 0
    ) -> io.NodeOutput:
        generator = torch.Generator().manual_seed(seed)
        pooled = torch.randn(1, pooled_width, generator=generator)
        return io.NodeOutput(
            [[torch.randn(1, tokens, width, generator=generator), {"pooled_output": pooled}]]
        )


def _described(value: Any) -> dict[str, Any]:
    """What the test is told of a value; tensors also go into a .npy file in the output folder."""
    if isinstance(value, dict) and "samples" in value:
        value = value["samples"]
    if not isinstance(value, torch.Tensor):
        return {"type": type(value).__name__, "text": str(value)}
    array = value.detach().float().cpu().numpy()
    name = f"probe_{hashlib.sha256(array.tobytes() + str(array.shape).encode()).hexdigest()[:24]}.npy"
    np.save(Path(folder_paths.get_output_directory()) / name, array)
    finite = array[np.isfinite(array)]
    summary = {"min": float(finite.min()), "max": float(finite.max())} if finite.size else {}
    return {
        "type": "Tensor",
        "shape": list(array.shape),
        "dtype": str(value.dtype),
        "finite": finite.size == array.size,
        "file": name,
        **summary,
    }


class TestProbe(io.ComfyNode):
    """Tells the test what arrived: type, shape, range, and every number through a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestProbe",
            display_name="Test probe",
            category="Test",
            is_output_node=True,
            inputs=[io.AnyType.Input("value")],
            outputs=[],
        )

    @classmethod
    def execute(cls, value: Any) -> io.NodeOutput:
        return io.NodeOutput(ui={"probe": [_described(value)]})


class TestPose(io.ComfyNode):
    """POSE_KEYPOINT of one person per picture, whose points follow the picture's values."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestPose",
            display_name="Test pose",
            category="Test",
            inputs=[io.Image.Input("image")],
            outputs=[io.Custom("POSE_KEYPOINT").Output()],
        )

    @classmethod
    def execute(cls, image: torch.Tensor) -> io.NodeOutput:
        height, width = image.shape[1:3]
        frames = []
        for picture in image:
            values = picture[height // 2].flatten().tolist() if picture.numel() else [0.0]
            points = [values[i % len(values)] if i % 3 < 2 else 1.0 for i in range(54)]
            points[0] = float(picture[height // 2, width // 2, 0]) if picture.numel() else 0.0
            people = [{"pose_keypoints_2d": points}]
            frames.append({"people": people, "canvas_width": width, "canvas_height": height})
        return io.NodeOutput(frames)


STYLE_WIDTH = 64
"""Of the style model and the CLIP vision output below: small, where published ones have 1024."""


class TestClipVision(io.ComfyNode):
    """Random CLIP_VISION_OUTPUT: a sequence, as the style model below reads it, and an embedding."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestClipVision",
            display_name="Test CLIP vision",
            category="Test",
            inputs=[
                io.Int.Input("width", optional=True, default=1280, min=1, max=LARGE),
                io.Int.Input("seed", optional=True, default=0, min=0, max=2**31),
            ],
            outputs=[io.ClipVisionOutput.Output()],
        )

    @classmethod
    def execute(cls, width: int = 1280, seed: int = 0) -> io.NodeOutput:
        output, generator = Output(), torch.Generator().manual_seed(seed)
        output.last_hidden_state = torch.randn(1, 5, STYLE_WIDTH, generator=generator)
        output.image_embeds = torch.randn(1, width, generator=generator)
        return io.NodeOutput(output)


class TestStyleModel(io.ComfyNode):
    """A STYLE_MODEL of random weights for SD1.5."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestStyleModel",
            display_name="Test style model",
            category="Test",
            inputs=[],
            outputs=[io.StyleModel.Output()],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            adapter = StyleAdapter(STYLE_WIDTH, context_dim=768, num_head=8, n_layes=1, num_token=8)
        return io.NodeOutput(StyleModel(adapter.eval().requires_grad_(False)))


class TestModules(io.ComfyNode):
    """Tells which of the named modules the server process has imported."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestModules",
            display_name="Test modules",
            category="Test",
            is_output_node=True,
            inputs=[io.String.Input("names", default="cv2,onnxruntime")],
            outputs=[],
        )

    @classmethod
    def execute(cls, names: str) -> io.NodeOutput:
        return io.NodeOutput(ui={"modules": [name for name in names.split(",") if name in sys.modules]})


NODE_CLASS_MAPPINGS = {
    node.__name__: node
    for node in (
        TestImage,
        TestSlow,
        TestConditioning,
        TestProbe,
        TestPose,
        TestClipVision,
        TestStyleModel,
        TestModules,
    )
}
