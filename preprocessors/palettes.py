"""The colours that segmentation control nets read: classes of ADE20K and of COCO, in the datasets' order.

Source: Mikubill/sd-webui-controlnet: annotator/oneformer/oneformer/data/datasets/register_ade20k_panoptic.py
(ADE20K_150_CATEGORIES) and annotator/oneformer/detectron2/data/datasets/builtin_meta.py (COCO_CATEGORIES).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Palette:
    """The classes of a data set: `table` has one line per class, its colour as rrggbb and its name.

    A name may hold synonyms, parted by commas.
    """

    title: str
    table: str

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The classes' names; the index is the class."""
        return tuple(line[7:] for line in self.table.splitlines())

    @property
    def colours(self) -> np.ndarray:
        """Array (N,3) uint8 RGB, fresh at every call."""
        return np.array([list(bytes.fromhex(line[:6])) for line in self.table.splitlines()], np.uint8)


def colour_map(labels: np.ndarray, palette: Palette) -> np.ndarray:
    """Labels (B,h,w) int, classes from 0 on -> array (B,h,w,3) uint8 RGB. -1 is no class: black."""
    return np.concatenate((palette.colours, np.zeros((1, 3), np.uint8)))[labels]


ADE20K = """\
787878 wall
b47878 building
06e6e6 sky
503232 floor
04c803 tree
787850 ceiling
8c8c8c road, route
cc05ff bed
e6e6e6 window
04fa07 grass
e005ff cabinet
ebff07 sidewalk, pavement
96053d person
787846 earth, ground
08ff33 door
ff0652 table
8fff8c mountain, mount
ccff04 plant
ff3307 curtain
cc4603 chair
0066c8 car
3de6fa water
ff0633 painting, picture
0b66ff sofa
ff0747 shelf
ff09e0 house
0907e6 sea
dcdcdc mirror
ff095c rug
7009ff field
08ffd6 armchair
07ffe0 seat
ffb806 fence
0aff47 desk
ff290a rock, stone
07ffff wardrobe, closet, press
e0ff08 lamp
6608ff tub
ff3d06 rail
ffc207 cushion
ff7a08 base, pedestal, stand
00ff14 box
ff0829 column, pillar
ff0599 signboard, sign
0633ff chest of drawers, chest, bureau, dresser
eb0cff counter
a09614 sand
00a3ff sink
8c8c8c skyscraper
fa0a0f fireplace
14ff00 refrigerator, icebox
1fff00 grandstand, covered stand
ff1f00 path
ffe000 stairs
99ff00 runway
0000ff case, display case, showcase, vitrine
ff4700 pool table, billiard table, snooker table
00ebff pillow
00adff screen door, screen
1f00ff stairway, staircase
0bc8c8 river
ff5200 bridge, span
00fff5 bookcase
003dff blind, screen
00ff70 coffee table
00ff85 toilet, can, commode, crapper, pot, potty, stool, throne
ff0000 flower
ffa300 book
ff6600 hill
c2ff00 bench
008fff countertop
33ff00 stove
0052ff palm, palm tree
00ff29 kitchen island
00ffad computer
0a00ff swivel chair
adff00 boat
00ff99 bar
ff5c00 arcade machine
ff00ff hovel, hut, hutch, shack, shanty
ff00f5 bus
ff0066 towel
ffad00 light
ff0014 truck
ffb8b8 tower
001fff chandelier
00ff3d awning, sunshade, sunblind
0047ff street lamp
ff00cc booth
00ffc2 tv
00ff52 plane
000aff dirt track
0070ff clothes
3300ff pole
00c2ff land, ground, soil
007aff bannister, banister, balustrade, balusters, handrail
00ffa3 escalator, moving staircase, moving stairway
ff9900 ottoman, pouf, pouffe, puff, hassock
00ff0a bottle
ff7000 buffet, counter, sideboard
8fff00 poster, posting, placard, notice, bill, card
5200ff stage
a3ff00 van
ffeb00 ship
08b8aa fountain
8500ff conveyer belt, conveyor belt, conveyer, conveyor, transporter
00ff5c canopy
b800ff washer, automatic washer, washing machine
ff001f plaything, toy
00b8ff pool
00d6ff stool
ff0070 barrel, cask
5cff00 basket, handbasket
00e0ff falls
70e0ff tent
46b8a0 bag
a300ff minibike, motorbike
9900ff cradle
47ff00 oven
ff00a3 ball
ffcc00 food, solid food
ff008f step, stair
00ffeb tank, storage tank
85ff00 trade name
ff00eb microwave
f500ff pot
ff007a animal
fff500 bicycle
0abed4 lake
d6ff00 dishwasher
00ccff screen
1400ff blanket, cover
ffff00 sculpture
0099ff hood, exhaust hood
0029ff sconce
00ffcc vase
2900ff traffic light
29ff00 tray
ad00ff trash can
00f5ff fan
4700ff pier
7a00ff crt screen
00ffb8 plate
005cff monitor
b8ff00 bulletin board
0085ff shower
ffd600 radiator
19c2c2 glass, drinking glass
66ff00 clock
5c00ff flag
"""

