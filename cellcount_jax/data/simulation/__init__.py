"""Parts of the simulator; `cellcount_jax.data.simulate` is the door."""
