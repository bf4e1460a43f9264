"""`prlm-edge doctor`: what is installed, what is missing, and the command that mends it."""
