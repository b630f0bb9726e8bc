"""Image prompts in the real server: what a graph gives does not depend on what ran before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiller.tests.host.client import HostServer
from tiller.tests.host.feeding import SOURCES, Feeder

ACTING = {"weight_type": "linear", "start_percent": 0.0, "end_percent": 1.0, "embeds_scaling": "V only"}


class Bench(Feeder):
    """Builds graphs of pictures over one small checkpoint, with one adapter."""

    def __init__(self, server: HostServer) -> None:
        super().__init__(server)
        self.loaded = self.graph.add("CheckpointLoaderSimple", ckpt_name="tiller_standin_sd15.safetensors")
        self.adapter = SOURCES["TILLER_IP_ADAPTER"](self)
        self.positive, self.negative = SOURCES["CONDITIONING"](self), SOURCES["CONDITIONING"](self)

    def prompt(self, seed: int) -> Any:
        """An image prompt of a picture of its own."""
        self.picture = self.graph.add("TestImage", width=64, height=64, seed=seed)
        return SOURCES["TILLER_IMAGE_PROMPT"](self)

    def applied(self, model: Any, prompt: Any, weight: float) -> Any:
        return self.graph.add(
            "TillerApplyIPAdapter",
            model=model,
            ip_adapter=self.adapter,
            image_prompt=prompt,
            weight=weight,
            **ACTING,
        )

    def shown(self, model: Any, positive: Any = None) -> str:
        """A probe on the picture that the model makes."""
        sampled = self.graph.add(
            "KSampler",
            model=model,
            positive=positive or self.positive,
            negative=self.negative,
            latent_image=SOURCES["LATENT"](self),
            seed=3,
            steps=2,
            cfg=4.0,
            sampler_name="euler",
            scheduler="normal",
            denoise=1.0,
        )
        decoded = self.graph.add("VAEDecode", samples=sampled[0], vae=self.loaded[2])
        return self.graph.add("TestProbe", value=decoded[0])

    def run(self, *probes: str) -> list[np.ndarray]:
        result = self.server.run(self.graph)
        assert result.ok, (result.errors, result.node_errors)
        return [self.server.array(result, probe) for probe in probes]


@pytest.fixture
def bench(server: HostServer) -> Bench:
    return Bench(server)


def test_a_changed_second_of_two_gives_what_a_fresh_server_gives(bench: Bench) -> None:
    first = bench.applied(bench.loaded[0], bench.prompt(1), 0.8)
    second = bench.applied(first[0], bench.prompt(2), 0.5)
    probes = bench.shown(bench.loaded[0]), bench.shown(first[0]), bench.shown(second[0])
    plain, one, both = bench.run(*probes)
    assert not np.array_equal(plain, one)
    assert not np.array_equal(one, both)
    bench.graph = bench.graph.change(second, weight=1.0)
    changed = bench.run(*probes)
    bench.server.client.clear_cache()
    fresh = bench.run(*probes)
    for now, wanted in zip(changed, fresh, strict=True):
        np.testing.assert_array_equal(now, wanted)
    np.testing.assert_array_equal(fresh[0], plain)
    np.testing.assert_array_equal(fresh[1], one)
    assert not np.array_equal(fresh[2], both)


def test_hooks_go_through_the_hosts_own_nodes(bench: Bench) -> None:
    model, prompt = bench.loaded[0], bench.prompt(1)
    hooks = bench.graph.add(
        "TillerIPAdapterHook",
        model=model,
        ip_adapter=bench.adapter,
        image_prompt=prompt,
        weight=0.8,
        **ACTING,
    )
    pair = bench.graph.add(
        "PairConditioningSetProperties",
        positive_NEW=bench.positive,
        negative_NEW=bench.negative,
        strength=1.0,
        set_cond_area="default",
        hooks=hooks[0],
    )
    plain = bench.shown(model)
    applied = bench.shown(bench.applied(model, prompt, 0.8)[0])
    positive_only = bench.shown(model, pair[0])
    bench.negative = pair[1]
    hooked = bench.shown(model, pair[0])
    without, wanted, half, got = bench.run(plain, applied, positive_only, hooked)
    np.testing.assert_allclose(got, wanted, atol=1e-4)
    assert np.abs(wanted - without).max() > 1e-2
    assert np.abs(half - wanted).max() > 1e-3


def test_regions_of_one_whole_mask_are_the_picture_itself(bench: Bench) -> None:
    model, prompt = bench.loaded[0], bench.prompt(1)
    whole = bench.graph.add("SolidMask", value=1.0, width=33, height=21)
    none = bench.graph.add("SolidMask", value=0.0, width=50, height=70)
    regions = bench.graph.add(
        "TillerImagePromptRegions",
        model=model,
        ip_adapter=bench.adapter,
        weights="0.8",
        overlap="share",
        **ACTING,
        **{
            "image_prompts.image_prompt0": prompt,
            "image_prompts.image_prompt1": bench.prompt(2),
            "masks.mask0": whole[0],
            "masks.mask1": none[0],
        },
    )
    got, wanted = bench.run(bench.shown(regions[0]), bench.shown(bench.applied(model, prompt, 0.8)[0]))
    np.testing.assert_array_equal(got, wanted)
