"""How the Beam nodes run is not what they compute: other options of Beam run nothing anew."""

from pipeline_runs import execute

from core.workdir import Workdir

ELSEWHERE = "beam.pipeline_args=[--environment_type=EXTERNAL, --environment_config=nowhere:1]"  # absolute paths
PROCESSES = "beam.pipeline_args=[--direct_running_mode=multi_processing]"


def test_other_options_of_beam_run_nothing_anew(tmp_path):
    workdir = Workdir(tmp_path / "work")
    first = execute(workdir, last="ImageSchemaGen")
    assert set(first.states.values()) == {"COMPLETE"}
    for change in (ELSEWHERE, PROCESSES, ELSEWHERE):
        again = execute(workdir, change, last="ImageSchemaGen")
        assert set(again.states.values()) == {"CACHED"}, change
