"""What an exporter is: a format, how it is written, and the runtime that runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

Session = Callable[[Any], list[Tensor]]
"""A loaded file: runs on an example, and returns the tensors of its output in order."""


@runtime_checkable
class Exporter(Protocol):
    """One format; its options are the fields of the value.

    Attributes:
        name: what the command line calls it.
        ending: of the file that is asked for, with its dot.
        dynamic_batch: whether what is written takes any number of samples.
    """

    name: ClassVar[str]
    ending: ClassVar[str]

    @property
    def dynamic_batch(self) -> bool: ...  # noqa: D102 - above

    def require(self) -> str:
        """The runtime with its version: "onnxruntime 1.31.1".

        Raises:
            MissingExtraError: what is needed to write or to run is not installed.
        """

    def write(self, model: nn.Module, example: Any, path: Path) -> tuple[str, ...]:
        """Write the file, and others beside it where the format has several.

        Args:
            model: a plain network in eval mode on the CPU, the exporter's own to change.
            example: what the network is called with, on the CPU.
            path: in an empty folder.

        Returns:
            The names of the weights that were written as integer codes.

        Raises:
            ModelError: the format cannot express the network.
        """

    def open(self, path: Path, threads: int = 1) -> Session:
        """Load what `write` wrote.

        Raises:
            ModelError: the runtime refuses the file.
        """
