"""The evaluation tasks that ship with the harness, found through entry points."""
