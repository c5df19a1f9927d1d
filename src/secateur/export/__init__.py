"""Networks as other runtimes want them."""

from secateur.export.semi_structured import semi_structured

__all__ = ["semi_structured"]
