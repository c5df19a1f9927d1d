"""What a runtime is: something that runs a network, and can be timed doing so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

Once = Callable[[], list[Tensor]]
"""Runs the loaded network once on the example it was loaded with, and returns its output tensors.

The next call may write into them."""


@runtime_checkable
class Runtime(Protocol):
    """One way to run networks on the CPU; its options are the fields of the value.

    Attributes:
        name: what tables and the command line call it.
    """

    name: ClassVar[str]

    def require(self) -> str:
        """Its name and version: "onnxruntime 1.31.1".

        Raises:
            MissingExtraError: it is not installed.
        """

    def load(self, model: nn.Module, example: Any, threads: int = 1) -> Once:
        """Make the network ready for the example: traced, compiled and run once.

        The network is untouched, and may change afterwards without a change in what was loaded.

        Args:
            model: run in eval mode, as a copy on the CPU.
            example: as the network is called; its batch is the only one that is run.
            threads: how many one run may use.

        Raises:
            DataError: the network does not run on the example.
            MissingExtraError: the runtime is not installed.
            ModelError: the runtime cannot run the network.
        """
