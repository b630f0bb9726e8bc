"""Packs of face models in the host: found in its folders, opened, and given up when it wants the room."""

import logging
import os
from pathlib import Path
from typing import Any, Literal, get_args

import comfy.model_management as management
import folder_paths
import torch

from ...preprocessors._host import UnreadableWeightsError, complaint_of
from ...preprocessors.sessions._host import make_room, session_patcher
from ...preprocessors.sessions.runtime import (
    CPU_PROVIDER,
    fitting_providers,
    hidden_gpu,
    load_onnxruntime,
    on_device,
    open_session,
)
from ..progress._host import report_images
from .analysis import Search, analyze, describe
from .networks import InsightFaceNetworks
from .packs import LICENCE, Interface, Pack, find_pack, pack_names, read_interface
from .records import Faces

FOLDER = "insightface"

ProviderChoice = Literal["auto", "CPU", "CUDA", "ROCm", "DirectML", "OpenVINO"]
PROVIDER_CHOICES: tuple[ProviderChoice, ...] = get_args(ProviderChoice)
PROVIDERS: dict[str, tuple[str, ...]] = {
    "CPU": (CPU_PROVIDER,),
    "CUDA": ("CUDAExecutionProvider",),
    "ROCm": ("ROCMExecutionProvider", "MIGraphXExecutionProvider"),
    "DirectML": ("DmlExecutionProvider",),
    "OpenVINO": ("OpenVINOExecutionProvider",),
}
"""What each choice means to onnxruntime. CoreML is not among them: it may end the process on a detector whose
size is open (deepinsight/insightface: model_zoo/model_zoo.py), so on a Mac the processor finds the faces."""

logger = logging.getLogger("tiller")


class FaceAnalysis:
    """A pack of face models in the host; its sessions go when the host unloads it, and open again when used.

    Raises:
        ImportError: onnxruntime or insightface is not installed.
        ValueError: onnxruntime lacks the chosen provider, or cannot start it.
        UnreadableWeightsError: a file cannot be opened.
    """

    def __init__(self, pack: Pack, provider: ProviderChoice = "auto") -> None:
        self.pack = pack
        self._provider: ProviderChoice = provider
        self._patcher: Any = None
        self.networks()

    @property
    def names(self) -> tuple[str, str]:
        """Of the pack and of its recogniser."""
        return self.pack.name, self.pack.network

    def networks(self) -> InsightFaceNetworks:
        """The two networks, told to the host's manager as in use."""
        if self._patcher is None or self._patcher.model.session is None:
            self._patcher = _patcher(self.pack, self._provider)
        networks = self._patcher.model.session
        management.load_models_gpu([self._patcher])
        return networks


def installed_packs() -> list[str]:
    """What a loader offers: the packs found, then the published ones that were not."""
    return pack_names(_roots())


def load_pack(name: str, provider: ProviderChoice = "auto") -> tuple[FaceAnalysis, str]:
    """The pack of that name and a text: which files, which recogniser, what they run on.

    Raises:
        MissingPackError: naming the file that is missing and every place that was looked at.
        ValueError, ImportError, UnreadableWeightsError: as `FaceAnalysis`, or for an ambiguous folder.
    """
    pack = find_pack(name, _roots(), _read)
    analysis = FaceAnalysis(pack, provider)
    return analysis, _about(analysis)


def _roots() -> list[Path]:
    """The folders that packs lie below, told to the host with the place people use."""
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))
    return [Path(path) for path in folder_paths.get_folder_paths(FOLDER)]


def _read(path: Path) -> Interface | str:
    """What a file takes and gives, or what is wrong with it at first sight."""
    complaint = complaint_of(str(path))
    return complaint.removeprefix("which is ") if complaint else read_interface(path)


