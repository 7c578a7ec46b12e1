"""What Flink 1.19.3 and Beam 2.62 said, and what the user is told."""

import pytest

from core.settings import Beam
from engines import words

BEAM = Beam(runner="FlinkRunner", master="flink:8081")
AROUND = "Pipeline alexnet-4e6aa41780ec-20261127-060520-Transform_9b02d178-9c46 failed in state "


@pytest.mark.parametrize(
    ("text", "told", "sentence"),
    [
        (
            "FAILED: java.io.IOException: Insufficient number of network buffers: required 512, but only 490 "
            "available. The total number of network buffers is currently set to 4096 of 32768 bytes each.",
            "",
            "has too few network buffers: write `taskmanager.network.sort-shuffle.min-buffers: 16`",
        ),
        (
            "FAILED: org.apache.flink.runtime.jobmanager.scheduler.NoResourceAvailableException: Could not acquire "
            "the minimum required resources.",
            "",
            "had no free slot",
        ),
        (
            "FAILED: java.net.ConnectException: finishConnect(..) failed: Connection refused",
            "org.apache.flink.runtime.JobException: Recovery is suppressed\n\tat x.Y.z(Y.java:1)\nCaused by: "
            "org.apache.flink.runtime.io.network.partition.consumer.PartitionConnectionException: Connection for "
            "partition 8da37c0d not reachable.",
            "has lost one of its TaskManagers",
        ),
        (
            "FAILED: java.net.UnknownHostException: java.net.UnknownHostException: pool.test: Name or service not "
            "known",
            "",
            "reaches no worker pool at pool.test: start `python -m engines.workers` beside each of its TaskManagers",
        ),
        (
            "FAILED: java.net.ConnectException: Connection refused: localhost:50000",
            "",
            "reaches no worker pool at localhost:50000",
        ),
        (
            "FAILED: java.net.ConnectException: finishConnect(..) failed: Connection refused",
            "Flink does not answer: connection refused",
            "Flink at beam.master=flink:8081 is no longer there: see its log",
        ),
        (
            "FAILED: org.apache.pekko.pattern.AskTimeoutException: Ask timed out on [Actor[pekko.tcp://flink@localhost:"
            "36533/user/rpc/taskmanager_0#-524390441]] after [10000 ms]. Message of type [org.apache.flink.runtime."
            "rpc.messages.RemoteRpcInvocation].",
            "",
            "was too slow to answer itself: give it more processors, or write a longer `pekko.ask.timeout`",
        ),
        (
            "FAILED: java.lang.OutOfMemoryError: Java heap space",
            "",
            "has too little memory for Java: give its TaskManagers a larger `taskmanager.memory.process.size`",
        ),
        ("CANCELLED: unknown error", "", "The job was cancelled on Flink at beam.master=flink:8081"),
        (
            "FAILED: java.lang.RuntimeException: The worker pool on node-7 has no folder /srv/run: mount the working "
            "directory there, too.",
            "",
            "The worker pool on node-7 has no folder /srv/run",
        ),
    ],
)
def test_what_the_user_can_mend(text, told, sentence):
    found = words.of_job(RuntimeError(AROUND + text), BEAM, told)
    assert sentence in found
    assert found.endswith(".")


def test_what_is_a_bug_is_told_by_its_cause():
    problem = RuntimeError(
        AROUND + "FAILED: java.lang.RuntimeException: java.lang.IllegalStateException: SDK harness failed: Traceback "
        "said nothing"
    )
    assert words.of_job(problem, BEAM) is None
    assert words.reason(problem) == "java.lang.IllegalStateException: SDK harness failed: Traceback said nothing"


def test_a_job_server_that_has_ended_is_named():
    problem = RuntimeError(
        "<_MultiThreadedRendezvous of RPC that terminated with:\n\tstatus = StatusCode.UNAVAILABLE\n\tdetails = "
        '"Socket closed"\n>'
    )
    assert words.of_job(problem, BEAM).startswith("Beam's job server for Flink has ended: see the run's log")


def test_an_error_of_the_network_is_none_of_the_engine():
    problem = ValueError('Input 0 of layer "conv1" is incompatible with the layer')
    assert words.of_job(problem, BEAM) is None


def test_without_an_engine_these_words_mean_nothing():
    problem = ConnectionError("Connection refused: localhost:50000")
    assert words.of_job(problem, Beam()) is None
    assert words.reason(problem) == "ConnectionError: Connection refused: localhost:50000"
