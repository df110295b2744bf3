"""`rope_scaling`: a longer window by a larger RoPE base, and a model trained for it stage after stage."""
