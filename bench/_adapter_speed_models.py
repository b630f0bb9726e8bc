"""Models, random adapters and a timed sampling for the measurement of adapters."""

from __future__ import annotations

import importlib
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import torch

CHANNELS = 320
LOOKS = ("item", "tolist", "__bool__", "__float__", "__int__", "__index__")
"""What asks for a tensor's value, for which the processor must wait."""


class Place(NamedTuple):
    """Where the measurement runs: `full` for the published widths, else 32 channels."""

    device: torch.device
    dtype: torch.dtype
    full: bool


class Adapter(NamedTuple):
    """What one variant injects: `count` adapters of `tokens`; a mask; a window of steps."""

    tokens: int
    count: int
    masked: bool = False
    window: bool = False


def model_of(name: str, place: Place) -> Any:
    """A MODEL with every block of the family, of random weights: "sd15" or "sdxl_full"."""
    small = importlib.import_module("tiller.tests.host.small_unets")
    configuration = {**small.CONFIGS[name], "model_channels": small.WIDTH}
    if place.full:
        heads = {"num_heads": 8} if name == "sd15" else {"num_head_channels": 64}
        configuration |= {"model_channels": CHANNELS, **heads}
    return small.build(name, configuration, place.device, place.dtype)


class Drawn:
    """Random weights of three adapters for every cross-attention of a model, and injections made of them."""

    def __init__(self, model: Any, width: int, dtype: torch.dtype, most: int = 3) -> None:
        apply = importlib.import_module("tiller.adapters.injection.apply")
        self._kv = importlib.import_module("tiller.adapters.injection.keys_values")
        self._tokens = importlib.import_module("tiller.adapters.injection.tokens").Tokens
        self._kind = importlib.import_module("tiller.adapters.injection.unet").UNetInjection
        self._generator, self._width = torch.Generator().manual_seed(3), width
        self.sizes = apply.unet_sites(model)
        self._adapters = [
            {site: self._projection(size, dtype) for site, size in self.sizes.items()} for _ in range(most)
        ]

    def _drawn(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self._generator) / shape[-1] ** 0.5

    def _projection(self, size: tuple[int, int], dtype: torch.dtype) -> Any:
        return self._kv.Projection(self._drawn(*size).to(dtype), self._drawn(*size).to(dtype))

    def injections(self, adapter: Adapter) -> list[Any]:
        """`adapter.count` injections; each adapter has its own weights, shared with other variants."""
        mask = None
        if adapter.masked:
            mask = torch.zeros(1, 1, 512, 512)
            mask[..., :256] = 1.0
        start = 0.001 if adapter.window else 0.0
        found = []
        for projections in self._adapters[: adapter.count]:
            shape = 1, adapter.tokens, self._width
            tokens = self._tokens(self._drawn(*shape), self._drawn(*shape))
            terms = {
                site: self._kv.Term(projection, tokens, (0.8,)) for site, projection in projections.items()
            }
            found.append(self._kind(terms, start=start, mask=mask))
        return found


def ours(model: Any, found: list[Any]) -> Any:
    apply = importlib.import_module("tiller.adapters.injection.apply")
    for injection in found:
        model = apply.inject(model, injection)
    return model


class Sampling(NamedTuple):
    """One sampling to measure: a model, its conditioning, the latent's side and the device."""

    model: Any
    positive: Any
    negative: Any
    side: int
    device: torch.device

    def run(self, steps: int) -> torch.Tensor:
        sample = importlib.import_module("comfy.sample")
        latent = torch.zeros(1, 4, self.side, self.side)
        noise = sample.prepare_noise(latent, 11)
        with torch.inference_mode():
            return sample.sample(
                self.model, noise, steps, 4.0, "euler", "normal", self.positive, self.negative, latent,
                disable_pbar=True, seed=11,
            )  # fmt: skip

    def call(self) -> Callable[[], float]:
        """One call of the model, as the second step of a run makes it, which gives its seconds."""
        kept: list[tuple[Any, dict[str, Any]]] = []

        def keep(apply_model: Any, given: dict[str, Any]) -> torch.Tensor:
            kept.append((apply_model, given))
            return apply_model(given["input"], given["timestep"], **given["c"])

        clone = self.model.clone()
        clone.set_model_unet_function_wrapper(keep)
        self._replace(model=clone).run(steps=2)
        apply_model, given = kept[1]

        def seconds() -> float:
            start = self._now()
            with torch.inference_mode():
                apply_model(given["input"], given["timestep"], **given["c"])
            return self._now() - start

        return seconds

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def looks(self) -> int:
        """How often a step of the sampler asks for a tensor's value."""

        def counted(steps: int) -> int:
            with counted_looks() as found:
                self.run(steps=steps)
            return sum(found.values())

        return counted(2) - counted(1)


@contextmanager
def counted_looks() -> Any:
    """Counts the calls, by name, that make the processor wait for a tensor's value."""
    found: Counter[str] = Counter()

    def counting(name: str) -> Any:
        original = getattr(torch.Tensor, name)

        def call(self: torch.Tensor, *given: Any, **more: Any) -> Any:
            found[name] += 1
            return original(self, *given, **more)

        return call

    with mock.patch.multiple(torch.Tensor, **{name: counting(name) for name in LOOKS}):
        yield found


def waits(sampling: Sampling) -> int:
    """How often torch itself says that a step waits for the device; 0 where there is no device."""
    if sampling.device.type != "cuda":
        return 0

    def said(steps: int) -> int:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            sampling.run(steps=steps)
        return sum("synchroniz" in str(one.message) for one in found)

    torch.cuda.set_sync_debug_mode("warn")
    try:
        return said(2) - said(1)
    finally:
        torch.cuda.set_sync_debug_mode("default")


class Kept(NamedTuple):
    """Bytes of an adapter at its published widths: its layers' weights, and what is kept for a run."""

    weights: int
    run: int


def kept(sizes: dict[Any, tuple[int, int]], tokens: int, adapter_type: torch.dtype = torch.float16) -> Kept:
    """For a run with CFG of an adapter with one picture; `sizes` are those of the narrow model."""
    kv = importlib.import_module("tiller.adapters.injection.keys_values")
    held = importlib.import_module("tiller.adapters.injection.tokens")
    small = importlib.import_module("tiller.tests.host.small_unets")
    wide = {site: (c * CHANNELS // small.WIDTH, x) for site, (c, x) in sizes.items()}
    width = next(iter(wide.values()))[1]
    each = held.Tokens(torch.ones(1, tokens, width), torch.ones(1, tokens, width))
    one = {size: torch.zeros(size, dtype=adapter_type) for size in set(wide.values())}
    terms = {site: kv.Term(kv.Projection(one[size], one[size]), each, (0.8,)) for site, size in wide.items()}
    table = kv.Table(terms, torch.device("cpu"), adapter_type)
    for site in table.sites:
        table.rows(site, kv.Rows.of((0, 1), 2))
    weights = sum(2 * one[size].nbytes for size in wide.values())
    return Kept(weights, table.nbytes)
