"""`two_pass`: relevance of each interval first, then a ratio for each."""
