"""The palettes of segmentation, and masks of classes and colours."""

import hashlib
import logging

import numpy as np
import pytest
import torch
from tiller.preprocessors.class_masks import class_mask, parse_classes
from tiller.preprocessors.palettes import PALETTES, colour_map
from tiller.tests.unit.hint_pictures import as_image, picture

ADE, COCO = PALETTES["ade20k"], PALETTES["coco"]
PERSON, SKY, FLOOR = (ADE.names.index(name) for name in ("person", "sky", "floor"))


def test_the_colours_of_ade20k_are_the_references():
    from controlnet_aux.util import ade_palette

    assert ADE.colours.tolist() == ade_palette()
    assert len(ADE.names) == 150
    assert (ADE.names[0], ADE.names[6], ADE.names[149]) == ("wall", "road, route", "flag")


def test_only_one_colour_of_ade20k_stands_for_two_classes():
    colours, counts = np.unique(ADE.colours, axis=0, return_counts=True)
    assert colours[counts > 1].tolist() == [[140, 140, 140]]
    assert [ADE.names[n] for n in np.flatnonzero((ADE.colours == 140).all(axis=1))] == [
        "road, route",
        "skyscraper",
    ]


def test_coco_has_its_133_classes_things_first():
    assert COCO.colours.shape == (133, 3)
    assert len(np.unique(COCO.colours, axis=0)) == len(set(COCO.names)) == 133
    assert (COCO.names[0], COCO.names[79], COCO.names[80], COCO.names[132]) == (
        "person",
        "toothbrush",
        "banner",
        "rug-merged",
    )
    assert COCO.colours[[0, 79, 80, 132]].tolist() == [
        [220, 20, 60],
        [191, 162, 208],
        [255, 255, 128],
        [250, 141, 255],
    ]


def test_the_tables_stay_as_they_were_taken():
    digests = {
        key: hashlib.sha256(palette.table.encode()).hexdigest()[:16] for key, palette in PALETTES.items()
    }
    assert digests == {"ade20k": "ef523bc25cbc011b", "coco": "d0e81519437aedbb"}


@pytest.mark.parametrize("palette", PALETTES.values(), ids=PALETTES)
def test_labels_become_their_colours_and_no_class_black(palette):
    labels = np.stack([np.arange(6).reshape(2, 3), np.full((2, 3), -1)])
    made = colour_map(labels, palette)
    assert made.dtype == np.uint8
    assert made[0].reshape(-1, 3).tolist() == palette.colours[:6].tolist()
    assert not made[1].any()


def map_of(*labels: int) -> torch.Tensor:
    """IMAGE (1,1,N,3) with the colour of one class of ADE20K per pixel."""
    return as_image(*colour_map(np.array([[labels]]), ADE))


def marked(image: torch.Tensor, classes: str, palette=ADE, tolerance: int = 0) -> list[float]:
    return class_mask(image, palette, classes, tolerance).flatten().tolist()


def test_names_and_colours_give_masks():
    image = map_of(PERSON, SKY, FLOOR, PERSON)
    assert marked(image, "person") == [1, 0, 0, 1]
    assert marked(image, " Sky ,\nperson,") == [1, 1, 0, 1]
    assert marked(image, "#96053D") == [1, 0, 0, 1]
    assert marked(image, "floor, #06e6e6") == [0, 1, 1, 0]


def test_a_mask_has_the_pictures_size_and_the_batchs_length():
    labels = np.random.default_rng(0).integers(0, 150, (3, 17, 5))
    mask = class_mask(as_image(*colour_map(labels, ADE)), ADE, "sky, building")
    assert mask.dtype == torch.float32
    assert np.array_equal(mask.numpy(), np.isin(labels, (1, SKY)))


