"""Do modes and masks do what they say? Pictures of the default model, made by the real server.

As in test_behaviour.py, the thresholds lie well between what the model does and what chance gives.
"""

import cv2
import numpy as np
import pytest
from tiller.tests.host.test_behaviour import LINES, SEEDS, STEPS, Studio, wanted_lines

from default_model import evaluate, scenes

MODES = ("prompt", "balanced", "control", "unbalanced")
SIDE = 256


class Controls(Studio):
    """A studio whose pictures have one line unit each, with a mode or a mask."""

    def steered(self, name: str, seed: int, hint, mask=None, **settings) -> None:
        """Ask for a picture; `settings` go to Apply Control."""
        words = self.graph.add(
            "CLIPTextEncode", text=scenes.draw(seed, scenes.draw_object).prompt, clip=self.loaded[1]
        )
        net = self.graph.add("ControlNetLoader", control_net_name=LINES)
        if mask is not None:
            plain = {"layers": "", "steps": "", "union_type": "auto"}
            settings["options"] = self.graph.add("TillerControlOptions", mask=mask[0], **plain)[0]
        window = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, "window": "steps"}
        applied = self.graph.add(
            "TillerApplyControl",
            positive=words[0],
            negative=self.nothing[0],
            control_net=net[0],
            image=hint[0],
            resize_mode="crop",
            **{**window, **settings},
        )
        options = {"seed": seed, "steps": STEPS, "cfg": evaluate.CFG, "denoise": 1.0}
        sampled = self.graph.add(
            "KSampler",
            model=self.loaded[0],
            positive=applied[0],
            negative=applied[1],
            latent_image=self.empty[0],
            sampler_name="euler",
            scheduler="simple",
            **options,
        )
        decoded = self.graph.add("VAEDecode", samples=sampled[0], vae=self.loaded[2])
        self.saved[name] = self.graph.add("TestProbe", value=decoded[0])


@pytest.fixture(scope="module")
def drawn():
    return {seed: scenes.draw(seed, scenes.draw_object) for seed in SEEDS}


def rings() -> np.ndarray:
    """Two circles, one in each half of the picture, as thin white lines."""
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    for across in (48, 208):
        for radius in (20, 40):
            cv2.circle(picture, (across, 80), radius, (255, 255, 255), 1)
    return picture


def test_a_mask_confines_the_lines_to_its_part(server):
    """Lines in the left 96 pixels from step 4 of 8 on: what lies 64 pixels beyond stays nearly as without.

    Not quite: the model sees the whole picture in its attention, so the rest answers to the part. Measured
    mean change, of 255: 22 inside; beyond, 5 with the mask and 24 without one.
    """
    mask = np.zeros((SIDE, SIDE, 3), np.uint8)
    mask[:, :96] = 255
    for name, picture in (("rings", rings()), ("rings_mask", mask)):
        cv2.imwrite(str(server.base / "input" / f"{name}.png"), picture)
    studio, seed = Controls(server), SEEDS[1]
    hint = studio.graph.add("LoadImage", image="rings.png")
    left = studio.graph.add("LoadImageMask", image="rings_mask.png", channel="red")
    studio.picture("none", scenes.draw(seed, scenes.draw_object).prompt, seed)
    studio.steered("masked", seed, hint, mask=left, start_percent=0.4)
    studio.steered("whole", seed, hint, start_percent=0.4)
    pictures = {name: picture.astype(int) for name, picture in studio.run().items()}
    change = {name: np.abs(pictures[name] - pictures["none"]) for name in ("masked", "whole")}
    assert change["masked"][:, :80].mean() > 12
    assert change["masked"][:, 160:].mean() < 8
    assert change["masked"][:, 160:].mean() < 0.5 * change["whole"][:, 160:].mean()


def test_the_modes_follow_the_lines_in_the_order_of_their_names(server, drawn):
    """At CFG 3, in the mean of the scenes; balanced and control may change places in a single scene.

    Measured agreement: prompt .71, balanced .83, control .94, unbalanced .97; without control .16.
    """
    agreement = {mode: [] for mode in MODES}
    for seed, scene in drawn.items():
        studio = Controls(server)
        hint = studio.hint(f"modes{seed}", scene.picture, LINES)
        for mode in MODES:
            studio.steered(mode, seed, hint, mode=mode)
        for mode, picture in studio.run().items():
            agreement[mode].append(evaluate.edge_agreement(picture, wanted_lines(scene)))
    prompt, balanced, control, unbalanced = (np.array(agreement[mode]) for mode in MODES)
    assert prompt.mean() + 0.05 < balanced.mean()
    assert balanced.mean() + 0.05 < control.mean()
    assert unbalanced.mean() > balanced.mean() + 0.08
    assert (prompt < balanced).all()
    assert (prompt < control).all()
    assert (balanced < unbalanced).sum() >= 2
    assert prompt.mean() > 0.5
