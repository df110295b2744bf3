"""Tables and figures as data: what reports make, before any format."""