@pytest.mark.parametrize(
    ("palette", "text", "names"),
    [
        ("ade20k", "road", ["road, route"]),
        ("ade20k", "road, route", ["road, route"]),
        ("ade20k", "screen", ["screen"]),
        ("ade20k", "screen door, screen, sky", ["screen door, screen", "sky"]),
        ("ade20k", "crapper", ["toilet, can, commode, crapper, pot, potty, stool, throne"]),
        ("ade20k", "ground", ["earth, ground", "land, ground, soil"]),
        ("coco", "sky", ["sky-other-merged"]),
        ("coco", "door-stuff, dining  table", ["door-stuff", "dining table"]),
        ("coco", "table-merged, table", ["table-merged", "table-merged"]),
        ("coco", "water, wall, wall-brick", ["water-other", "wall-other-merged", "wall-brick"]),
    ],
)
def test_names_are_found_whole_and_by_synonym(palette, text, names):
    numbers, colours = parse_classes(text, PALETTES[palette])
    assert [PALETTES[palette].names[number] for number in numbers] == names
    assert len(colours) == 0


@pytest.mark.parametrize("palette", PALETTES.values(), ids=PALETTES)
def test_every_name_finds_its_class_and_all_together_find_all(palette):
    for number, name in enumerate(palette.names):
        assert parse_classes(name, palette)[0] == [number]
    assert parse_classes(", ".join(palette.names), palette)[0] == list(range(len(palette.names)))


def test_the_colour_of_two_classes_is_in_the_mask_of_either():
    image = map_of(6, 48, 0)
    assert marked(image, "road") == marked(image, "skyscraper") == [1, 1, 0]


def test_tolerance_counts_levels_of_each_channel_and_the_nearest_class_wins():
    """The colours of sidewalk (235,255,7) and lamp (224,255,8) differ by 11."""
    image = torch.tensor([[235, 255, 7], [231, 251, 3], [230, 255, 7], [229, 255, 8]]) / 255.0
    image = image[None, None]
    assert marked(image, "sidewalk") == [1, 0, 0, 0]
    assert marked(image, "sidewalk", tolerance=3) == [1, 0, 0, 0]
    assert marked(image, "sidewalk", tolerance=4) == [1, 1, 0, 0]
    assert marked(image, "sidewalk", tolerance=200) == [1, 1, 1, 0]
    assert marked(image, "#ebff07", tolerance=6) == [1, 1, 1, 1]


def test_a_photograph_with_many_colours_is_looked_at_colour_by_colour():
    image = as_image(picture(160, 160))
    array = (image[0].numpy() * 255).round().astype(np.int16)
    assert len(np.unique(array.reshape(-1, 3), axis=0)) > 1 << 14
    distances = np.abs(array[:, :, None] - ADE.colours.astype(np.int16)).max(-1)
    nearest = int(np.bincount(distances.argmin(-1).flat).argmax())
    wanted = (distances[..., nearest] == distances.min(-1)) & (distances[..., nearest] <= 30)
    assert 0.01 < wanted.mean() < 0.99
    assert np.array_equal(class_mask(image, ADE, ADE.names[nearest], 30)[0].numpy(), wanted)


def test_nothing_found_gives_an_empty_mask_and_one_log_line(caplog):
    image = torch.cat([map_of(SKY), map_of(PERSON), map_of(SKY)])
    with caplog.at_level(logging.WARNING, "tiller"):
        assert marked(image, "person") == [0, 1, 0]
    (record,) = caplog.records
    assert record.message.startswith("No pixel of person in 2 of 3 pictures: their masks are empty. If")


@pytest.mark.parametrize(
    ("palette", "text", "said"),
    [
        ("ade20k", "persn", r"classes of ADE20K .*, got 'persn'\. The nearest names are: person"),
        ("coco", "sky, zebre", r"classes of COCO .*, got 'zebre'\. The nearest names are: zebra"),
        ("ade20k", "track", r"got 'track'\. The nearest names are: .*dirt track"),
        ("ade20k", "#12345", r"got '#12345'\. No name comes near; the help page lists all\."),
        ("ade20k", "qqq", r"got 'qqq'\. No name comes near"),
        ("ade20k", " , \n", r"needs the name of a class of ADE20K or a colour .*, got an empty text\. Write"),
    ],
)
def test_unknown_classes_are_refused_with_the_nearest_names(palette, text, said):
    with pytest.raises(ValueError, match=said):
        class_mask(map_of(0), PALETTES[palette], text)


def test_no_picture_is_said():
    with pytest.raises(ValueError, match="Color to Mask needs an image of shape"):
        class_mask(torch.zeros(3, 3), ADE, "sky")
