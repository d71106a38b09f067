"""Start runs and watch over them: the command line, the plan of a job, and the agent that runs it on one machine."""
