"""Pictures and pages about results."""
