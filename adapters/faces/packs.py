"""Packs of face models: folders with a detector and a recogniser, known by what goes in and comes out."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

Role = Literal["detector", "recogniser"]

PUBLISHED = ("buffalo_l", "antelopev2")
"""Packs that adapters were trained with: FaceID and PhotoMaker with the first, the others with the second."""

PAGE = "https://github.com/deepinsight/insightface/tree/master/model_zoo"
LICENCE = "the published packs of insightface are for non-commercial research only"
DEEPEST = 3
"""How many folders below a root a pack may lie: models/<pack>/<pack> is the deepest that people have."""

WHAT: dict[Role, str] = {
    "detector": "a detector (SCRFD or RetinaFace: a picture in, scores, boxes and five points out)",
    "recogniser": "a recogniser (ArcFace: 112 x 112 pixels in, 512 numbers out)",
}
RECOGNISERS = {53: "IResNet-50", 103: "IResNet-100"}
"""Convolutions -> the network; buffalo_l has the first, antelopev2 the second."""

Read = Callable[[Path], "Interface | str"]


class Interface(NamedTuple):
    """What a network takes and gives: the lengths of its tensors, None where open, and its convolutions."""

    inputs: tuple[tuple[int | None, ...], ...]
    outputs: tuple[tuple[int | None, ...], ...]
    convolutions: int


class MissingPackError(FileNotFoundError):
    """No folder of that name has all that a pack needs; says what is missing and where it was looked."""


@dataclass(frozen=True)
class Pack:
    """The two files of a pack, its name, and what its recogniser is."""

    name: str
    folder: Path
    detector: Path
    recogniser: Path
    network: str


def pack_names(roots: Iterable[Path]) -> list[str]:
    """The folders with ONNX files below the roots, published names first; published ones not there last."""
    found = dict.fromkeys(name for name, _ in _folders(roots))
    here = [name for name in PUBLISHED if name in found]
    others = sorted(name for name in found if name not in PUBLISHED)
    return [*here, *others, *(name for name in PUBLISHED if name not in found)]


def find_pack(name: str, roots: Sequence[Path], read: Read | None = None) -> Pack:
    """The pack of that name: the first folder called so below the roots that has one of each file.

    models/<name> comes before <name>, and a folder <name> inside <name> after it. What a file is, is read
    from its inputs and outputs; files that are neither a detector nor a recogniser do not matter.

    Raises:
        MissingPackError: naming the file that is missing, and each folder with what is in it.
        ValueError: when a folder has two detectors or two recognisers.
    """
    looked: list[str] = []
    lacking: list[set[Role]] = []
    for folder in [folder for known, folder in _folders(roots) if known == name]:
        roles, others = _look_into(folder, read or read_interface)
        missing: set[Role] = {role for role in WHAT if not roles[role]}
        if not missing:
            (detector, _), (recogniser, interface) = _only("detector", roles), _only("recogniser", roles)
            return Pack(name, folder, detector, recogniser, recogniser_name(interface))
        lacking.append(missing)
        seen = [f"{path.name} is the {role}" for role in WHAT for path, _ in roles[role]] + others
        looked.append(f"{folder} ({'; '.join(seen)})")
    places = [place for root in roots for place in _places(root, name) if not place.is_dir()]
    looked += [f"{place} (no such folder)" for place in places]
    needed = min(lacking, key=len, default=set(WHAT))
    missing_files = " and ".join(WHAT[role] for role in WHAT if role in needed)
    raise MissingPackError(
        f"Face analysis with {name} needs {missing_files}, found none. Looked in: {', '.join(looked)}. Get "
        f"{name if name in PUBLISHED else 'a pack such as ' + PUBLISHED[0]} from {PAGE} ({LICENCE}), unpack "
        f"it into {_places(roots[0], name)[0] if roots else 'models/insightface/models'}, or choose another "
        "pack. Nothing is downloaded."
    )


def role_of(interface: Interface) -> Role | None:
    """What a network of a pack is for; None for landmarks, age, face swapping and whatever else."""
    if len(interface.inputs) != 1 or len(interface.inputs[0]) != 4:
        return None
    _, channels, height, width = interface.inputs[0]
    if channels not in (3, None):
        return None
    if len(interface.outputs) == 1:
        is_arcface = (height, width) == (112, 112) and interface.outputs[0][-1:] == (512,)
        return "recogniser" if is_arcface else None
    levels, rest = divmod(len(interface.outputs), 3)
    if rest or levels not in (3, 5):
        return None
    lasts = [shape[-1] if shape else 0 for shape in interface.outputs]
    wanted = [1] * levels + [4] * levels + [10] * levels
    return "detector" if all(one in (None, other) for one, other in zip(lasts, wanted, strict=True)) else None


def recogniser_name(interface: Interface) -> str:
    """What a recogniser is, told by its convolutions."""
    known = RECOGNISERS.get(interface.convolutions)
    return known or f"a network of {interface.convolutions} convolutions"


def read_interface(path: Path) -> Interface | str:
    """What the network of an ONNX file takes and gives, or what is wrong with the file.

    Raises ImportError when the library that reads such files is missing.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise ImportError(missing_library(str(error))) from error
    try:
        graph = onnx.load_model(str(path), load_external_data=False).graph
    except (DecodeError, OSError, ValueError) as error:
        return f"cut off, damaged or no ONNX file ({type(error).__name__})"
    if not graph.output:
        return "no ONNX file: nothing comes out of it"
    held = {tensor.name for tensor in graph.initializer}
    return Interface(
        tuple(_lengths(value) for value in graph.input if value.name not in held),
        tuple(_lengths(value) for value in graph.output),
        sum(node.op_type == "Conv" for node in graph.node),
    )


