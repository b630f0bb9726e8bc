"""onnxruntime and its providers: what is there, what fits the host's device, what to say when it does not."""

from typing import Any

import torch

CPU_PROVIDER = "CPUExecutionProvider"
GPU_PROVIDERS = {
    "cuda": ("CUDAExecutionProvider", "ROCMExecutionProvider", "MIGraphXExecutionProvider"),
    "privateuseone": ("DmlExecutionProvider",),
    "xpu": ("OpenVINOExecutionProvider",),
    "mps": ("CoreMLExecutionProvider",),
}
"""What runs on the host's device, by torch's name for it; ROCm calls itself cuda."""


def load_onnxruntime(needed_by: str) -> Any:
    """onnxruntime, which the pack neither brings nor installs.

    Raises:
        ImportError: saying how to install it.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            f"{needed_by} needs onnxruntime, got {error}. Install it with the Python that runs ComfyUI: pip "
            "install onnxruntime (for the processor) or pip install onnxruntime-gpu (for NVIDIA). Then start "
            "ComfyUI again."
        ) from error
    return onnxruntime


def fitting_providers(runtime: Any, device: torch.device) -> list[Any]:
    """The providers to try in turn: those of the host's device, then the processor."""
    offered = runtime.get_available_providers()
    wanted = [name for name in GPU_PROVIDERS.get(device.type, ()) if name in offered]
    return [on_device(name, device) for name in wanted] + [CPU_PROVIDER]


def on_device(name: str, device: torch.device) -> Any:
    """A provider as onnxruntime wants it named, with the number of the device where there may be several."""
    return (name, {"device_id": device.index or 0}) if device.type == "cuda" else name


def open_session(runtime: Any, path: str, providers: list[Any]) -> Any:
    """A session over the file, on as many threads as torch uses; warnings of the file are not shown."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return runtime.InferenceSession(path, options, providers=providers)


def hidden_gpu(what: str, runtime: Any) -> str:
    """What to say when `what` runs on the processor though the host has a GPU."""
    return (
        f"{what} runs on the processor, though the host has a GPU: onnxruntime "
        f"{runtime.__version__} offers {', '.join(runtime.get_available_providers())} here. On NVIDIA "
        "install onnxruntime-gpu; where both are installed, the one for the processor hides it, and pip "
        f"install --force-reinstall --no-deps onnxruntime-gpu=={runtime.__version__} puts it back."
    )
