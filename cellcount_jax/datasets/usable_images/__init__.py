"""Which images of a lab's folder are trained on: what is left out, and dots of another image."""
