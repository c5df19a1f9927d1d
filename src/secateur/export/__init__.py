"""Networks as other runtimes want them."""

from secateur.export.executorch import ExecuTorch
from secateur.export.export import export
from secateur.export.exported import Exported, Written
from secateur.export.exporter import Exporter, Session
from secateur.export.faults import told
from secateur.export.formats import FORMATS
from secateur.export.onnx import Onnx
from secateur.export.openvino import OpenVino
from secateur.export.plain import plain_copy
from secateur.export.semi_structured import semi_structured
from secateur.export.torch_program import TorchProgram

__all__ = [
    "FORMATS",
    "ExecuTorch",
    "Exported",
    "Exporter",
    "Onnx",
    "OpenVino",
    "Session",
    "TorchProgram",
    "Written",
    "export",
    "plain_copy",
    "semi_structured",
    "told",
]
