"""Run folders: written, read, labelled, summarised, merged and recorded."""
