"""Beam on Flink and Spark: what has to be there, is started for a run, and is ended with it. Knows no orchestrator.

check       is the engine there, and fit? Before anything runs
session     a run's own job server and worker pool, and Beam's options for them
job_server  Beam's, a Java program: which one, and how it is started
workers     the pool of Python workers, beside each TaskManager or executor
jobs        those of a working directory: how they are known, and ended
node        one node by itself, as a pod of Kubeflow has it
flink       what Flink's REST interface tells and does
words       what went wrong, in a sentence
address     whether one is of this machine
"""
