"""Methods that condense by activation beacons: `beacon` and `lora_experts`."""

from .lora_method import LoraExperts
from .method import Beacon

__all__ = ["Beacon", "LoraExperts"]
