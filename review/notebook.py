"""Results of a run in a notebook: `Review.load()` shows the verdict and the classes, and gives everything as tables.

Needs no server, no network and no notebook extension, and but for `Review.tfma` no TensorFlow. Works in JupyterLab,
Notebook and VS Code.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import html
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from core.errors import UserError
from core.workdir import DEFAULT, Workdir
from review import duplicates, near_duplicates, predict, run_report
from review.report import schema, web

if TYPE_CHECKING:
    import pandas as pd
    import tensorflow_model_analysis as tfma

    from review import compare

ROWS = 25  # of the table that is shown inline
FAILURES = 5  # gates that are told in words there
CLASS_NAME = "class_name"


class Review:
    """An evaluated run. As the last line of a cell it shows the verdict and the classes, worst first.

    Attributes:
        data: everything that its report shows, as a `schema.Report`.
    """

    def __init__(self, workdir: Workdir, found: Mapping) -> None:
        """`found` are the results of an evaluated run in `workdir`, as `Workdir.find` gives them."""
        self._workdir = workdir
        self._found = found
        self.data, self._pictures = run_report.load(workdir, found)

    @classmethod
    def load(cls, run: str | None = None, workdir: str | os.PathLike = DEFAULT) -> Review:
        """Reads a run.

        Args:
            run: its id or the beginning of it; None for the latest that was evaluated.
            workdir: where the pipeline ran.

        Raises:
            UserError: there is no such run, or its report cannot be read.
        """
        place = Workdir(workdir)
        return cls(place, place.find(run, evaluated=True))

    @property
    def run(self) -> str:
        """The run's id."""
        return self._found["run"]

    @functools.cached_property
    def classes(self) -> pd.DataFrame:
        """A row for each class, by name, worst recall first.

        Columns: count, recall, recall_low and recall_high (95 % interval), precision, f1, auc, baseline_recall,
        change (recall minus the baseline's), mostly_taken_for, mostly_taken_for_count, passed; leaked (examples whose
        picture is in train or validation, too), recall_without_leaked, recall_without_leaked_low and _high; near
        (examples whose picture is nearly one of these), recall_without_near, recall_without_near_low and _high,
        without the leaked ones, too. Shares are in 0 to 1, NaN where there is none.
        """
        rows = []
        for row in self.data.evaluation.classes:
            record = row.model_dump() | {"change": row.change}
            for name in ("recall", "recall_without_leaked", "recall_without_near"):
                record[f"{name}_low"], record[f"{name}_high"] = record.pop(f"{name}_interval") or (None, None)
            rows.append(record)
        shares = ["recall", "recall_low", "recall_high", "precision", "f1", "auc", "baseline_recall", "change"]
        others = ["mostly_taken_for", "mostly_taken_for_count", "passed"]
        rest = ["recall_without_leaked", "recall_without_leaked_low", "recall_without_leaked_high"]
        near = [name.replace("leaked", "near") for name in rest]
        frame = _frame(rows, [CLASS_NAME, "count", *shares, *others, "leaked", *rest, "near", *near])
        return frame.astype(dict.fromkeys([*shares, *rest, *near], float)).set_index(CLASS_NAME)

    def slices(self, *features: str) -> pd.DataFrame:
        """A row for each slice, worst accuracy first.

        Args:
            *features: what the test split is divided by, e.g. "class_name", "brightness"; in any order.

        Returns:
            The features, then count, accuracy, accuracy_low and accuracy_high (95 % interval), loss,
            baseline_accuracy and too_small (fewer examples than evaluation.smallest_slice).

        Raises:
            UserError: TFMA was not told to evaluate these; names those that there are.
        """
        part = self.data.evaluation
        rows: list[tuple]
        if features == (CLASS_NAME,):
            rows = [
                ([row.class_name], row.count, row.recall, *row.recall_interval, None, row.baseline_recall, False)
                for row in part.classes
            ]
            return self._slices([CLASS_NAME], features, rows)
        for known in part.slices:
            if sorted(known.features) == sorted(features):
                rows = [
                    (s.values, s.count, s.accuracy, *s.accuracy_interval, s.loss, s.baseline_accuracy, s.too_small)
                    for s in known.rows
                ]
                return self._slices(known.features, features, rows)
        names = "; ".join([CLASS_NAME, *(", ".join(known.features) for known in part.slices)])
        asked = ",".join(features)
        raise UserError(
            f"Run {self.run} was not evaluated on slices by {asked or 'nothing'}, but on: {names}. Set "
            f"evaluation.slices for another run, or group what the model said of each example: "
            f".predictions.groupby([...]).right.agg(['size', 'mean'])."
        )

    @staticmethod
    def _slices(known: Sequence[str], asked: Sequence[str], rows: Sequence[tuple]) -> pd.DataFrame:
        measured = ["count", "accuracy", "accuracy_low", "accuracy_high", "loss", "baseline_accuracy", "too_small"]
        frame = _frame([(*values, *others) for values, *others in rows], [*known, *measured])
        return frame[[*asked, *measured]].astype({"loss": float, "baseline_accuracy": float})

    @functools.cached_property
    def predictions(self) -> pd.DataFrame:
        """What the model said of every test example: `review.predictions.read`, and two columns more.

        `predicted_class_name` is the name of `predicted`, `right` whether it is the true class.

        Raises:
            UserError: Evaluator kept none, or they are no longer there.
        """
        from review import predictions

        path = self.data.evaluation.path
        try:
            frame = predictions.read(path)
        except FileNotFoundError:
            raise UserError(f"There are no predictions in {path}: run the pipeline again to have them.") from None
        frame["predicted_class_name"] = [self.data.evaluation.class_names[label] for label in frame["predicted"]]
        frame["right"] = frame["label"] == frame["predicted"]
        return frame

    @functools.cached_property
    def suspects(self) -> pd.DataFrame:
        """A row for each label that is suspected to be wrong, the least plausible first.

        Columns: id, split, label, suggested_label, label_probability, suggested_probability, digest.

        Raises:
            UserError: the run did not look for them.
        """
        if self.data.suspects is None:
            raise UserError(
                "The run has not looked for wrong labels: run the pipeline again (with up to 1,000 classes)."
            )
        columns = [name for name in schema.Suspect.model_fields if name not in ("file", "width", "height")]
        rows = [row.model_dump(include=set(columns)) for row in self.data.suspects.rows]
        return _frame(rows, columns)

    @functools.cached_property
    def confusion_matrix(self) -> pd.DataFrame:
        """Test examples: a row for each true class, a column for each predicted one, in the order of the labels."""
        import pandas as pd

        part = self.data.evaluation
        names = part.class_names
        known = names[: len(part.confusion_matrix)]  # TFMA's ends with the last class that occurs
        matrix = pd.DataFrame(part.confusion_matrix, known, known, dtype=int)
        matrix = matrix.reindex(index=names, columns=names, fill_value=0)
        return matrix.rename_axis(index="true", columns="predicted")

    @functools.cached_property
    def history(self) -> pd.DataFrame:
        """A row for each evaluation of the same data, by run, oldest first, this one last.

        Columns: made (time), count, accuracy, blessed, and "recall of CLASS" for each class.
        """
        import pandas as pd

        pasts = self.data.history
        names = dict.fromkeys([*self.data.evaluation.class_names, *(name for past in pasts for name in past.recalls)])
        rows = [
            (p.run, p.made, p.count, p.accuracy, p.blessed, *(p.recalls.get(name) for name in names)) for p in pasts
        ]
        recalls = [f"recall of {name}" for name in names]
        frame = _frame(rows, ["run", "made", "count", "accuracy", "blessed", *recalls])
        frame["made"] = pd.to_datetime(frame["made"])
        return frame.set_index("run")

    @functools.cached_property
    def training(self) -> pd.DataFrame:
        """A row for each epoch of the training, by its number: `schema.Epoch`."""
        rows = [epoch.model_dump() for epoch in self.data.training]
        more = [key for row in rows for key in row]
        return _frame(rows, list(dict.fromkeys([*schema.Epoch.model_fields, *more]))).set_index("epoch")

    def pictures(
        self,
        class_name: str | None = None,
        taken_for: str | None = None,
        kind: Literal["mistake", "borderline", "right"] | None = None,
        most: int = 24,
    ) -> Inline:
        """Test images with what the model took them for.

        Args:
            class_name: only those of this true class.
            taken_for: only those whose most probable class is this one.
            kind: only mistakes, those that were nearly wrong, or right ones.
            most: of the pictures that the report has, show so many at most.

        Raises:
            UserError: there is no such class.
        """
        for name in filter(None, (class_name, taken_for)):
            if name not in self.data.evaluation.class_names:
                raise UserError(f"There is no class {name!r}; .classes.index has their names.")
        fitting = [
            picture
            for picture in self.data.pictures
            if class_name in (None, picture.true)
            and taken_for in (None, picture.predicted)
            and kind in (None, picture.kind)
        ]
        shown = [(picture, _url(picture, self._pictures[picture.file])) for picture in fitting[:most]]
        return _render("notebook_pictures.html.j2", shown=shown, count=len(fitting))

    def report(self, height: int = 800) -> Inline:
        """The whole HTML report, in a frame of its own that can reach neither the notebook nor the network.

        Args:
            height: of the frame, in CSS pixels.
        """
        text = run_report.find(self._workdir, self._found).read_text(encoding="utf-8")
        # Without a base of its own, a link within the page would load the notebook into the frame.
        text = text.replace("<head>", '<head><base href="about:srcdoc">', 1)
        return Inline(
            f'<iframe title="Report of run {html.escape(self.run)}" sandbox="allow-scripts" width="100%" '
            f'height="{int(height)}" style="border: 1px solid #8888" srcdoc="{html.escape(text)}"></iframe>'
        )

    def tfma(self, model: Literal["candidate", "baseline"] = "candidate") -> tfma.EvalResult:
        """TFMA's own result, from which all numbers come: `tfma.load_eval_result`. Loads TensorFlow.

        Args:
            model: the one of this run, or the baseline that it was compared with.

        Raises:
            UserError: it is no longer there, or there was no baseline.
        """
        path = self.data.evaluation.path
        if not pathlib.Path(path).is_dir():
            raise UserError(f"TFMA's result is no longer in {path}: run the pipeline again to have it.")
        with predict.quiet():
            import tensorflow_model_analysis as tfma
        with _hushed():
            result = tfma.load_eval_result(path, model_name=model)
            if not result.slicing_metrics and model == "candidate":
                result = tfma.load_eval_result(path)  # a model that was evaluated alone has no name there
        if not result.slicing_metrics:
            raise UserError(f"Run {self.run} had no baseline to compare with.")
        return result

    def compare(self, other: str | Review) -> Comparison:
        """What has changed since another run, and whether it may be chance: `review.compare`.

        Args:
            other: the run that came before, as a Review, or its id in the same working directory.

        Raises:
            UserError: there is no such run, or it has other classes.
        """
        from review import compare

        first = other if isinstance(other, Review) else Review.load(other, self._workdir.path)
        (found,) = compare.compare([first._found, self._found])
        return Comparison(found)

    def __repr__(self) -> str:
        part = self.data.evaluation
        words = self.data.verdict.sentence
        return f"<Review of run {self.run}: accuracy {part.accuracy:.2%}, n={part.count:,}, {words}>"

    def _repr_html_(self) -> str:
        failed = [gate for gate in self.data.evaluation.gates if not gate.passed]
        values = {"report": self.data, "run": self.run, "rows": ROWS, "failed": failed, "failures": FAILURES}
        said = [part for of in (duplicates, near_duplicates) for part in of.of_report(self.data, web.percent)]
        return _render("notebook_review.html.j2", **values, said=said).html