def missing_library(got: str) -> str:
    """What to say when insightface, or a library of it, is not there or too old."""
    return (
        f"Face analysis needs insightface 2.1 or newer and onnxruntime, got {got}. Install them with the "
        "Python that runs ComfyUI: pip install --upgrade insightface. It brings onnxruntime for the "
        "processor; for NVIDIA install onnxruntime-gpu after it. Then start ComfyUI again."
    )


def _lengths(value: Any) -> tuple[int | None, ...]:
    return tuple(one.dim_value if one.dim_value > 0 else None for one in value.type.tensor_type.shape.dim)


def _look_into(folder: Path, read: Read) -> tuple[dict[Role, list[tuple[Path, Interface]]], list[str]]:
    """The files of a folder by what they are, and a few words on each of the others."""
    roles: dict[Role, list[tuple[Path, Interface]]] = {role: [] for role in WHAT}
    others: list[str] = []
    for path in _onnx_files(folder):
        interface = read(path)
        if isinstance(interface, str):
            others.append(f"{path.name} is {interface}")
            continue
        role = role_of(interface)
        if role is None:
            others.append(f"{path.name} is something else")
        else:
            roles[role].append((path, interface))
    return roles, others


def _only(role: Role, roles: dict[Role, list[tuple[Path, Interface]]]) -> tuple[Path, Interface]:
    first, *more = roles[role]
    if more:
        names = ", ".join(path.name for path, _ in roles[role])
        raise ValueError(
            f"A face pack needs one {role}, got {names} in {first[0].parent}: their results cannot be mixed. "
            "Leave one of them there and move the others into a folder of their own, each with both files."
        )
    return first


def _folders(roots: Iterable[Path]) -> list[tuple[str, Path]]:
    """Every folder with ONNX files, and its name; in the order in which packs of one name are tried.

    A root itself counts when two such files lie in it: one alone belongs to other packs.
    """
    found: list[tuple[str, Path]] = []
    for root in roots:
        here: list[tuple[tuple[bool, int, str], str, Path]] = []
        for folder in _below(root, DEEPEST):
            if len(_onnx_files(folder)) >= (2 if folder == root else 1):
                parts = folder.relative_to(root).parts
                rank = (parts[:1] != ("models",), len(parts), str(folder))
                here.append((rank, folder.name, folder))
        found += [(name, folder) for _, name, folder in sorted(here)]
    return found


def _below(folder: Path, levels: int) -> list[Path]:
    """A folder and those below it, not deeper than `levels`; what cannot be opened is left out."""
    try:
        inner = sorted(path for path in folder.iterdir() if path.is_dir()) if levels else []
    except OSError:
        inner = []
    return [folder, *(deeper for path in inner for deeper in _below(path, levels - 1))]


def _onnx_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".onnx" and path.is_file())
    except OSError:
        return []


def _places(root: Path, name: str) -> list[Path]:
    """Where people have a pack of that name."""
    inner = [root / "models" / name, root / name]
    return inner + [place / name for place in inner]
