"""One name everywhere: class, mapping key, node id, help page and locale entry."""

import json
import re

import pytest

from devtools import locales
from devtools.locales import ROOT, load_pack

NODES = load_pack()
HAN = re.compile(r"[\u4e00-\u9fff]")
LATIN_IN_CHINESE = {"ControlNet", "VAE"}
"""Names of slots that Chinese users know in Latin letters alone."""
NAMES_ELSEWHERE = {
    "TillerAnalyzeFaces": {"FaceAnalysis", "face embedding"},
    "TillerApplyFaceID": {"IPAdapterFaceID", "IPAdapterUnifiedLoaderFaceID"},
    "TillerApplyMotion": {"ADE_ApplyAnimateDiffModelSimple", "ADE_AnimateDiffLoaderGen1"},
    "TillerApplyControl": {"ControlNetApplyAdvanced", "ACN_AdvancedControlNetApply"},
    "TillerApplyModelOffset": {"controlnext unet", "load_weight_increasement"},
    "TillerApplyIPAdapter": {"IPAdapterAdvanced", "IPAdapterEmbeds", "ipadapter"},
    "TillerApplyIPAdapterAdvanced": {
        "IPAdapterMS",
        "IPAdapterStyleComposition",
        "IPAdapterPreciseStyleTransfer",
    },
    "TillerIPAdapterHook": {"hook ipadapter"},
    "TillerImagePromptRegions": {"IPAdapterRegionalConditioning", "IPAdapterFromParams"},
    "TillerApplyControlUnits": {"cr apply multi-controlnet"},
    "TillerApplyStyle": {"StyleModelApply", "t2iadapter_style"},
    "TillerBlur": {"blur_gaussian"},
    "TillerBrightness": {"control_v1p_sd15_brightness"},
    "TillerCanny": {"CannyEdgePreprocessor"},
    "TillerCheckControl": {"controlnet debug"},
    "TillerColorGrid": {"ColorPreprocessor", "t2ia_color_grid"},
    "TillerColorToMask": {"MaskFromColor+", "ImageColorToMask"},
    "TillerContactSheet": {"compare preprocessors"},
    "TillerControlOptions": {"effective region mask", "SetUnionControlNetType"},
    "TillerControlPreset": {"strength preset", "control layer strength"},
    "TillerControlUnit": {"cr multi controlnet"},
    "TillerCropFace": {"norm_crop", "PrepImageForInsightFace"},
    "TillerDepthMiDaS": {"MiDaS-DepthMapPreprocessor", "depth_midas"},
    "TillerDepthAnythingV2": {"DepthAnythingV2Preprocessor", "depth_anything_v2"},
    "TillerDepthZoe": {"Zoe-DepthMapPreprocessor", "depth_zoe"},
    "TillerDepthLeReS": {"LeReS-DepthMapPreprocessor", "depth_leres", "depth_leres++"},
    "TillerDWPose": {"DWPreprocessor", "dw_openpose_full"},
    "TillerDrawPose": {"RenderPeopleKps", "SDPoseDrawKeypoints"},
    "TillerImagePromptNoise": {"IPAdapterNoise"},
    "TillerCombineImagePrompts": {"IPAdapterCombineEmbeds"},
    "TillerSaveImagePrompt": {"IPAdapterSaveEmbeds"},
    "TillerLoadImagePrompt": {"IPAdapterLoadEmbeds"},
    "TillerEncodeImagePrompt": {"IPAdapterEncoder", "PrepImageForClipVision", "IPAdapterTiled"},
    "TillerFitHint": {"HintImageEnchance"},
    "TillerHED": {"HEDPreprocessor", "softedge_hed", "softedge_hedsafe"},
    "TillerHint": {"AIO_Preprocessor"},
    "TillerInpaintHint": {"inpaint_global_harmonious", "InpaintPreprocessor"},
    "TillerInpaintLaMa": {"inpaint_only+lama", "INPAINT_InpaintWithModel"},
    "TillerInvert": {"invert (from white bg & black line)"},
    "TillerInstructPix2Pix": {"InstructPixToPixConditioning"},
    "TillerLoadLoRA": {"LoraLoader", "LoraLoaderBlockWeight //Inspire", "lbw"},
    "TillerLoRAInfo": {"LoraInfo", "trigger words"},
    "TillerLoRAUnit": {"CR LoRA Stack"},
    "TillerScheduleLoRA": {"CreateHookLora", "ADE_RegisterLoraHook"},
    "TillerStackLoRA": {"CR Apply LoRA Stack", "Power Lora Loader (rgthree)"},
    "TillerLineArtAnime": {"AnimeLineArtPreprocessor", "lineart_anime"},
    "TillerLineArtAnimeDenoise": {"Manga2Anime_LineArt_Preprocessor", "lineart_anime_denoise"},
    "TillerLineArtCoarse": {"lineart_coarse"},
    "TillerLineArtRealistic": {"LineArtPreprocessor", "lineart_realistic"},
    "TillerLineArtStandard": {"LineartStandardPreprocessor", "lineart_standard"},
    "TillerNormalMiDaS": {"MiDaS-NormalMapPreprocessor", "normal_midas"},
    "TillerNormalBae": {"BAE-NormalMapPreprocessor", "normal_bae"},
    "TillerPiDiNet": {"PiDiNetPreprocessor", "softedge_pidinet", "softedge_pidisafe"},
    "TillerLoadImageEncoder": {"CLIPVisionLoader", "IPAdapterUnifiedLoader"},
    "TillerLoadControl": {"ControlNetLoader", "ACN_ControlNetLoaderAdvanced", "LoadLLLite"},
    "TillerLoadFaceAnalysis": {"IPAdapterInsightFaceLoader", "InstantIDFaceAnalysis", "antelopev2"},
    "TillerLoadIPAdapter": {"IPAdapterModelLoader", "IPAdapterUnifiedLoader", "LoadFluxIPAdapter"},
    "TillerLoadMotion": {"ADE_LoadAnimateDiffModel"},
    "TillerMLSD": {"M-LSDPreprocessor", "mlsd"},
    "TillerOpenPose": {"OpenposePreprocessor", "openpose_full", "openpose_faceonly"},
    "TillerPixelPerfect": {"PixelPerfectResolution"},
    "TillerPoseToJSON": {"SavePoseKpsAsJsonFile"},
    "TillerPreviewFaces": {"draw_on"},
    "TillerQRCode": {"comfy-qr-by-image-size"},
    "TillerRecolorIntensity": {"ImageIntensityDetector", "recolor_intensity"},
    "TillerRecolor": {"recolor_luminance", "recolor_intensity"},
    "TillerRecolorLuminance": {"ImageLuminanceDetector", "recolor_luminance"},
    "TillerReference": {"reference_only", "reference_adain+attn", "ACN_ReferenceControlNet"},
    "TillerScribble": {"ScribblePreprocessor"},
    "TillerRevision": {"revision_clipvision", "revision_ignore_prompt", "unCLIPConditioning"},
    "TillerScribbleHED": {"FakeScribblePreprocessor", "scribble_hed"},
    "TillerScribblePiDiNet": {"Scribble_PiDiNet_Preprocessor", "scribble_pidinet"},
    "TillerScribbleXDoG": {"Scribble_XDoG_Preprocessor", "scribble_xdog"},
    "TillerSegmentOneFormer": {"OneFormer-ADE20K-SemSegPreprocessor", "seg_ofade20k", "seg_ofcoco"},
    "TillerSegmentAnything": {"SAMPreprocessor", "mobile_sam"},
    "TillerSegmentUniFormer": {"UniFormer-SemSegPreprocessor", "SemSegPreprocessor", "seg_ufade20k"},
    "TillerShuffle": {"ShufflePreprocessor"},
    "TillerSketchPiDiNet": {"t2ia_sketch_pidi"},
    "TillerSparseControl": {"ACN_SparseCtrlIndexMethodNode", "ACN_SparseCtrlSpreadMethodNode"},
    "TillerThreshold": {"BinaryPreprocessor"},
    "TillerTileResample": {"TilePreprocessor", "tile_resample"},
    "TillerTileColorFix": {"tile_colorfix", "tile_colorfix+sharp"},
    "TillerVerifyQR": {"comfy-qr-validate"},
}
"""What the A1111 web UI and older packs call the same thing."""


