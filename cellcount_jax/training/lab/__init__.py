"""`cellcount train`: a counter for a lab's folder, with settings inferred from its images."""
