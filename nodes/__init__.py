"""What the user sees: each file is V3 schemas and one call apiece."""

from . import (
    contact_sheet,
    control,
    fit,
    hint,
    hints_depth,
    hints_depth_leres,
    hints_inpaint,
    hints_line_art,
    hints_lines,
    hints_normal,
    hints_pose,
    hints_segment_anything,
    hints_segmentation,
    hints_soft_edge,
    hints_straight_lines,
    hints_tone,
    pose,
    qr,
    segmentation,
)

NODE_CLASS_MAPPINGS = {
    node.__name__: node
    for module in (
        hint,
        contact_sheet,
        hints_lines,
        hints_line_art,
        hints_straight_lines,
        hints_soft_edge,
        hints_depth,
        hints_depth_leres,
        hints_pose,
        hints_segmentation,
        hints_normal,
        hints_inpaint,
        hints_segment_anything,
        hints_tone,
        fit,
        pose,
        segmentation,
        qr,
        control,
    )
    for node in module.NODES
}
