"""The host's progress bar and stop button, for work that goes picture by picture."""

from collections.abc import Callable

import comfy.model_management
import comfy.utils


def report_images() -> Callable[[int, int], None]:
    """A callback (done, total): moves the node's bar, raises the host's interrupt when asked to stop."""
    bar = comfy.utils.ProgressBar(1)

    def report(done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    return report
