"""One file per group of `cellcount` commands: their options, and the rooms below put together.

Each command imports what it needs when it runs: `cellcount data list` should not wait for jax.
"""
