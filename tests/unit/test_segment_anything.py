"""Masks of Segment Anything against controlnet-aux's, with the same random weights."""

import functools
import logging

import numpy as np
import pytest
import torch
from tiller.preprocessors.image import resize_short_side
from tiller.preprocessors.networks.sam import Sam
from tiller.preprocessors.segment_anything import (
    MaskRules,
    automatic_masks,
    boxes_around,
    colour_hint,
    colour_map,
    largest_first,
    mask_batch,
    masks_of_prompts,
    random_colours,
    stability,
)
from tiller.preprocessors.segment_prompts import Box, Point, Prompt
from tiller.preprocessors.weights import identify_annotator
from tiller.tests.unit.annotators import SIZES, listing, randomise, shapes_of
from tiller.tests.unit.hint_pictures import as_image, levels, picture

from devtools import annotator_standins

SIDE = 128
RESOLUTION = 96
RULES = MaskRules(12, 0.88, 0.95)
LISTINGS = {
    "segment_anything": "vit_t",
    "segment_anything_vit_b": "vit_b",
    "segment_anything_vit_l": "vit_l",
    "segment_anything_vit_h": "vit_h",
}
UNUSED = ("prompt_encoder.mask_downscaling.", "image_encoder.norm_head.", "image_encoder.head.")
"""Masks as prompts, and the classifier that TinyViT was trained as."""


def of_size(shapes) -> Sam:
    with torch.device("meta"):
        return Sam(shapes)


def ours_of(theirs):
    """Our network with the weights of the reference's."""
    state = theirs.state_dict()
    network = of_size(shapes_of(theirs))
    network.load_state_dict({name: state[name] for name in network.state_dict()}, assign=True)
    return torch.inference_mode()(network.eval())


