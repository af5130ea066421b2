"""What was learned: statistics, figures and pages, read from result files alone."""
