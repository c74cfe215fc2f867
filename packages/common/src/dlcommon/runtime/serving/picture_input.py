"""A page's input field for pictures."""

from typing import Any

import gradio as gr
from gradio.data_classes import ImageData


def picture_input(**settings: Any) -> gr.Image:
    """Returns a `gr.Image` whose handler gets the path of the file as it was sent, or None.

    Gradio's own component opens the file first, and answers one that is no picture with a bare "Error". Here the item
    is decoded like that of a REST request, with `decode_image`, whose refusals say why.
    """
    component = gr.Image(type="filepath", **settings)

    def path_of(payload: ImageData | None) -> str | None:
        return payload.path if payload else None

    component.preprocess = path_of  # type: ignore[method-assign]
    return component


def camera_input(**settings: Any) -> gr.Image:
    """Returns a `gr.Image` whose `stream` handler gets the camera's picture as a data URL, or None."""
    component = gr.Image(type="filepath", sources=["webcam"], streaming=True, **settings)

    def url_of(payload: ImageData | None) -> str | None:
        return payload.url if payload else None

    component.preprocess = url_of  # type: ignore[method-assign]
    return component
