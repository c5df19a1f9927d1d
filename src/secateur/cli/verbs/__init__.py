"""What each verb of the command line does: `run` takes what was asked and returns the exit code."""
