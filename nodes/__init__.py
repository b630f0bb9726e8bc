"""What the user sees: each file is V3 schemas and one call apiece."""

from . import (
    check_control,
    contact_sheet,
    control,
    control_options,
    control_preset,
    faces,
    fit,
    hint,
    instruct_pix2pix,
    load_control,
    lora,
    motion,
    offset,
    pose,
    qr,
    recolor,
    reference,
    revision,
    schedule_lora,
    segmentation,
    sparse_control,
    style,
    tile_color_fix,
)

NODE_CLASS_MAPPINGS = {
    node.__name__: node
    for nodes in (
        hint.NODES,
        contact_sheet.NODES,
        [node for _, node in hint.HINTS],
        fit.NODES,
        pose.NODES,
        segmentation.NODES,
        qr.NODES,
        control.NODES,
        revision.NODES,
        instruct_pix2pix.NODES,
        tile_color_fix.NODES,
        recolor.NODES,
        control_options.NODES,
        load_control.NODES,
        style.NODES,
        reference.NODES,
        offset.NODES,
        check_control.NODES,
        sparse_control.NODES,
        motion.NODES,
        control_preset.NODES,
        faces.NODES,
        lora.NODES,
        schedule_lora.NODES,
    )
    for node in nodes
}