class Comparison:
    """One run against another. As the last line of a cell it shows what has changed beyond chance.

    Attributes:
        found: the `review.compare.Comparison`.
    """

    def __init__(self, found: compare.Comparison) -> None:
        self.found = found

    @functools.cached_property
    def overall(self) -> pd.Series:
        """Of all test examples; the columns of `classes`."""
        import pandas as pd

        return pd.Series(self.found.overall.record(), name="overall")

    @functools.cached_property
    def classes(self) -> pd.DataFrame:
        """A row for each class, by name, those that got worse beyond chance first: `review.compare.Change`."""
        rows = [{CLASS_NAME: change.values[0], **change.record()} for change in self.found.classes]
        return _frame(rows, [CLASS_NAME, *self.found.overall.record()]).set_index(CLASS_NAME)

    def __repr__(self) -> str:
        words = self.found.overall
        return f"<Comparison of run {self.found.run} with {self.found.first}: accuracy {words.change:+.2%}>"

    def _repr_html_(self) -> str:
        from review import compare

        correction = compare.correction(len(self.found.classes), "classes")
        return _render("notebook_compare.html.j2", found=self.found, rows=ROWS, correction=correction).html


class Inline:
    """HTML that a notebook shows as the result of a cell."""

    def __init__(self, text: str) -> None:
        self.html = text

    def _repr_html_(self) -> str:
        return self.html


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """TFMA warns of what it deprecates itself, and once for every slice of a name that it does not find."""
    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _url(picture: schema.Picture, content: bytes) -> str:
    """The picture as a data URL."""
    form = "jpeg" if picture.file.endswith(".jpg") else "png"
    return f"data:image/{form};base64,{base64.b64encode(content).decode()}"


def _frame(rows: Sequence, columns: Sequence[str]) -> pd.DataFrame:
    """A table that has its columns even without rows."""
    import pandas as pd

    return pd.DataFrame(rows, columns=list(columns))


def _render(template: str, **values: object) -> Inline:

    return Inline(web.environment().get_template(template).render(**values))
