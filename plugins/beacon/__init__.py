"""Methods that condense by activation beacons: `beacon` and `lora_experts`."""
