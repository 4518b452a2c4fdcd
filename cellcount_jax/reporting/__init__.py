"""HTML reports and figures of runs, evaluations and explanations."""
