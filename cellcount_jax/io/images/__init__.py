"""Images and volumes: one file per format, read whole or window by window."""
