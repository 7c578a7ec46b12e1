"""The one exception for a mistake that the user can mend."""


class UserError(Exception):
    """Bad input or settings. Its text is one sentence: what is wrong, where, and what to do about it.

    The command line prints it without a traceback and exits with `core.exit_codes.USER_ERROR`.
    """

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback."""
        return [str(self)]
