"""Reference control restated by hand: hooks on the host's UNet, banks in lists, formulas as published.

It shares nothing with the pack but the noise. Source: Mikubill/sd-webui-controlnet: scripts/hook.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from tiller.adapters.control.reference.blend import reference_noise

SDXL_INPUTS, SDXL_OUTPUTS = [4, 5, 7, 8], [0, 1, 2, 3, 4, 5]
SD_INPUTS, SD_OUTPUTS = [4, 5, 7, 8, 10, 11], [0, 1, 2, 3, 4, 5, 6, 7]


class Asked(NamedTuple):
    """One reference: its latent (1 or R,C,h,w) from the VAE, and the settings as the user gives them."""

    latent: torch.Tensor
    kind: str = "reference_only"
    weight: float = 1.0
    fidelity: float = 0.5
    mode: str = "balanced"
    seed: int = 0

    def style(self, is_sdxl: bool) -> float:
        if self.mode == "control":
            return 1.0
        if self.mode == "prompt":
            return 0.0
        return self.fidelity**3 if is_sdxl else self.fidelity


class ByHand:
    """Hooks on one UNet. `sampled` is a wrapper for the host that writes each reference, then reads."""

    def __init__(self, patcher: Any, asked: Sequence[Asked], is_sdxl: bool) -> None:
        self.model, self.asked, self.is_sdxl = patcher.model, asked, is_sdxl
        self.writing: Asked | None = None
        self.reading, self.uncond = False, []
        self.banks: dict[str, list[Any]] = {}
        self.calls = 0
        self._originals: list[Any] = []
        self._handles: list[Any] = []

    def __enter__(self) -> ByHand:
        unet = self.model.diffusion_model
        named = [(name, m) for name, m in unet.named_modules() if type(m).__name__ == "BasicTransformerBlock"]
        for rank, (name, block) in enumerate(sorted(named, key=lambda pair: -len(pair[1].norm1.weight))):
            self._attention(name, block.attn1, rank / len(named))
        inputs, outputs = (SDXL_INPUTS, SDXL_OUTPUTS) if self.is_sdxl else (SD_INPUTS, SD_OUTPUTS)
        self._statistics("middle", unet.middle_block, 0.0)
        for rank, index in enumerate(inputs):
            self._statistics(f"in{index}", unet.input_blocks[index], 2 * (1 - rank / len(inputs)))
        for rank, index in enumerate(outputs):
            self._statistics(f"out{index}", unet.output_blocks[index], 2 * rank / len(outputs))
        return self

    def __exit__(self, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()
        for module in self._originals:
            del module.forward

    def _blend(self, seen: torch.Tensor, plain: torch.Tensor, styles: list[float]) -> torch.Tensor:
        s = sum(styles) / len(styles)
        c = seen.clone()
        if s > 1e-5:
            c[self.uncond] = plain[self.uncond]
        return s * c + (1 - s) * seen

    def _attention(self, name: str, layer: Any, gate: float) -> None:
        original = layer.forward

        def forward(x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
            if self.writing and self.writing.kind != "reference_adain" and self.writing.weight > gate:
                self.banks.setdefault(name, []).append((x.clone(), self.writing.style(self.is_sdxl)))
            if self.reading and name in self.banks:
                bank = self.banks.pop(name)
                u = original(x, context=torch.cat([x, *(n for n, _ in bank)], dim=1))
                return self._blend(u, original(x, context=x), [s for _, s in bank])
            return original(x)

        layer.forward = forward
        self._originals.append(layer)

    def _statistics(self, name: str, block: Any, gate: float) -> None:
        def hook(_: Any, __: Any, h: torch.Tensor) -> torch.Tensor | None:
            variance, mean = torch.var_mean(h, dim=(2, 3), keepdim=True, correction=0)
            if self.writing and "adain" in self.writing.kind and self.writing.weight > gate:
                style = self.writing.style(self.is_sdxl)
                self.banks.setdefault(name, []).append((mean, variance, style))
            if self.reading and name in self.banks:
                bank = self.banks.pop(name)
                wanted_mean = sum(m for m, _, _ in bank) / len(bank)
                wanted = torch.clamp(sum(v for _, v, _ in bank) / len(bank), min=1e-6) ** 0.5
                seen = (h - mean) / torch.clamp(variance, min=1e-6) ** 0.5 * wanted + wanted_mean
                return self._blend(seen, h, [s for *_, s in bank])
            return None

        self._handles.append(block[-1].register_forward_hook(hook))

    def __call__(self, apply_model: Any, given: dict[str, Any]) -> torch.Tensor:
        x, sigma, c = given["input"], given["timestep"], given["c"]
        self.calls += 1
        per_chunk = x.shape[0] // len(given["cond_or_uncond"])
        marks = [mark for mark in given["cond_or_uncond"] for _ in range(per_chunk)]
        self.uncond = [row for row, mark in enumerate(marks) if mark == 1]
        timestep = float(self.model.model_sampling.timestep(sigma)[0])
        plain = {key: value for key, value in c.items() if key != "control"}
        for asked in self.asked:
            latent = self.model.process_latent_in(asked.latent)
            latent = torch.cat([latent] * (x.shape[0] // latent.shape[0]))
            noise = reference_noise(asked.seed, timestep, (1, *latent.shape[1:]))
            more = {}
            if "c_concat" in c:
                more["c_concat"] = torch.cat([torch.zeros_like(latent[:, :1]), latent], dim=1)
            self.writing = asked
            apply_model(latent + sigma.view(-1, 1, 1, 1) * noise, sigma, **{**plain, **more})
            self.writing = None
        self.reading = True
        result = apply_model(x, sigma, **c)
        self.reading = False
        assert not self.banks
        return result


def sampled_by_hand(of: Any, asked: Sequence[Asked], positive: Any, negative: Any, run: Any) -> torch.Tensor:
    """LATENT that the host's sampler makes with the references by hand; no patch of the pack takes part."""
    from tiller.tests.host import inprocess as real

    patcher = of.model.clone()
    with ByHand(patcher, asked, of.name == "sdxl") as by_hand:
        patcher.set_model_unet_function_wrapper(by_hand)
        result = real.sample(of._replace(model=patcher), positive, negative, run)
    assert by_hand.calls > 0
    return result
