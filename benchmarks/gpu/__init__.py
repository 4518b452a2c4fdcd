"""Speed and full-size trainings in the few minutes of one borrowed accelerator."""