def reference(encoder, side, width, inner):
    """controlnet-aux's network around an encoder whose embedding has `width` channels."""
    from controlnet_aux.segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    grid = (side // 16, side // 16)
    decoder = MaskDecoder(
        transformer_dim=width,
        transformer=TwoWayTransformer(depth=2, embedding_dim=width, mlp_dim=2 * width, num_heads=8),
        iou_head_hidden_dim=inner,
    )
    return Sam(encoder, PromptEncoder(width, grid, (side, side), 16), decoder).eval()


@pytest.fixture(scope="module")
def vit():
    """The reference and ours with the small stand-in's random weights, changed so that masks are patches."""
    from controlnet_aux.segment_anything.modeling import ImageEncoderViT

    encoder = ImageEncoderViT(
        img_size=SIDE,
        embed_dim=64,
        depth=2,
        num_heads=2,
        mlp_ratio=2,
        out_chans=64,
        norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=5,
        global_attn_indexes=(1,),
    )
    theirs = reference(encoder, SIDE, 64, 64)
    state = annotator_standins.random_state("segment_anything")
    state = {name: tensor.float() for name, tensor in state.items()}
    state["mask_decoder.output_upscaling.3.weight"][:, 0] = 0.0
    state["mask_decoder.output_upscaling.3.bias"][0] = 100.0
    for index in range(4):
        last = f"mask_decoder.output_hypernetworks_mlps.{index}.layers.2"
        state[f"{last}.weight"][0], state[f"{last}.bias"][0] = 0.0, -2.0
    theirs.load_state_dict(state)
    return theirs, ours_of(theirs)


@pytest.fixture(scope="module")
def tiny():
    """A narrow MobileSAM, at the only size that the reference's can work at, and ours."""
    from controlnet_aux.segment_anything.modeling import TinyViT

    encoder = TinyViT(
        img_size=1024,
        embed_dims=[8, 16, 20, 320],
        depths=[1, 2, 2, 1],
        num_heads=[2, 2, 4, 10],
        window_sizes=[7, 7, 14, 7],
        mlp_ratio=2.0,
        mbconv_expand_ratio=2.0,
        drop_path_rate=0.0,
    )
    theirs = reference(encoder, 1024, 256, 32)
    randomise(theirs, 5)
    theirs.train().eval()  # eval() copies the attention biases, so it has to come after the weights
    return theirs, ours_of(theirs)


def detected(theirs, array, rules=RULES):
    """The reference's masks (N,h,w) bool of a picture at the working size, the largest first.

    With thresholds of 0 it lets empty masks through, which ours drops.
    """
    from controlnet_aux.segment_anything import SamAutomaticMaskGenerator

    side, iou, steady = rules
    generator = SamAutomaticMaskGenerator(
        theirs, points_per_side=side, pred_iou_thresh=iou, stability_score_thresh=steady
    )
    found = [one for one in generator.generate(array) if one["area"]]
    found.sort(key=lambda one: one["area"], reverse=True)
    return np.stack([one["segmentation"] for one in found])


def check_same(masks, wanted):
    """As many masks, and no more than a few pixels of a thousand at their edges apart."""
    assert masks.shape == wanted.shape
    assert (masks.numpy() != wanted).mean() < 1e-4


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rules", [RULES, MaskRules(7, 1.6, 0.9), MaskRules(5, 0.0, 0.0)])
def test_automatic_masks_are_the_references(vit, size, rules):
    theirs, network = vit
    array = picture(*size)
    (masks,) = automatic_masks(as_image(array), network, rules, RESOLUTION)
    check_same(masks, detected(theirs, resize_short_side(array, RESOLUTION), rules))
    assert len(masks) > 3


def test_a_batch_of_three_is_its_pictures_alone(vit):
    theirs, network = vit
    arrays = [picture(83, 151, seed) for seed in range(3)]
    found = automatic_masks(as_image(*arrays), network, RULES, RESOLUTION)
    for masks, array in zip(found, arrays, strict=True):
        check_same(masks, detected(theirs, resize_short_side(array, RESOLUTION)))


@pytest.mark.parametrize("pair", ["vit", "tiny"])
def test_embeddings_logits_and_ious_are_the_references(pair, request):
    from controlnet_aux.segment_anything.predictor import SamPredictor

    theirs, network = request.getfixturevalue(pair)
    predictor = SamPredictor(theirs)
    array = picture(83, 151)
    predictor.set_image(array)
    embedding = network(torch.from_numpy(array).permute(2, 0, 1)[None].float())
    assert embedding.std() > 0.5
    assert (embedding - predictor.features).abs().max() < 1e-4 * embedding.abs().max()
    points = torch.rand(5, 3, 2, generator=torch.Generator().manual_seed(0)) * 100
    labels = torch.tensor([[1, 0, 1]]).expand(5, -1)
    _, ious, logits = predictor.predict_torch(points, labels)
    rows = torch.cat((points, labels[..., None]), dim=2)
    none = torch.tensor([0.0, 0.0, -1.0]).expand(5, 1, 3)
    ours, quality = network(torch.cat((rows, none), dim=1), embedding)
    assert (ours[:, 1:] - logits).abs().max() < 1e-4 * logits.abs().max()
    assert (quality[:, 1:] - ious).abs().max() < 1e-4
    assert logits.std(0).mean() > 0.01 * logits.std()


def predicted(theirs, array, multiple=False, **prompt):
    """The reference's mask for a prompt: the only one, or of three the one with the best IoU."""
    from controlnet_aux.segment_anything.predictor import SamPredictor

    predictor = SamPredictor(theirs)
    predictor.set_image(array)
    masks, ious, _ = predictor.predict(**prompt, multimask_output=multiple)
    return masks[ious.argmax()]


def points_of(*rows):
    return {"point_coords": np.array([row[:2] for row in rows], float),
            "point_labels": np.array([row[2] for row in rows])}  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_masks_of_prompts_are_the_references(vit, size):
    theirs, network = vit
    array = picture(*size)
    box, near = Box(20, 10.5, 75, 60), Point(31, 22, included=False)
    asked = [
        Prompt((Point(40, 30),)),
        Prompt((Point(40, 30), near)),
        Prompt((), box),
        Prompt((near, Point(50, 50)), box),
    ]
    (masks,) = masks_of_prompts(as_image(array), network, [asked], 0)
    wanted = [
        predicted(theirs, array, True, **points_of((40, 30, 1))),
        predicted(theirs, array, **points_of((40, 30, 1), (31, 22, 0))),
        predicted(theirs, array, box=np.array(box)),
        predicted(theirs, array, box=np.array(box), **points_of((31, 22, 0), (50, 50, 1))),
    ]
    check_same(masks, np.stack(wanted))
    assert len({mask.numpy().tobytes() for mask in masks}) > 2


def test_prompts_are_in_pixels_of_the_picture_at_any_working_size(vit):
    theirs, network = vit
    array = picture(83, 151)
    (masks,) = masks_of_prompts(as_image(array), network, [[Prompt((), Box(30, 20, 90, 70))]], 166)
    wanted = predicted(theirs, resize_short_side(array, 166), box=np.array([60, 40, 180, 140]))
    check_same(masks, wanted[None])


def test_each_picture_has_its_own_prompts(vit):
    _, network = vit
    image = as_image(picture(64, 64), picture(64, 64, 1))
    one, two = Prompt((Point(5, 9),)), Prompt((), Box(20, 20, 60, 60))
    found = masks_of_prompts(image, network, [[one], [two, one]], 0)
    assert [len(masks) for masks in found] == [1, 2]
    assert torch.equal(found[0], masks_of_prompts(image[:1], network, [[one]], 0)[0])
    assert torch.equal(found[1], masks_of_prompts(image[1:], network, [[two, one]], 0)[0])


def test_a_picture_without_prompts_has_no_mask_and_one_log_line_says_so(vit, caplog):
    _, network = vit
    with caplog.at_level(logging.WARNING, "tiller"):
        found = masks_of_prompts(as_image(picture(20, 30)), network, [[]], 0)
    assert found[0].shape == (0, 20, 30)
    assert [record.message for record in caplog.records] == [
        "No point and no box for 1 of 1 pictures: their maps are black. Give points or boxes, or "
        "disconnect the bounding boxes to find the masks of everything."
    ]


def test_the_colour_map_is_the_references(vit):
    """The reference's colours come from numpy's global generator, ours from a seed."""
    from controlnet_aux.segment_anything import SamAutomaticMaskGenerator, SamDetector

    theirs, network = vit
    array = resize_short_side(picture(83, 151), RESOLUTION)
    generator = SamAutomaticMaskGenerator(theirs, points_per_side=12)
    np.random.seed(3)
    wanted = SamDetector(generator).show_anns(generator.generate(array))
    (masks,) = automatic_masks(as_image(array), network, RULES, 0)
    np.random.seed(3)
    drawn = [np.random.randint(255, dtype=np.uint8) for _ in range(3 * len(masks))]
    made = colour_map(masks, np.array(drawn).reshape(-1, 3))
    assert (made != wanted).mean() < 1e-3
    assert len(np.unique(wanted.reshape(-1, 3), axis=0)) > 5


def discs(centre_of):
    """A network whose masks are discs around its points: `centre_of` says radius, IoU and steepness."""

    def network(batch, embedding=None):
        if embedding is None:
            return torch.zeros(len(batch), 1, 16, 16)
        ys, xs = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
        logits, ious = torch.full((len(batch), 4, 64, 64), -9.0), torch.zeros(len(batch), 4)
        for index, (x, y, _) in enumerate(batch[:, 0].tolist()):
            radius, iou, steepness = centre_of(x, y)
            logits[index, 2] = steepness * (radius - ((xs - x / 4) ** 2 + (ys - y / 4) ** 2).sqrt())
            ious[index, 2] = iou
        return logits, ious

    return network


def test_of_masks_with_much_the_same_box_the_surest_stays():
    network = discs(lambda x, y: (200.0, 0.9 + (x + y) / 1e5, 1.0))
    (masks,) = automatic_masks(as_image(picture(64, 64)), network, MaskRules(4), 0)
    assert masks.shape == (1, 64, 64)
    apart = discs(lambda x, y: (6.0, 0.9, 25.0))
    assert len(automatic_masks(as_image(picture(64, 64)), apart, MaskRules(4), 0)[0]) == 16


def test_each_threshold_drops_masks():
    network = discs(lambda x, y: (6.0, 0.9 if y < 128 else 0.5, 25.0 if x < 128 else 1.0))
    image = as_image(picture(64, 64))
    counts = [
        len(automatic_masks(image, network, MaskRules(4, *cuts), 0)[0])
        for cuts in ((0.88, 0.9), (0.88, 0.1), (0.4, 0.9), (0.4, 0.1))
    ]
    assert counts == [4, 8, 8, 16]


def test_the_largest_mask_is_painted_first_and_smaller_ones_over_it():
    large, small = torch.ones(1, 4, 6, dtype=torch.bool), torch.zeros(1, 4, 6, dtype=torch.bool)
    small[0, 1:3, 1:3] = True
    hint = levels(colour_hint([torch.cat((small, large))], 7))[0]
    first, second = random_colours(2, 7)
    assert (hint[1:3, 1:3] == second).all()
    assert (hint[0] == first).all()
    assert torch.equal(largest_first(torch.cat((small, large))), torch.cat((large, small)))


def test_colours_depend_on_the_seed_and_the_rank_alone():
    assert (random_colours(9, 3)[:4] == random_colours(4, 3)).all()
    assert (random_colours(4, 3) != random_colours(4, 4)).any()
    masks = torch.eye(6, dtype=torch.bool)[:, None]
    alone, both = colour_hint([masks], 2**64 - 1), colour_hint([masks, masks[:2]], 2**64 - 1)
    assert torch.equal(both[0], alone[0])


def test_no_mask_gives_a_black_map_one_empty_mask_and_one_log_line(caplog):
    network = discs(lambda x, y: (6.0, 0.1, 25.0))
    with caplog.at_level(logging.WARNING, "tiller"):
        found = automatic_masks(as_image(*[picture(40, 50)] * 3), network, None, 0)
    assert colour_hint(found, 0).shape == (3, 40, 50, 3)
    assert float(colour_hint(found, 0).max()) == 0.0
    assert torch.equal(mask_batch(found), torch.zeros(1, 40, 50))
    assert [record.message for record in caplog.records] == [
        "No mask in 3 of 3 pictures: their maps are black. Lower the IoU threshold (0.88) or the stability "
        "threshold (0.95) to keep less certain masks."
    ]


def test_masks_of_all_pictures_follow_each_other():
    masks = [torch.ones(2, 3, 4, dtype=torch.bool), torch.zeros(1, 3, 4, dtype=torch.bool)]
    batch = mask_batch(masks)
    assert batch.dtype == torch.float32
    assert batch.flatten(1).sum(1).tolist() == [12, 12, 0]


def test_progress_counts_the_points_of_every_picture(vit):
    _, network = vit
    told = []
    image = as_image(picture(20, 30), picture(20, 30, 1))
    automatic_masks(image, network, MaskRules(9), 0, lambda *step: told.append(step))
    assert told == [(done, 4) for done in range(1, 5)]
    told.clear()
    masks_of_prompts(image, network, [[Prompt((Point(1, 1),))]] * 2, 0, lambda *step: told.append(step))
    assert told == [(1, 2), (2, 2)]


def test_stability_and_boxes_are_the_references():
    from controlnet_aux.segment_anything.utils.amg import batched_mask_to_box, calculate_stability_score

    logits = torch.randn(5, 30, 40, generator=torch.Generator().manual_seed(0)) * 3
    logits[:, 25:] = -9.0
    logits[3, :, :35] = -9.0
    assert torch.equal(stability(logits), calculate_stability_score(logits, 0.0, 1.0))
    assert torch.equal(boxes_around(logits > 0), batched_mask_to_box(logits > 0).float())


@pytest.mark.parametrize("size", [(1, 1), (7, 130), (200, 3), (65, 64)])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_any_picture_gives_masks_of_its_size(vit, size, channels, dtype):
    _, network = vit
    image = torch.rand(2, *size, channels, generator=torch.Generator().manual_seed(1)).to(dtype)
    found = automatic_masks(image, network, MaskRules(4), 0)
    assert colour_hint(found, 1).shape == (2, *size, 3)
    assert mask_batch(found).shape[1:] == size
    assert all(mask.any() for masks in found for mask in masks)


@pytest.mark.parametrize(("key", "kind"), LISTINGS.items())
def test_every_published_file_fits_its_network(key, kind):
    from controlnet_aux.segment_anything.build_sam import sam_model_registry

    published = listing(key)
    with torch.device("cpu" if kind == "vit_t" else "meta"):
        assert shapes_of(sam_model_registry[kind]()) == published
    needed = shapes_of(of_size(published))
    assert {name: published[name] for name in needed} == needed
    assert all(name.startswith(UNUSED) for name in set(published) - set(needed))
    assert identify_annotator(published) == ("segment_anything",)


def test_no_picture_is_said():
    with pytest.raises(ValueError, match="Segment Anything needs an image of shape"):
        automatic_masks(torch.zeros(3, 3), lambda batch: batch)
