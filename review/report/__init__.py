"""The evaluation report: its data (`schema`), how they are gathered (`build`), and how they are shown (`page`)."""
