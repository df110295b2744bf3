"""Tables made from finished runs."""
