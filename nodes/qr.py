"""Nodes that draw QR codes and check whether pictures still scan."""

import torch
from comfy_api.latest import io

from ..adapters.progress._host import report_images
from ..preprocessors.fit import Size
from ..preprocessors.qr import (
    BACKGROUNDS,
    ERROR_CORRECTIONS,
    Background,
    ErrorCorrection,
    QRCode,
    QRSettings,
    draw_qr,
    place_qr,
)
from ..preprocessors.qr_verify import verify_qr

CATEGORY = "Tiller/qr"
LONGEST_SIDE = 16384

QRType = io.Custom("TILLER_QR")


class TillerQRCode(io.ComfyNode):
    """A QR code as a hint."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerQRCode",
            display_name="QR Code",
            category=CATEGORY,
            description="Draws a QR code on the pixel grid of the picture you will sample: the hint for QR "
            "code art with the QR Monster, QR pattern and brightness control nets.",
            search_aliases=["qr", "qr code", "qrcode", "qr monster", "comfy-qr-by-image-size", "barcode"],
            inputs=[
                io.String.Input(
                    "text",
                    default="https://www.comfy.org",
                    tooltip="The link or words the code holds. A short text leaves more room for art.",
                ),
                *_size_inputs(),
                io.Combo.Input(
                    "error_correction",
                    display_name="error correction",
                    options=list(ERROR_CORRECTIONS),
                    default="H",
                    tooltip="How much of the code may be lost: L 7 %, M 15 %, Q 25 %, H 30 %. H for art.",
                ),
                io.Int.Input(
                    "module_size",
                    display_name="module size",
                    default=16,
                    min=1,
                    max=256,
                    tooltip="Pixels per module. 16 suits the QR control nets; multiples of 8 line up with "
                    "the cells of the latent.",
                ),
                io.Int.Input(
                    "quiet_zone",
                    display_name="quiet zone",
                    default=4,
                    min=0,
                    max=32,
                    tooltip="White margin around the code, in modules. The standard asks for 4; less may not "
                    "scan once the surroundings are painted.",
                ),
                io.Combo.Input(
                    "background",
                    options=list(BACKGROUNDS),
                    default="white",
                    tooltip="What lies outside the quiet zone. grey (#808080) leaves it to the prompt; "
                    "white keeps it bright.",
                ),
            ],
            outputs=[
                io.Image.Output("IMAGE", display_name="image", tooltip="The code, black on white: the hint."),
                QRType.Output("qr", display_name="qr", tooltip="The code and its place, for Verify QR Code."),
                io.Int.Output(
                    "modules",
                    display_name="modules",
                    tooltip="Modules along one side (21 to 177). Up to about 37 leaves room for art.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        text: str,
        width: int,
        height: int,
        error_correction: ErrorCorrection,
        module_size: int,
        quiet_zone: int,
        background: Background,
    ) -> io.NodeOutput:
        settings = QRSettings(error_correction, module_size, quiet_zone)
        code = place_qr(text, Size(height, width), settings)
        return io.NodeOutput(draw_qr(code, background), code, code.modules)


def _size_inputs() -> list[io.Int.Input]:
    return [
        io.Int.Input(
            side,
            default=768,
            min=64,
            max=LONGEST_SIDE,
            step=8,
            tooltip=f"{side.capitalize()} of the picture you will sample, in pixels; a multiple of 8.",
        )
        for side in ("width", "height")
    ]


class TillerVerifyQR(io.ComfyNode):
    """Whether a picture scans."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerVerifyQR",
            display_name="Verify QR Code",
            category=CATEGORY,
            description="Reads the QR code in each picture and in 14 worse copies of it (shrunken, blurred, "
            "compressed, brighter, darker, turned) and counts the wrong modules. The picture passes on.",
            search_aliases=["qr", "verify qr", "read qr", "scan qr", "decode qr", "comfy-qr-validate"],
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="The picture to check, or a batch of them."),
                QRType.Input(
                    "qr",
                    optional=True,
                    tooltip="The code from QR Code: its text is the wanted one, its modules are compared. "
                    "The picture may have been scaled since, not cropped.",
                ),
                io.String.Input(
                    "text",
                    default="",
                    optional=True,
                    tooltip="The wanted text when no code is connected; empty takes any text.",
                ),
            ],
            outputs=_verify_outputs(),
        )

    @classmethod
    def execute(cls, image: torch.Tensor, qr: QRCode | None = None, text: str = "") -> io.NodeOutput:
        results = verify_qr(image, text, qr, report_images())
        reports = [result.report for result in results]
        return io.NodeOutput(
            image,
            [result.text for result in results],
            [result.share for result in results],
            [result.error_rate for result in results],
            reports,
            ui={"text": tuple(reports)},
        )


def _verify_outputs() -> list:
    return [
        io.Image.Output("IMAGE", display_name="image", tooltip="The pictures, unchanged."),
        io.String.Output(
            "text",
            display_name="text",
            is_output_list=True,
            tooltip="What was read, empty for nothing; one per picture.",
        ),
        io.Float.Output(
            "share",
            display_name="share",
            is_output_list=True,
            tooltip="Share of the copies that gave the right text, 0 to 1; one per picture.",
        ),
        io.Float.Output(
            "error_rate",
            display_name="error rate",
            is_output_list=True,
            tooltip="Wrong modules / modules, 0 to 1; -1 when no code is connected; one per picture.",
        ),
        io.String.Output(
            "report",
            display_name="report",
            is_output_list=True,
            tooltip="The result in words, with the copies that failed; one per picture.",
        ),
    ]


NODES = (TillerQRCode, TillerVerifyQR)