COCO = """\
dc143c person
770b20 bicycle
00008e car
0000e6 motorcycle
6a00e4 airplane
003c64 bus
005064 train
000046 truck
0000c0 boat
faaa1e traffic light
64aa1e fire hydrant
dcdc00 stop sign
af74af parking meter
fa001e bench
a52a2a bird
ff4dff cat
00e2fc dog
b6b6ff horse
005200 sheep
78a69d cow
6e4c00 elephant
ae39ff bear
c76400 zebra
480076 giraffe
ffb3f0 backpack
007d5c umbrella
d10097 handbag
bcd0b6 tie
00dcb0 suitcase
ff63a4 frisbee
5c0049 skis
8581ff snowboard
4eb4ff sports ball
00e400 kite
aefff3 baseball bat
2d59ff baseball glove
868667 skateboard
9194ae surfboard
ffd0ba tennis racket
c5e2ff bottle
ab8601 wine glass
6d3f36 cup
cf8aff fork
97005f knife
09503d spoon
546933 bowl
4a4169 banana
a6c466 apple
d0c3d2 sandwich
ff6d41 orange
008f95 broccoli
b300c2 carrot
d1636a hot dog
057900 pizza
e3ffcd donut
93bad0 cake
994501 chair
035fa1 couch
a3ff00 potted plant
7700aa bed
00b6c7 dining table
00a578 toilet
b78258 tv
5f2000 laptop
827287 mouse
6e8185 remote
a64a76 keyboard
db8eb9 cell phone
4fd272 microwave
b25a3e oven
41460f toaster
7fa773 sink
3b696a refrigerator
8e6c2d book
c4ac00 clock
5f3650 vase
804cff scissors
c93901 teddy bear
f6007a hair drier
bfa2d0 toothbrush
ffff80 banner
93d3cb blanket
966464 bridge
a8abac cardboard
9270c6 counter
d2aa64 curtain
5c8859 door-stuff
da58b8 floor-wood
f18100 flower
d911ff fruit
7c4ab5 gravel
464646 house
ffe4ff light
9ad000 mirror-stuff
c1005c net
4c5b71 pillow
ffb4c3 platform
6a9ab0 playingfield
e6968c railroad
3c8fff river
804080 road
5c5237 roof
fed47c sand
494dae sea
ffa062 shelf
ffffff snow
68546d stairs
a9a483 tent
e1c7ff towel
89364a wall-brick
879edf wall-stone
07f6e7 wall-tile
6bffc8 wall-wood
3a2995 water-other
b7798e window-blind
ff4961 window-other
6b8e23 tree-merged
be9999 fence-merged
928b8d ceiling-merged
4682b4 sky-other-merged
86c79c cabinet-merged
d1e28c table-merged
60246c floor-other-merged
606060 pavement-merged
40aa40 mountain-merged
98fb98 grass-merged
d0e5e4 dirt-merged
cebaab paper-merged
98a140 food-other-merged
747000 building-other-merged
00728f rock-merged
66669c wall-other-merged
fa8dff rug-merged
"""

PALETTES: Mapping[str, Palette] = {"ade20k": Palette("ADE20K", ADE20K), "coco": Palette("COCO", COCO)}
