"""The `cellcount` command: each file parses the arguments of sub-commands and calls the package."""
