"""What of the dots the viewer draws, and how."""