def _patcher(pack: Pack, choice: ProviderChoice) -> Any:
    """The host's patcher with both networks open, after the host has made room for them."""
    size = pack.detector.stat().st_size + pack.recogniser.stat().st_size
    make_room(size)
    runtime = load_onnxruntime("Face analysis")
    providers = _providers(runtime, choice, management.get_torch_device())
    networks = InsightFaceNetworks(
        pack,
        _opened(runtime, pack.detector, providers),
        _opened(runtime, pack.recogniser, providers),
        management.throw_exception_if_processing_interrupted,
    )
    if choice != "auto" and not set(networks.providers) <= set(PROVIDERS[choice]):
        raise ValueError(
            f"Face analysis shall run on {choice}, but onnxruntime {runtime.__version__} could not start "
            f"{PROVIDERS[choice][0]} and took {networks.providers[0]}; its message stands in the log. Put "
            "its libraries right, or choose auto or CPU."
        )
    logger.info(
        "Opened the face pack %s in %s; it runs on %s.", pack.name, pack.folder, networks.providers[0]
    )
    return session_patcher(networks, size, on_device=networks.providers[0] != CPU_PROVIDER)


def _providers(runtime: Any, choice: ProviderChoice, device: torch.device) -> list[Any]:
    """The providers to try in turn.

    Raises ValueError when onnxruntime does not offer the chosen one.
    """
    if choice == "CPU" or (choice == "auto" and device.type == "mps"):
        return [CPU_PROVIDER]
    if choice == "auto":
        return fitting_providers(runtime, device)
    offered = runtime.get_available_providers()
    wanted = [name for name in PROVIDERS[choice] if name in offered]
    if not wanted:
        raise ValueError(
            f"Face analysis on {choice} needs {' or '.join(PROVIDERS[choice])}, but onnxruntime "
            f"{runtime.__version__} offers {', '.join(offered)} here. Install the onnxruntime for it (for "
            f"CUDA pip install --force-reinstall --no-deps onnxruntime-gpu=={runtime.__version__}), or "
            "choose auto or CPU."
        )
    return [*(on_device(name, device) for name in wanted), CPU_PROVIDER]


def _opened(runtime: Any, path: Path, providers: list[Any]) -> Any:
    """A session over a file.

    Raises UnreadableWeightsError when onnxruntime refuses the file.
    """
    try:
        return open_session(runtime, str(path), providers)
    except MemoryError:
        raise
    except Exception as error:
        said = str(error).split(":")[-1].strip().split("\n")[0][:200]
        raise UnreadableWeightsError(
            f"Face analysis needs a network that onnxruntime can run, got {path}, which it refuses "
            f"({type(error).__name__}: {said}). Get the pack again, or choose another."
        ) from error


def _about(analysis: FaceAnalysis) -> str:
    """The pack in words."""
    import insightface

    pack, networks = analysis.pack, analysis.networks()
    runtime = load_onnxruntime("Face analysis")
    fixed = networks.fixed_size
    lines = [
        f"{pack.name} from {pack.folder}",
        f"detector: {pack.detector.name}" + (f", at {fixed[0]} x {fixed[1]} alone" if fixed else ""),
        f"recogniser: {pack.recogniser.name} ({pack.network})",
        f"runs on {' and '.join(dict.fromkeys(networks.providers))} (onnxruntime {runtime.__version__}, "
        f"insightface {insightface.__version__})",
        f"licence: {LICENCE}",
    ]
    device = management.get_torch_device()
    if networks.providers[0] == CPU_PROVIDER and device.type not in ("cpu", "mps"):
        lines.append(hidden_gpu("Face analysis", runtime))
        logger.warning(lines[-1])
    return "\n".join(lines)


def analyze_in_host(analysis: FaceAnalysis, image: torch.Tensor, search: Search) -> tuple[Faces, str, int]:
    """The faces of an IMAGE (B,H,W,C) in 0..1, a report, and how many faces there are.

    Tells the host's progress and stops at its interrupt. Raises as `analyze` does.
    """
    found = analyze(image, analysis.networks(), analysis.names, search, report_images())
    return found.faces, describe(found, search), sum(len(faces) for faces in found.faces.found)
