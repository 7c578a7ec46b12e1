"""What TFX's Tuner calls: searches for a recipe with Keras Tuner. Found by the dotted path `trainer.tuning.tuner_fn`.

Each trial is a training of its own from beginning to end of its learning-rate schedule, by `training.train`, judged
by the validation split after its last epoch, as the model that Trainer makes is.
"""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import keras_tuner
import tensorflow as tf
from keras_tuner.engine import base_tuner
from keras_tuner.engine import trial as trials
from tfx.components.tuner.component import TunerFnResult

from core.errors import UserError
from core.events import emit
from core.settings import Training, Tuner
from trainer import features, hardware, input, run, summary, training
from trainer.callbacks import Diverged
from trainer.summary import DataSummary

if TYPE_CHECKING:
    from tfx.components.trainer.fn_args_utils import FnArgs

OBJECTIVE = keras_tuner.Objective("val_accuracy", "max")
EPOCHS = "tuner/epochs"  # where Hyperband says how long a trial is

log = logging.getLogger(__name__)


def tuner_fn(fn_args: FnArgs) -> TunerFnResult:
    """The search that TFX's Tuner is to do on fn_args.train_files and fn_args.eval_files.

    fn_args.custom_config: {"model": settings.Model as a dict, "training": settings.Training as a dict, "tuner":
    settings.Tuner as a dict, "checkpoint_root": a local folder in which an interrupted search continues or "",
    "code": a hash of the code}.

    Raises:
        UserError: tuner.share leaves no example, or TF_CONFIG names several workers; see also `summary.read_summary`.
    """
    if hardware.workers() > 1:
        raise UserError(
            f"TF_CONFIG names {hardware.workers()} workers, but a search trains on one: start Tuner without it."
        )
    settings = Tuner(**fn_args.custom_config["tuner"])
    data = summary.read_summary(fn_args.transform_graph_path)
    folder = run.working_folder(fn_args) or pathlib.Path(tempfile.mkdtemp(prefix="search-"))
    folder.mkdir(parents=True, exist_ok=True)
    train_files = fn_args.train_files
    if settings.share < 1:
        train_files, data = thin_out(train_files, settings.share, data, folder / "train.gz")
    arguments = (settings, fn_args.custom_config, data, train_files, fn_args.eval_files, folder)
    try:
        search = Search(*arguments)
    except (KeyError, TypeError, ValueError, RuntimeError, OSError, tf.errors.OpError) as problem:
        # Keras Tuner does not write its files as a whole, and somebody may have deleted some.
        log.warning("%s cannot be read: %s", folder, problem)
        emit("warning", text=f"the search starts from the beginning: {folder} cannot be read")
        shutil.rmtree(folder / Search.PROJECT, ignore_errors=True)
        search = Search(*arguments)
    return TunerFnResult(search, {})


