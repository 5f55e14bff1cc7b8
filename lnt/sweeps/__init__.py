"""Many runs: axes, the plan, its jobs on whichever launcher is configured, and what is missing."""
