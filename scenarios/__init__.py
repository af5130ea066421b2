"""What is asked: the scenario, its run, and the command line."""
