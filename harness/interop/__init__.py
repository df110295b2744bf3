"""The methods inside other harnesses."""
