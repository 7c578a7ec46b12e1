"""Settings, the one DAG, the local runner, and the command line."""
