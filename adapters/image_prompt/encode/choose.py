"""Which file of a user's folder holds the encoder that an adapter wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..encoders import ENCODERS, FOLDER, Shapes, describe_file, how_to_get
from ..records import AdapterSpec, EncoderKind, IPAdapter

AUTO = "auto"
STANDIN = "tiller_standin"
"""In the metadata of a stand-in: two layers in the real encoder's widths, to try a graph with."""


@dataclass(frozen=True)
class Candidate:
    """A file that was looked at: its name, and its header's shapes, or why it has none to look at."""

    name: str
    shapes: Shapes | None
    unread: str = ""
    standin: bool = False

    @property
    def what(self) -> str:
        """What the file is, in a few words."""
        return self.unread if self.shapes is None else describe_file(self.shapes, self.standin)


def named(spec: AdapterSpec, name: str) -> str:
    """An adapter by its file and what it is."""
    return f"{name} ({spec.variant}, {spec.base})"


def wanted_kind(adapter: IPAdapter) -> EncoderKind:
    """The encoder that an adapter's projector reads. Raises ValueError for one that reads a face alone."""
    embeds = adapter.spec.embeds
    if embeds is None:
        raise ValueError(
            f"An image encoder is for adapters that read pictures, but {named(adapter.spec, adapter.name)} "
            "reads the vector of a face alone. Use Analyze Faces and Apply FaceID with it."
        )
    return embeds.encoder


def check_belongs(adapter: IPAdapter, kind: EncoderKind, name: str) -> None:
    """Raises ValueError where the adapter wants another encoder than the file `name` of that kind."""
    wanted = wanted_kind(adapter)
    if kind != wanted:
        raise ValueError(
            f"{named(adapter.spec, adapter.name)} needs the image encoder {wanted}, but {name} is {kind}. "
            f"{how_to_get(wanted)} With encoder_name on auto, Load Image Encoder then finds it."
        )


def choose(candidates: Sequence[Candidate], adapter: IPAdapter | None) -> Candidate:
    """The file with the adapter's encoder, or without an adapter the only encoder there is.

    Of several that fit, the first one by name is taken, and a stand-in only where there is nothing else.

    Raises:
        FileNotFoundError: where no file fits, listing each with what it is.
        ValueError: without an adapter, where files of several encoders are there.
    """
    kinds = {candidate.name: candidate.what for candidate in candidates}
    known = sorted(
        (candidate for candidate in candidates if candidate.what in ENCODERS),
        key=lambda candidate: (candidate.standin, candidate.name.lower()),
    )
    wanted = None if adapter is None else wanted_kind(adapter)
    fitting = [candidate for candidate in known if wanted in (None, candidate.what)]
    looked_at = "; ".join(f"{name}: {what}" for name, what in kinds.items())
    listing = f"models/{FOLDER} holds {looked_at or 'no files'}"
    if not fitting and adapter is not None and wanted is not None:
        raise FileNotFoundError(
            f"{named(adapter.spec, adapter.name)} needs the image encoder {wanted}; {listing}. "
            f"{how_to_get(wanted)}"
        )
    if not fitting:
        raise FileNotFoundError(f"An image encoder is needed; {listing}. {how_to_get('CLIP-ViT-H')}")
    if len({candidate.what for candidate in fitting}) > 1:
        raise ValueError(
            f"Load Image Encoder needs to know which of several encoders to load; {listing}. Connect the "
            "adapter to ip_adapter, or choose a file in encoder_name."
        )
    return fitting[0]
