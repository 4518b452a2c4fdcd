"""What must agree exactly: tiles and whole images, devices, repeated runs."""
