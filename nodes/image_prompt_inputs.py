"""Sockets that the nodes of image prompts share."""

from comfy_api.latest import io

CATEGORY = "Tiller/image prompt"

IPAdapterType = io.Custom("TILLER_IP_ADAPTER")
ImageEncoderType = io.Custom("TILLER_IMAGE_ENCODER")
ImagePromptType = io.Custom("TILLER_IMAGE_PROMPT")
