"""What things cost. Not part of the tests: machines are noisy, so all is measured as ratios within one run."""
