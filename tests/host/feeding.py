"""Feeds any node of the pack in the real server: which test node or loader goes into which socket.

A node with sockets of a type that is not listed here needs one line here, and nothing else.
"""

from collections.abc import Callable
from typing import Any

from tiller.tests.host.client import Graph, HostServer, Node

TEXT = "https://example.org/tiller"
LORA = {"lora_name": "tiller_standin_lora_sd15.safetensors"}
SOURCES: dict[str, Callable[["Feeder"], Any]] = {
    "IMAGE": lambda feeder: feeder.picture[0],
    "MASK": lambda feeder: feeder.picture[1],
    "CLIP_VISION_OUTPUT": lambda feeder: feeder.graph.add("TestClipVision", seed=feeder.count())[0],
    "CONDITIONING": lambda feeder: feeder.graph.add("TestConditioning", seed=feeder.count())[0],
    "CLIP": lambda feeder: feeder.graph.add(
        "CheckpointLoaderSimple", ckpt_name="tiller_standin_sd15.safetensors"
    )[1],
    "HOOKS": lambda feeder: feeder.graph.add(
        "CreateHookLora", lora_name=LORA["lora_name"], strength_model=1.0, strength_clip=1.0
    )[0],
    "CONTROL_NET": lambda feeder: feeder.graph.add(
        "ControlNetLoader", control_net_name="tiller_standin_control_sd15.safetensors"
    )[0],
    "VAE": lambda feeder: feeder.graph.add(
        "CheckpointLoaderSimple", ckpt_name="tiller_standin_sd15.safetensors"
    )[2],
    "MODEL": lambda feeder: feeder.graph.add(
        "CheckpointLoaderSimple", ckpt_name="tiller_standin_sd15.safetensors"
    )[0],
    "LATENT": lambda feeder: feeder.graph.add("EmptyLatentImage", width=64, height=64, batch_size=1)[0],
    "POSE_KEYPOINT": lambda feeder: feeder.graph.add("TestPose", image=feeder.picture[0])[0],
    "TILLER_CONTROL_OPTIONS": lambda feeder: feeder.graph.add(
        "TillerControlOptions", **feeder.server.defaults("TillerControlOptions")
    )[0],
    "STYLE_MODEL": lambda feeder: feeder.graph.add("TestStyleModel")[0],
    "TILLER_CONTROL_UNIT": lambda feeder: feeder.node("TillerControlUnit")[0],
    "TILLER_LORA": lambda feeder: feeder.node("TillerLoRAUnit")[0],
    "TILLER_MOTION": lambda feeder: feeder.node("TillerLoadMotion")[0],
    "TILLER_FACE_ANALYSIS": lambda feeder: feeder.node("TillerLoadFaceAnalysis")[0],
    "TILLER_FACES": lambda feeder: feeder.node("TillerAnalyzeFaces")[0],
    "TILLER_IP_ADAPTER": lambda feeder: feeder.node("TillerLoadIPAdapter")[0],
    "TILLER_IMAGE_ENCODER": lambda feeder: feeder.node("TillerLoadImageEncoder")[0],
    "TILLER_IMAGE_PROMPT": lambda feeder: feeder.node("TillerEncodeImagePrompt")[0],
    "TILLER_QR": lambda feeder: feeder.node("TillerQRCode")[1],
}
SMALL = {"resolution": 64}
"""Where a network works, which takes long at the default size."""
FEW = {
    "TillerContactSheet": {"hints": "canny, hed", **SMALL},
    "TillerLoadFaceAnalysis": {"pack": "tiller_standin_faces"},
    "TillerLoadControl": {"control_name": "tiller_standin_control_sd15.safetensors"},
    "TillerLoadLoRA": LORA,
    "TillerLoRAUnit": LORA,
    "TillerLoRAInfo": LORA,
    "TillerScheduleLoRA": LORA,
    "TillerLoadIPAdapter": {"ip_adapter_name": "tiller_standin_ip_adapter_sd15.safetensors"},
    "TillerImagePromptNoise": {"strength": 0.5},
    "TillerLoadImagePrompt": {"prompt_name": "tiller_standin_prompt.safetensors"},
    "TillerLoadMotion": {"motion_name": "tiller_standin_motion_sd15.safetensors"},
    "TillerApplyModelOffset": {"offset_name": "loras/tiller_standin_offset_sd15.safetensors"},
}
"""Nodes whose defaults would make everything there is, or take any file that lies there."""
OWN_SOURCES: dict[tuple[str, str], Callable[["Feeder"], Any]] = {
    ("TillerApplyFaceID", "ip_adapter"): lambda feeder: feeder.graph.add(
        "TillerLoadIPAdapter", ip_adapter_name="tiller_standin_faceid_sd15.safetensors"
    )[0],
    ("TillerSparseControl", "control_net"): lambda feeder: feeder.graph.add(
        "TillerLoadControl", control_name="tiller_standin_sparse_sd15.safetensors"
    )[0],
    ("TillerInstructPix2Pix", "model"): lambda feeder: feeder.graph.add(
        "CheckpointLoaderSimple", ckpt_name="tiller_standin_ip2p_sd15.safetensors"
    )[0],
    ("TillerRevision", "positive"): lambda feeder: feeder.sdxl_conditioning(),
    ("TillerRevision", "negative"): lambda feeder: feeder.sdxl_conditioning(),
}
"""Node and socket that want something else than the socket's type says."""
LEFT_OPEN = frozenset({"VAE", "BOUNDING_BOX", "HOOKS"})
"""Optional sockets that only some files need, or that turn a node to other work."""
LEFT_OUT = {("TillerApplyIPAdapterAdvanced", "composition_prompt")}
"""Node and socket that the small stand-in models have nothing for: no layers of the layout."""


class Feeder:
    """Builds the graph of one node with everything that it needs."""

    def __init__(self, server: HostServer, **picture: Any) -> None:
        self.server, self.graph = server, Graph()
        self.picture = self.graph.add("TestImage", **{"width": 64, "height": 64, **picture})
        self._count = 0

    def count(self) -> int:
        self._count += 1
        return self._count

    def sdxl_conditioning(self) -> Any:
        """Random conditioning of SDXL's widths."""
        return self.graph.add("TestConditioning", width=2048, pooled_width=1280, seed=self.count())[0]

    def node(self, name: str, **changes: Any) -> Node:
        """Add the node with its default widgets and something in every socket."""
        inputs = self.server.defaults(name)
        if {"weights", "resolution"} <= inputs.keys():
            inputs |= SMALL
        inputs |= FEW.get(name, {})
        for group in ("required", "optional"):
            for socket, (kind, *rest) in self.server.object_info[name]["input"].get(group, {}).items():
                if kind == "COMFY_AUTOGROW_V3":
                    inner = next(iter(rest[0]["template"]["input"]["required"].values()))[0]
                    prefix = rest[0]["template"]["prefix"]
                    inputs |= {f"{socket}.{prefix}{i}": SOURCES[inner](self) for i in range(2)}
                elif (name, socket) in LEFT_OUT:
                    continue
                elif kind in SOURCES and not (group == "optional" and kind in LEFT_OPEN):
                    inputs[socket] = OWN_SOURCES.get((name, socket), SOURCES[kind])(self)
                elif kind == "STRING" and socket == "text":
                    inputs[socket] = TEXT
        return self.graph.add(name, **{**inputs, **changes})

    def probes(self, name: str, node: Node) -> list[Node]:
        """A probe on every output of the node."""
        outputs = self.server.object_info[name]["output"]
        return [self.graph.add("TestProbe", value=node[i]) for i in range(len(outputs))]