def nodes():
    return pytest.mark.parametrize("name", sorted(NODES))


@nodes()
def test_class_name_key_and_node_id_are_one(name):
    schema = NODES[name].define_schema()
    assert NODES[name].__name__ == name == schema.node_id
    assert name.startswith("Tiller")


@nodes()
def test_help_pages_exist_in_english_and_chinese(name):
    english = (ROOT / f"web/docs/{name}.md").read_text(encoding="utf-8")
    chinese = (ROOT / f"web/docs/{name}/zh.md").read_text(encoding="utf-8")
    assert english.startswith("# ")
    assert not HAN.search(english)
    assert len(HAN.findall(chinese)) > 50


@nodes()
def test_every_input_and_output_has_a_tooltip(name):
    schema = NODES[name].define_schema()
    silent = [key for key, entry in locales.walk_inputs(schema.inputs) if not entry.tooltip]
    silent += [f"output {i}" for i, output in enumerate(schema.outputs) if not output.tooltip]
    assert silent == []


@nodes()
def test_node_can_be_found_by_other_packs_names(name):
    schema = NODES[name].define_schema()
    assert NAMES_ELSEWHERE[name] <= set(schema.search_aliases)
    assert schema.description
    assert schema.category.startswith("Tiller/")


def test_help_pages_belong_to_nodes():
    pages = {page.stem for page in (ROOT / "web/docs").glob("*.md")}
    assert pages == set(NODES)


