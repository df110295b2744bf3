"""From a request to records: plan, run, score, write."""