class Search(base_tuner.BaseTuner):
    """Trains once for each trial, and tells of it by events.

    "trial": trial (from 1), trials, state ("running", "completed", or "failed" if it diverged), values (setting ->
    value), accuracy (None unless completed), best (accuracy so far, or None).
    """

    PROJECT = "search"

    def __init__(
        self,
        settings: Tuner,
        config: Mapping[str, Mapping],
        data: DataSummary,
        train_files: Sequence[str],
        eval_files: Sequence[str],
        folder: pathlib.Path,
    ) -> None:
        """
        Args:
            settings: what to search and how.
            config: the rest of the recipe, {"model": ..., "training": ...}.
            data: of the training split.
            train_files: see `training.train`.
            eval_files: see `training.train`.
            folder: for the state of the search; one that is found there is continued. Removed at its end.
        """
        self._settings, self._config, self._folder = settings, config, folder
        self._data = data, train_files, eval_files
        super().__init__(
            oracle(settings, Training(**config["training"]).seed, as_set(settings, config)),
            directory=str(folder),
            project_name=self.PROJECT,
        )
        self.oracle.verbose = 0  # its table is for a terminal

    def search(self) -> None:
        """Runs all trials.

        Raises:
            UserError: all trainings diverged. What else a training raises comes through as it is.
        """
        try:
            super().search()
        except keras_tuner.errors.FatalError as stopped:
            raise stopped.__cause__ or stopped from None
        if not self._scores():
            raise UserError(
                f"All {len(self.oracle.trials)} trainings of the search diverged: lower the bounds in tuner.space, "
                "most of all of training.learning_rate."
            )

    def run_trial(self, trial: trials.Trial) -> dict[str, float]:
        """Trains with the values of a trial; the validation accuracy after the last epoch."""
        values = trial.hyperparameters.values
        model, recipe = run.recipe(self._config, values)
        recipe = recipe.model_copy(update={"epochs": values.get(EPOCHS, self._settings.epochs)})
        keras.utils.clear_session(free_memory=True)
        folder = pathlib.Path(self.get_trial_dir(trial.trial_id))
        try:
            _, records = training.train(model, recipe, *self._data, folder / "run", folder / "checkpoint")
        except Diverged as problem:
            raise keras_tuner.errors.FailedTrialError(str(problem)) from None
        except Exception as problem:  # Keras Tuner would go on with the next trial
            raise keras_tuner.errors.FatalError(str(problem)) from problem
        finally:
            shutil.rmtree(folder / "run", ignore_errors=True)
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)
        return {OBJECTIVE.name: records[-1][OBJECTIVE.name]}

    def on_trial_begin(self, trial: trials.Trial) -> None:
        """See keras_tuner.engine.base_tuner.BaseTuner."""
        super().on_trial_begin(trial)
        self._tell(trial)

    def on_trial_end(self, trial: trials.Trial) -> None:
        """See keras_tuner.engine.base_tuner.BaseTuner."""
        super().on_trial_end(trial)
        self._tell(self.oracle.get_trial(trial.trial_id))

    def on_search_end(self) -> None:
        """See keras_tuner.engine.base_tuner.BaseTuner."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def results_summary(self, num_trials: int = 10) -> None:
        """Logs the trials, the best first; unlike the stock one it does not make the folder again."""
        for trial in self.oracle.get_best_trials(num_trials):
            log.info("Trial %s: %s, %s", trial.trial_id, trial.score, trial.hyperparameters.values)

    def _tell(self, trial: trials.Trial) -> None:
        values = {key: value for key, value in trial.hyperparameters.values.items() if key in self._settings.space}
        emit(
            "trial",
            trial=int(trial.trial_id) + 1,
            trials=self._settings.trials,
            values=values,
            state=trial.status.lower(),
            accuracy=trial.score,
            best=max(self._scores(), default=None),
        )

    def _scores(self) -> list[float]:
        done = trials.TrialStatus.COMPLETED
        return [trial.score for trial in self.oracle.trials.values() if trial.status == done]


class KnownFirst(keras_tuner.Oracle):
    """Makes the first trial of an oracle, which this class goes before, one with known values."""

    def __init__(self, known: Mapping[str, object], **options: object) -> None:
        """
        Args:
            known: the values; none leaves the first trial to the oracle.
            **options: of the oracle.
        """
        super().__init__(**options)
        self._known = dict(known)

    def populate_space(self, trial_id: str) -> dict[str, object]:
        """See keras_tuner.Oracle."""
        is_first = not self.trials
        chosen = super().populate_space(trial_id)
        if is_first:
            chosen["values"].update(self._known)
        return chosen


class RandomSearch(KnownFirst, keras_tuner.oracles.RandomSearchOracle):
    """Values at random."""


class Bayesian(KnownFirst, keras_tuner.oracles.BayesianOptimizationOracle):
    """Values where a Gaussian process of the trials so far promises most."""


class Hyperband(KnownFirst, keras_tuner.oracles.HyperbandOracle):
    """Many short trials, of which the better ones get longer."""


def oracle(settings: Tuner, seed: int, known: Mapping[str, object]) -> keras_tuner.Oracle:
    """What chooses the values of the trials, the first of which has those of `known`."""
    options = {
        "known": known,
        "objective": OBJECTIVE,
        "hyperparameters": space(settings),
        "seed": seed + 1,  # 0 would be another one each time
        "max_consecutive_failed_trials": (settings.trials or 0) + 1,  # a wide space may hold many that diverge
    }
    if settings.algorithm == "hyperband":
        made = Hyperband(max_epochs=settings.epochs, hyperband_iterations=None, **options)
        made.max_trials = settings.trials
        return made
    return {"random": RandomSearch, "bayesian": Bayesian}[settings.algorithm](max_trials=settings.trials, **options)


def as_set(settings: Tuner, config: Mapping[str, Mapping]) -> dict[str, object]:
    """What the settings say of all that is searched; nothing if the space does not hold it."""
    found = {}
    for key, (*values, kind) in settings.space.items():
        group, _, name = key.partition(".")
        found[key] = value = config[group][name]
        if value not in values if kind == "choice" else not values[0] <= value <= values[1]:
            return {}
    return found


def space(settings: Tuner) -> keras_tuner.HyperParameters:
    """The space in Keras Tuner's terms."""
    made = keras_tuner.HyperParameters()
    for key, (*values, kind) in settings.space.items():
        if kind != "choice":
            add = made.Int if isinstance(values[0], int) else made.Float
            add(key, *values, sampling=kind)
        elif isinstance(values[0], bool):
            made.Boolean(key)
        else:
            made.Choice(key, values)
    return made


def thin_out(
    files: Sequence[str], share: float, data: DataSummary, target: pathlib.Path
) -> tuple[list[str], DataSummary]:
    """Writes a share of the examples, evenly taken from all of them, into a file of its own.

    Returns:
        The file as the only element of a list, and the summary with the number of its examples in each class.

    Raises:
        UserError: there would be none.
    """
    counts = [0] * len(data.class_names)
    with tf.io.TFRecordWriter(str(target), tf.io.TFRecordOptions("GZIP", compression_level=1)) as writer:
        for place, record in enumerate(input.records(files).as_numpy_iterator()):
            if int((place + 1) * share) > int(place * share):
                writer.write(record)
                feature = tf.train.Example.FromString(record).features.feature[features.LABEL]
                counts[feature.int64_list.value[0]] += 1
    if not any(counts):
        raise UserError(f"tuner.share={share:g} of {data.examples:,} training examples is not even one: raise it.")
    return [str(target)], dataclasses.replace(data, class_counts=tuple(counts))
