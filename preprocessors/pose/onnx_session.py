"""Networks in ONNX files: what theirs takes and gives, checked, and run by onnxruntime."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ...adapters.identify import UnknownWeightsError
from ..weight_files import WEIGHT_FILES, WeightFile

Size = tuple[int, int]
Dimensions = tuple[int | None, ...]
"""Lengths of a tensor, None where a file leaves one open."""


@dataclass(frozen=True)
class OnnxKind:
    """What the file of a network takes and gives.

    `key` names its row of `WEIGHT_FILES`, `widget` the input that chooses the file. It takes one batch
    (B,3,height,width) float32, of `size` where the file leaves it open, and gives arrays (B, ...) of the
    lengths that `results` tells for the size.
    """

    key: str
    widget: str
    size: Size
    results: Callable[[Size], tuple[Dimensions, ...]]

    @property
    def file(self) -> WeightFile:
        return WEIGHT_FILES[self.key]


class OnnxNetwork(Protocol):
    """A batch (B,3,height,width) float32 of the network's size -> its arrays for the whole batch."""

    @property
    def size(self) -> Size: ...

    def __call__(self, batch: np.ndarray) -> Sequence[np.ndarray]: ...


class OnnxSession:
    """A session of onnxruntime over a file of this kind, and the provider that it runs on.

    Raises:
        UnknownWeightsError: for a network with other inputs or outputs, `known` kinds being named.
    """

    def __init__(self, session: Any, kind: OnnxKind, name: str, known: Sequence[OnnxKind] = ()) -> None:
        self._session, self._kind, self._name = session, kind, name
        size = _size(session, kind)
        if size is None:
            raise UnknownWeightsError(_refusal(session, kind, name, known))
        self.size: Size = size
        self._one_by_one = session.get_inputs()[0].shape[0] == 1

    @property
    def provider(self) -> str:
        """The provider that computes, the first of those that the session has."""
        return self._session.get_providers()[0]

    def __call__(self, batch: np.ndarray) -> list[np.ndarray]:
        """Batch (B,3,height,width) float32 -> arrays (B, ...), one by one where the file wants it.

        Raises:
            UnknownWeightsError: when the arrays have other shapes than the kind's.
        """
        name = self._session.get_inputs()[0].name
        parts = np.split(batch, len(batch)) if self._one_by_one else [batch]
        made = [self._session.run(None, {name: part}) for part in parts]
        arrays = [np.concatenate(each) for each in zip(*made, strict=True)]
        wanted = self._kind.results(self.size)
        for array, lengths in zip(arrays, wanted, strict=True):
            if len(array) != len(batch) or not _fits(array.shape[1:], lengths):
                raise UnknownWeightsError(
                    f"{self._kind.file.title} needs a network that gives {_said(wanted)} per picture, got "
                    f"{_said([one.shape[1:] for one in arrays])} from {self._name}. {_again(self._kind)}"
                )
        return arrays


def _size(session: Any, kind: OnnxKind) -> Size | None:
    """Height and width of what the network takes; None when it is of another kind."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
        return None
    batch, channels, *sides = inputs[0].shape
    if (
        (isinstance(batch, int) and batch != 1)
        or channels not in (3, None)
        or any(side == 0 for side in sides)
    ):
        return None
    height, width = (
        side if isinstance(side, int) else usual for side, usual in zip(sides, kind.size, strict=True)
    )
    wanted = kind.results((height, width))
    if len(outputs) != len(wanted):
        return None
    fits = all(_fits(output.shape[1:], lengths) for output, lengths in zip(outputs, wanted, strict=True))
    return (height, width) if fits else None


def _fits(shape: Sequence[Any], lengths: Dimensions) -> bool:
    return len(shape) == len(lengths) and all(
        one == other or not isinstance(one, int) for one, other in zip(shape, lengths, strict=True)
    )


def _refusal(session: Any, kind: OnnxKind, name: str, known: Sequence[OnnxKind]) -> str:
    others = [other.file for other in known if other is not kind and _size(session, other) is not None]
    held = f", which holds {others[0].title} ({others[0].names[0]})" if others else ""
    height, width = kind.size
    return (
        f"{kind.file.title} needs a network like {kind.file.names[0]}, which takes (1, 3, {height}, {width}) "
        f"in 32 bit and gives {_said(kind.results(kind.size))} per picture; got {name}{held}: it takes "
        f"{_listed(session.get_inputs())} and gives {_listed(session.get_outputs())}. {_again(kind)}"
    )


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(f"{one.name} ({', '.join(map(str, one.shape))}) {one.type}" for one in values[:4])


def _said(shapes: Sequence[Sequence[Any]]) -> str:
    return " and ".join(f"({', '.join(map(str, shape))})" for shape in shapes)


def _again(kind: OnnxKind) -> str:
    return f"Get {kind.file.names[0]} from {kind.file.page}, or choose another file in {kind.widget}."
