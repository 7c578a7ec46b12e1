"""Exit codes of `alexnet`."""

OK = 0  # run: the model was pushed, or a part of the pipeline ran as asked
FAILURE = 1  # something broke that is not the user's mistake; the log has the details
USER_ERROR = 2  # a wrong argument, setting or input
NOT_PUSHED = 3  # run: it ran to the end, but the model did not pass its gates and was not pushed
INTERRUPTED = 130  # Ctrl-C
