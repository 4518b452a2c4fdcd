"""Files in and out: images, dot annotations, regions. Knows formats, nothing of networks."""
