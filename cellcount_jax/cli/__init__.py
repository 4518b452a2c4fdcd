"""The `cellcount` command: one file per sub-command, which parses arguments and calls in."""
