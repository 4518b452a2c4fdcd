"""Networks: flax.linen modules and the pure functions they are made of."""