def test_english_locale_says_what_the_schemas_say():
    stored = json.loads((ROOT / "locales/en/nodeDefs.json").read_text(encoding="utf-8"))
    assert stored == locales.english(), "run `python3 dev.py locales`"


def test_chinese_locale_holds_the_same_entries_in_chinese():
    stored = json.loads((ROOT / "locales/zh/nodeDefs.json").read_text(encoding="utf-8"))
    assert locales.paths(stored) == locales.paths(locales.english())
    for name, entry in stored.items():
        assert HAN.search(entry["display_name"]), name
        assert HAN.search(entry["description"]), name
        for kind in ("inputs", "outputs"):
            for key, words in entry[kind].items():
                assert HAN.search(words["tooltip"]), f"{name} {kind} {key}"
                assert HAN.search(words["name"]) or words["name"] in LATIN_IN_CHINESE, f"{name} {kind} {key}"


def test_categories_have_names_in_both_languages():
    parts = {part for node in NODES.values() for part in node.define_schema().category.split("/")}
    for language in ("en", "zh"):
        stored = json.loads((ROOT / f"locales/{language}/main.json").read_text(encoding="utf-8"))
        names = stored["nodeCategories"]
        assert set(names) == parts
        assert {part for part in parts if HAN.search(names[part])} == (
            parts - {"Tiller"} if language == "zh" else set()
        )


def shape_of(schema):
    """What saved graphs depend on: ids and types of inputs, in order, and the types of outputs."""
    inputs = {key: entry.get_io_type() for key, entry in locales.walk_inputs(schema.inputs)}
    return {"inputs": inputs, "outputs": [output.io_type for output in schema.outputs]}


def test_released_ids_stay():
    """`tests/host/released_schemas.json` only ever grows; at a release, add what is new to it."""
    released = json.loads((ROOT / "tests/host/released_schemas.json").read_text(encoding="utf-8"))
    now = {name: shape_of(node.define_schema()) for name, node in NODES.items()}
    for name, shape in released.items():
        assert name in now, f"{name} was released and is gone"
        assert now[name]["outputs"][: len(shape["outputs"])] == shape["outputs"], name
        lost = {key: kind for key, kind in shape["inputs"].items() if now[name]["inputs"].get(key) != kind}
        assert not lost, f"{name}: released inputs are gone or of another type"
