"""Nodes that find faces: the pack of models, the analysis, the upright crop, a look at what was found."""

from typing import Any

from comfy_api.latest import io

from ..adapters.faces._host import PROVIDER_CHOICES, analyze_in_host, installed_packs, load_pack
from ..adapters.faces.align import SIZES, TEMPLATES
from ..adapters.faces.analysis import LARGEST, SMALLEST, STEP, Search
from ..adapters.faces.choose import CHOICES
from ..adapters.faces.draw import draw_faces

CATEGORY = "Tiller/faces"

FaceAnalysisType = io.Custom("TILLER_FACE_ANALYSIS")
FacesType = io.Custom("TILLER_FACES")


class TillerLoadFaceAnalysis(io.ComfyNode):
    """Loads a pack of face models."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerLoadFaceAnalysis",
            display_name="Load Face Analysis",
            category=CATEGORY,
            description="Loads the models that find faces and tell who they are (insightface). Any folder "
            "with a detector and an ArcFace recogniser will do. The published packs are for non-commercial "
            "research only. Nothing is downloaded.",
            search_aliases=[
                "insightface",
                "InsightFaceLoader",
                "IPAdapterInsightFaceLoader",
                "InstantIDFaceAnalysis",
                "PulidInsightFaceLoader",
                "antelopev2",
                "buffalo_l",
            ],
            inputs=[
                io.Combo.Input(
                    "pack",
                    display_name="pack",
                    options=installed_packs(),
                    tooltip="A folder below models/insightface or models/insightface/models. FaceID wants "
                    "buffalo_l, InstantID and PuLID want antelopev2; these two are listed even when they are "
                    "not there. The published packs are for non-commercial research only.",
                ),
                io.Combo.Input(
                    "provider",
                    display_name="provider",
                    options=list(PROVIDER_CHOICES),
                    default="auto",
                    tooltip="What onnxruntime computes with. auto takes the device of ComfyUI where "
                    "onnxruntime offers it, else the processor, and info says which it is. Any other choice "
                    "is refused when onnxruntime cannot do it.",
                ),
            ],
            outputs=[
                FaceAnalysisType.Output(
                    "face_analysis",
                    display_name="face_analysis",
                    tooltip="The loaded models, for Analyze Faces.",
                ),
                io.String.Output(
                    "info",
                    display_name="info",
                    tooltip="Which files were taken, what the recogniser is, what it runs on, the licence. "
                    "Preview as Text shows it.",
                ),
            ],
        )

    @classmethod
    def execute(cls, pack: str, provider: Any) -> io.NodeOutput:
        return io.NodeOutput(*load_pack(pack, provider))


class TillerAnalyzeFaces(io.ComfyNode):
    """Finds faces and tells who they are."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerAnalyzeFaces",
            display_name="Analyze Faces",
            category=CATEGORY,
            description="Finds the faces in pictures, chooses one in each, and takes from it what face "
            "adapters need: five points, and the vector that says who it is. A batch holds several pictures "
            "of one person, whose vectors are averaged.",
            search_aliases=[
                "insightface",
                "face detection",
                "face embedding",
                "FaceAnalysis",
                "IPAdapterFaceID",
                "FaceEmbedsSelect",
            ],
            inputs=[
                FaceAnalysisType.Input("face_analysis", tooltip="The models, from Load Face Analysis."),
                io.Image.Input(
                    "image",
                    tooltip="A picture with a face, or a batch of pictures of one person. Gray and "
                    "transparent ones work too. Every picture must show somebody.",
                ),
                io.Combo.Input(
                    "choice",
                    display_name="choice",
                    options=list(CHOICES),
                    default="largest",
                    tooltip="Which face of each picture is meant: the largest, the outermost on the left or "
                    "right, the one nearest to the centre, the one the detector is surest of, or the one "
                    "with the index below.",
                ),
                io.Int.Input(
                    "index",
                    display_name="index",
                    default=0,
                    min=-100,
                    max=100,
                    tooltip="For choice index: the number of the face, from the left, beginning with 0; -1 "
                    "is the outermost on the right. Preview Faces shows the numbers.",
                ),
                io.Int.Input(
                    "detection_size",
                    display_name="detection_size",
                    default=640,
                    min=SMALLEST,
                    max=LARGEST,
                    step=STEP,
                    tooltip="Side of the square at which the detector looks first, in pixels. When it sees "
                    "nobody it looks again, 64 pixels smaller each time, down to 192. Larger finds small "
                    "faces in large pictures.",
                ),
            ],
            outputs=[
                FacesType.Output(
                    "faces",
                    display_name="faces",
                    tooltip="The faces with points and vectors, for Apply FaceID, Crop Face and Preview "
                    "Faces.",
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="What was found in each picture and which face was chosen. Preview as Text "
                    "shows it.",
                ),
                io.Int.Output(
                    "count",
                    display_name="count",
                    tooltip="How many faces were found in all pictures together.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, face_analysis: Any, image: Any, choice: Any, index: int, detection_size: int
    ) -> io.NodeOutput:
        return io.NodeOutput(*analyze_in_host(face_analysis, image, Search(choice, index, detection_size)))


class TillerCropFace(io.ComfyNode):
    """Cuts faces out upright."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerCropFace",
            display_name="Crop Face",
            category=CATEGORY,
            description="Cuts the chosen face out of each picture, turned upright and scaled so that eyes, "
            "nose and mouth lie where face models expect them.",
            search_aliases=["face align", "norm_crop", "FaceAlign", "crop face", "PrepImageForInsightFace"],
            inputs=[
                FacesType.Input("faces", tooltip="The faces, from Analyze Faces."),
                io.Combo.Input(
                    "size",
                    display_name="size",
                    options=[str(size) for size in SIZES],
                    default="224",
                    tooltip="Side of the crop in pixels. With the ArcFace template 112, 224 and 336 show the "
                    "same part of the face, 256 and 512 a wider one.",
                ),
                io.Combo.Input(
                    "template",
                    display_name="template",
                    options=list(TEMPLATES),
                    default="ArcFace",
                    tooltip="ArcFace: the face alone, as recognisers and FaceID take it; black outside the "
                    "picture. FFHQ: the whole head, as face restoration and PuLID take it; gray outside.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "image", display_name="image", tooltip="One upright face per picture, in the same order."
                )
            ],
        )

    @classmethod
    def execute(cls, faces: Any, size: str, template: Any) -> io.NodeOutput:
        return io.NodeOutput(faces.crops(int(size), template))


class TillerPreviewFaces(io.ComfyNode):
    """Draws what was found."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerPreviewFaces",
            display_name="Preview Faces",
            category=CATEGORY,
            description="Draws the faces that Analyze Faces found into the pictures: box, number and score, "
            "and the five points. The chosen face is green, the others are orange.",
            search_aliases=["face preview", "draw faces", "face boxes", "face keypoints", "draw_on"],
            inputs=[FacesType.Input("faces", tooltip="The faces, from Analyze Faces.")],
            outputs=[
                io.Image.Output(
                    "image",
                    display_name="image",
                    tooltip="The pictures with boxes and points. Numbers count from the left, from 0.",
                )
            ],
        )

    @classmethod
    def execute(cls, faces: Any) -> io.NodeOutput:
        return io.NodeOutput(draw_faces(faces))


NODES = (TillerLoadFaceAnalysis, TillerAnalyzeFaces, TillerCropFace, TillerPreviewFaces)
