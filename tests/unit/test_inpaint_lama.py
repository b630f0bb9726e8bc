"""LaMa's filling against the formula of the web UI, around the same small network with random weights."""

import logging

import cv2
import numpy as np
import pytest
import torch
from tiller.preprocessors.inpaint_lama import inpaint_lama
from tiller.preprocessors.networks.lama import LaMaGenerator
from tiller.tests.unit.annotators import SIZES, at_working_size, listing, randomise, shapes_of
from tiller.tests.unit.hint_pictures import as_image, levels, picture, worst

RESOLUTION = 96


@pytest.fixture(scope="module")
def lama():
    """spandrel's LaMa around a narrow, flat generator, and our network, with the same weights."""
    from spandrel.architectures.LaMa import LaMa

    with torch.device("meta"):
        theirs = LaMa(in_nc=4, out_nc=3)
    theirs.model = type(theirs.model)(4, 3, ngf=8, n_blocks=2)
    ours = LaMaGenerator(shapes_of(theirs.model.model)).eval()
    theirs.model.model.load_state_dict(randomise(ours, 6), strict=True)
    return torch.inference_mode()(theirs.eval()), torch.inference_mode()(ours)


def hole(height: int, width: int, soft: bool = False, seed: int = 0) -> np.ndarray:
    """(H,W) uint8: a disc and a bar."""
    mask = np.zeros((height, width), np.uint8)
    cv2.circle(mask, (width // 2, height // 2 + seed), min(height, width) // 4, 255, -1)
    cv2.line(mask, (0, 3), (width, height // 3), 255, 5)
    return cv2.GaussianBlur(mask, (0, 0), 4) if soft else mask


def as_mask(*masks: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(masks).astype(np.float32) / 255.0)


def filled_by_the_webui(model, colours: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The web UI's picture: colours and mask resized together, what the network says laid over."""
    small = at_working_size(np.dstack([colours, mask]), RESOLUTION).astype(np.float32) / 255.0
    feed = torch.from_numpy(small).permute(2, 0, 1)[None]
    binary = (feed[:, 3:] > 0.5).float()
    made = (model(feed[:, :3] * (1 - binary), binary)[0] * 255.0).numpy().transpose(1, 2, 0)
    height, width = mask.shape
    k = RESOLUTION / min(mask.shape)
    made = made.clip(0, 255).astype(np.uint8)[: round(height * k), : round(width * k)]
    made = cv2.resize(made, (width, height)).astype(np.float32)
    alpha = mask[..., None].astype(np.float32) / 255.0
    return (made * alpha + colours.astype(np.float32) * (1 - alpha)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [*SIZES, (64, 64)])
@pytest.mark.parametrize("soft", [False, True])
def test_holes_are_filled_as_by_the_reference(lama, size, soft):
    """The web UI cuts the blend to levels; here it stays between them, so soft edges differ by one."""
    theirs, network = lama
    colours, mask = picture(*size), hole(*size, soft)
    made = inpaint_lama(as_image(colours), as_mask(mask), network, RESOLUTION)
    assert worst(made, filled_by_the_webui(theirs, colours, mask)) == int(soft)
    inside = levels(made)[0][mask > 250]
    assert len(np.unique(inside)) > 50
    assert np.abs(inside - colours[mask > 250]).mean() > 10


def test_a_batch_of_three_is_three_pictures(lama):
    _, network = lama
    colours = [picture(83, 151, seed) for seed in range(3)]
    masks = [hole(83, 151, seed=9 * seed) for seed in range(3)]
    made = inpaint_lama(as_image(*colours), as_mask(*masks), network, RESOLUTION)
    for one, colour, mask in zip(made, colours, masks, strict=True):
        alone = inpaint_lama(as_image(colour), as_mask(mask), network, RESOLUTION)
        assert worst(one[None], levels(alone)[0]) <= 1


def test_what_the_mask_leaves_out_stays_to_the_bit(lama):
    _, network = lama
    image = torch.rand(1, 83, 151, 3, generator=torch.Generator().manual_seed(1))
    mask = as_mask(hole(83, 151, soft=True))
    before = image.clone()
    made = inpaint_lama(image, mask, network, RESOLUTION)
    assert torch.equal(made[mask == 0], image[mask == 0])
    assert not torch.equal(made[mask > 0], image[mask > 0])
    assert torch.equal(image, before)


def test_an_empty_mask_leaves_the_picture_alone_and_says_so_once(lama, caplog):
    def network(batch: torch.Tensor) -> torch.Tensor:
        assert len(batch) == 1
        return batch[:, :3]

    image = torch.rand(3, 40, 56, 3, generator=torch.Generator().manual_seed(2))
    masks = torch.zeros(3, 40, 56)
    masks[1, 10:30, 10:30] = 1
    with caplog.at_level(logging.WARNING, "tiller"):
        made = inpaint_lama(image, masks, network, 64)
    assert torch.equal(made[[0, 2]], image[[0, 2]])
    assert float(made[1, 14:26, 14:26].max()) == 0.0
    assert [record.message for record in caplog.records] == [
        "The mask is empty for 2 of 3 pictures: LaMa leaves them as they are."
    ]
    assert torch.equal(inpaint_lama(image, torch.zeros(1, 64, 64), network), image)


def test_the_network_sees_no_colour_inside_the_hole():
    def network(batch: torch.Tensor) -> torch.Tensor:
        inside = batch[:, 3:].expand(-1, 3, -1, -1) == 1
        assert set(batch[:, 3].unique().tolist()) == {0.0, 1.0}
        assert (batch[:, :3][inside] == 0).all()
        assert batch[:, :3][~inside].max() > 0.5
        assert batch.shape[2] % 64 == batch.shape[3] % 64 == 0
        return torch.ones_like(batch[:, :3])

    colours = picture(83, 151)
    made = levels(inpaint_lama(as_image(colours), as_mask(hole(83, 151)), network, 0))[0]
    wanted = np.where(hole(83, 151)[..., None] > 0, 255, colours)
    assert (made == wanted).all()


def test_one_mask_serves_a_batch_and_is_stretched_to_the_pictures(lama):
    _, network = lama
    image = as_image(picture(64, 96), picture(64, 96, 1))
    small = torch.zeros(32, 48)
    small[8:24, 12:36] = 1
    full = torch.zeros(2, 64, 96)
    full[:, 16:48, 24:72] = 1
    made = inpaint_lama(image, small, network, 64)
    assert torch.equal(made, inpaint_lama(image, full, network, 64))
    assert not torch.equal(made, image)


@pytest.mark.parametrize(("pictures", "masks"), [(2, 3), (3, 2), (1, 2)])
def test_masks_that_do_not_match_the_pictures_are_refused(pictures, masks):
    with pytest.raises(ValueError, match=f"one for each of the {pictures} pictures, got {masks}"):
        inpaint_lama(torch.rand(pictures, 8, 8, 3), torch.ones(masks, 8, 8), lambda batch: batch[:, :3])


def test_no_picture_and_no_mask_are_said():
    with pytest.raises(ValueError, match="LaMa needs an image of shape"):
        inpaint_lama(torch.zeros(3, 3), torch.ones(1, 3, 3), lambda batch: batch)
    with pytest.raises(ValueError, match=r"LaMa needs a mask of shape .*got shape \(1, 8, 8, 3\)"):
        inpaint_lama(torch.rand(1, 8, 8, 3), torch.ones(1, 8, 8, 3), lambda batch: batch)
    with pytest.raises(ValueError, match="The mask of LaMa needs finite"):
        inpaint_lama(torch.rand(1, 8, 8, 3), torch.full((1, 8, 8), torch.nan), lambda batch: batch)


@pytest.mark.parametrize("size", [(1, 1), (7, 130), (65, 64)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_size_and_kind_of_picture_keeps_its_size(lama, size, channels):
    _, network = lama
    image = torch.rand(2, *size, channels, generator=torch.Generator().manual_seed(3))
    made = inpaint_lama(image.half(), torch.ones(1, *size), network, 32)
    assert made.shape == (2, *size, 3)
    assert made.dtype == torch.float32
    assert 0.0 <= float(made.min()) <= float(made.max()) <= 1.0


def test_the_published_file_fits_a_network_built_from_its_listing():
    with torch.device("meta"):
        module = LaMaGenerator(listing("lama"))
    assert shapes_of(module) == listing("lama")
    assert sum(name.endswith("conv1.ffc.convl2l.weight") for name in listing("lama")) == 18


def test_two_networks_share_no_layer():
    """spandrel's generators share one activation by default; what is hooked onto it would pile up."""
    small = {name: shape for name, shape in listing("lama").items() if name.startswith("1.")}
    with torch.device("meta"):
        one, other = LaMaGenerator(small), LaMaGenerator(small)
    assert not set(one.modules()) & set(other.modules())
