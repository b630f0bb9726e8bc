"""ControlNeXt on the stand-in models: our nets, and forward hooks on the layers as their reference."""

import json

import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host.inprocess import Run, kept
from tiller.tests.host.video_model import video_conditioning, video_model
from tiller.tests.unit import control_next_reference as reference

FAMILIES = {"SD1.5": "sd15", "SDXL": "sdxl", "SVD": "svd"}
FILES = {"SD1.5": "control_next_sd15", "SDXL": "control_next_with_stem", "SVD": "control_next_with_stem"}
ALSO_FOR = {"SD1.5": (), "SDXL": ("SVD",), "SVD": ("SVD",)}


@kept
def weights_of(family):
    path = real.ROOT / "tests" / "shapes" / f"{FILES[family]}.json"
    return reference.random_weights(json.loads(path.read_text(encoding="utf-8")), out_channels=320)


def net_for(family, steer=None):
    """A loaded net; `steer` (call, steering -> steering) stands in for a unit's options."""
    real.host()
    from tiller.adapters.control.controlnext.apply import ControlNext, load
    from tiller.adapters.identify import Identified

    own = "SD1.5" if family == "SD1.5" else "SDXL"
    net = load(weights_of(family), Identified("control", "ControlNeXt", own, also_for=ALSO_FOR[family]))
    if steer is None:
        return net

    class Steered(ControlNext):
        def patch(self, call, steering):
            super().patch(call, steer(call, steering))

    return Steered(net.identified, *net.networks)


class Case:
    """A model, its conditioning and a hint."""

    def __init__(self, family, size=(8, 8), batch=1, hints=1):
        self.family, self.size = family, size
        self.of = video_model() if family == "SVD" else real.family(FAMILIES[family])
        made = video_conditioning if family == "SVD" else lambda seed: real.conditioning(self.of, seed)
        self.positive, self.negative = made(1), made(2)
        self.image = real.picture(8 * size[0], 8 * size[1], batch=hints)
        self.run = Run(size=size, batch=batch, steps=2)

    def plain(self):
        return real.sample(self.of, self.positive, self.negative, self.run)

    def controlled(self, net, **settings):
        conditioning = real.tiller_apply(self.positive, self.negative, net, self.image, **settings)
        return real.sample(self.of, *conditioning, self.run)

    def hooked(self, strength, row_factors=None):
        """The same with the reference's features added by forward hooks on the model's own layers."""
        network, now = self.of.model.model.diffusion_model, {}

        def note(module, arguments, named):
            now["timesteps"] = arguments[1] if len(arguments) > 1 else named["timesteps"]
            rows = now["timesteps"].shape[0]
            now["factors"] = [1.0, 1.0] if row_factors is None else row_factors
            now["factors"] = torch.tensor(now["factors"]).repeat_interleave(rows // 2)

        def inject(hidden):
            rows = hidden.shape[0]
            hints = self.image.movedim(-1, 1)
            hints = hints.repeat(rows // hints.shape[0], 1, 1, 1)
            given = reference.features(weights_of(self.family), hints, now["timesteps"].float(), self.family)
            scale = now["factors"] * strength * float(weights_of(self.family).get("scale", 1.0))
            return reference.injected(given, hidden, self.family, scale)

        if self.family == "SD1.5":
            layer = network.middle_block[-1]
            handle = layer.register_forward_hook(lambda module, given, hidden: inject(hidden))
        else:
            layer = network.input_blocks[1 if self.family == "SDXL" else 4][0]
            handle = layer.register_forward_pre_hook(lambda module, given: (inject(given[0]), *given[1:]))
        noting = network.register_forward_pre_hook(note, with_kwargs=True)
        try:
            return self.plain()
        finally:
            handle.remove()
            noting.remove()


def relative(one, other):
    return real.difference(one, other) / float(other.abs().max())
