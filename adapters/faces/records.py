"""What a face analysis gives: faces of pictures, which of them are meant, and who they are."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...preprocessors.image import from_uint8, to_uint8
from .align import Template, crop_face

EMBEDDING = 512
"""Length of the vector that an ArcFace network gives for a face."""


@dataclass(frozen=True, eq=False)
class Face:
    """One face of a picture, CPU float32.

    `box` (4,) is (x0, y0, x1, y1) and `points` (5,2) are the eyes, the nose and the corners of the mouth,
    each pair from left to right, in pixels of the picture; `score` in 0..1 says how sure the detector is.
    `embedding` (512,) is the recogniser's vector as it comes, of any length.
    """

    box: Tensor
    points: Tensor
    score: float
    embedding: Tensor

    @property
    def normed(self) -> Tensor:
        """The embedding (512,) at length 1."""
        return self.embedding / torch.linalg.vector_norm(self.embedding)

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        x0, y0, x1, y1 = self.box.tolist()
        return (x1 - x0) * (y1 - y0)


@dataclass(frozen=True, eq=False)
class Faces:
    """Pictures (B,H,W,3) in 0..1, the faces of each from left to right, and the one that is meant in each.

    `chosen` holds one index into `found` per picture. `pack` names the folder of the files that found them,
    `recogniser` what the network behind the embeddings is: embeddings of two recognisers are not comparable.

    Raises ValueError unless every picture has its faces and a chosen one among them.
    """

    pictures: Tensor
    found: tuple[tuple[Face, ...], ...]
    chosen: tuple[int, ...]
    pack: str
    recogniser: str = "unknown"

    def __post_init__(self) -> None:
        counts = len(self.pictures), len(self.found), len(self.chosen)
        if len(set(counts)) != 1 or counts[0] == 0:
            raise ValueError(
                "Faces need at least one picture, and faces and a choice for each; got "
                f"{counts[0]} pictures, faces of {counts[1]} and {counts[2]} choices."
            )
        for number, (faces, index) in enumerate(zip(self.found, self.chosen, strict=True), start=1):
            if not 0 <= index < len(faces):
                raise ValueError(
                    f"Faces need a chosen face in each picture, got face {index} of the {len(faces)} "
                    f"in picture {number}."
                )

    @property
    def faces(self) -> tuple[Face, ...]:
        """The chosen face of each picture."""
        return tuple(faces[index] for faces, index in zip(self.found, self.chosen, strict=True))

    def embeddings(self, normalised: bool) -> Tensor:
        """The vector (B,512) of each chosen face: at length 1, or as the recogniser gives it."""
        return torch.stack([face.normed if normalised else face.embedding for face in self.faces])

    def embedding(self, normalised: bool) -> Tensor:
        """One vector (1,512) for all pictures: the mean, brought back to length 1 when `normalised`.

        For one picture it is that picture's vector, to the bit. Vectors of people as different as can be
        may cancel out; a mean of no length is refused.

        Raises ValueError for such a mean.
        """
        vectors = self.embeddings(normalised)
        if len(vectors) == 1:
            return vectors
        mean = vectors.mean(0, keepdim=True)
        if not normalised:
            return mean
        length = torch.linalg.vector_norm(mean)
        if length < 1e-6:
            raise ValueError(
                f"The mean of {len(vectors)} faces needs a direction, but they cancel each other out: they "
                "are not one person. Use pictures of one person, or fewer of them."
            )
        return mean / length

    def crops(self, size: int, template: Template = "ArcFace") -> Tensor:
        """The chosen face of each picture cut out upright, (B,size,size,3) in 0..1.

        Raises ValueError for a size that the template does not have.
        """
        levels = [
            crop_face(to_uint8(picture[None])[0], face.points.numpy(), size, template)
            for picture, face in zip(self.pictures, self.faces, strict=True)
        ]
        return from_uint8(np.stack(levels))
