"""How well clean QR codes scan, and whether the module error rate is exact: `python3 dev.py bench qr`.

Sixty clean codes of all levels are decoded with their worse copies; then k modules of a code are flipped
and the measured rate is held against k / modules.
"""

from __future__ import annotations

import random
import statistics
import string
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from _pack import maths

LETTERS = string.ascii_letters + string.digits + ":/.-_?="
TEXTS = 60
FLIPS = (0, 1, 2, 5, 17, 60, 150)


def text_of(index: int, generator: random.Random) -> str:
    """Texts of 1 to 119 characters; every tenth one has Chinese letters."""
    length = 1 + index * (2 if "LMQH"[index % 4] in "LM" else 1)
    text = "".join(generator.choice(LETTERS) for _ in range(length))
    return f"你好 {text[:10]} é" if index % 10 == 9 else text


def place(text: str, level: str) -> Any:
    """The code at the largest usual module size that fits into 768 x 768."""
    qr, fit = maths("qr"), maths("fit")
    for module in (16, 12, 10, 8):
        try:
            return qr.place_qr(text, fit.Size(768, 768), qr.QRSettings(level, module))
        except ValueError as error:
            last = error
    raise last


def clean_codes() -> None:
    qr, verify = maths("qr"), maths("qr_verify")
    generator = random.Random(5)
    shares, rates, seconds = [], [], []
    for index in range(TEXTS):
        code = place(text_of(index, generator), "LMQH"[index % 4])
        image = qr.draw_qr(code, "grey" if index % 2 else "white")
        start = time.perf_counter()
        (found,) = verify.verify_qr(image, "", code)
        seconds.append(time.perf_counter() - start)
        shares.append(found.share)
        rates.append(found.error_rate)
    whole = sum(share == 1.0 for share in shares)
    print(f"clean codes of which every copy decodes: {whole} of {TEXTS}; lowest share {min(shares):.2f}")
    print(
        f"  highest module error rate {max(rates):g}; {statistics.median(seconds):.2f} s a picture (median)"
    )


def flipped_modules() -> None:
    qr, verify = maths("qr"), maths("qr_verify")
    print(f"{'level':<6} {'modules':>8} {'flipped':>8} {'measured':>10} {'k/modules':>10}  equal")
    for level in "LMQH":
        code = place("https://example.org/tiller", level)
        for k in FLIPS:
            matrix = code.matrix.copy()
            spots = np.random.default_rng(k).choice(matrix.size, k, replace=False)
            matrix.flat[spots] = ~matrix.flat[spots].astype(bool)
            image = qr.draw_qr(replace(code, matrix=matrix), "white")
            picture = (image[0] * 255).round().to(torch.uint8).numpy()
            rate = verify.module_error_rate(picture, code)
            print(
                f"{level:<6} {matrix.size:>8} {k:>8} {rate:>10.6f} {k / matrix.size:>10.6f}  "
                f"{rate == k / matrix.size}"
            )


if __name__ == "__main__":
    clean_codes()
    flipped_modules()
