"""The node that looks at control before sampling."""

from typing import Any

from comfy_api.latest import io

from ..adapters.control.check.apply import check_control


class TillerCheckControl(io.ComfyNode):
    """Says what will not work as meant."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerCheckControl",
            display_name="Check Control",
            category="Tiller/control",
            description="Looks at model, control nets and hints before sampling, and says in words what is "
            "off: wrong family, inverted or small hints, missing union type, crowded regions. Stops nothing.",
            search_aliases=["controlnet debug", "controlnet check", "validate control", "control warnings"],
            inputs=[
                io.Model.Input("model", tooltip="The model that will sample."),
                io.Conditioning.Input(
                    "positive",
                    tooltip="The positive conditioning with all control on it, as the sampler gets it.",
                ),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="The negative conditioning: then it is checked that the control is on both.",
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="The latent that will be sampled: then sizes and shapes are checked as well.",
                ),
            ],
            outputs=[
                io.String.Output(
                    "warnings",
                    display_name="warnings",
                    tooltip="One warning per line, or a line that begins with: No problem found.",
                ),
                io.Int.Output("count", display_name="count", tooltip="How many warnings there are."),
            ],
        )

    @classmethod
    def execute(cls, model: Any, positive: Any, negative: Any = None, latent: Any = None) -> io.NodeOutput:
        report = check_control(model, positive, negative, latent)
        return io.NodeOutput(report.text, report.count)


NODES = (TillerCheckControl,)
