"""Speed and accuracy, one command each; results go to JSON and Markdown."""
