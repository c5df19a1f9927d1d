"""Put a plan on, take it off, cut it out, and prove that all three agree."""

from secateur.mask.certify import Certificate, certify
from secateur.mask.masked import masked
from secateur.mask.shrink import shrink

__all__ = ["Certificate", "certify", "masked", "shrink"]
