"""The reaper's part on a Ray cluster: jobs whose Dagster run has ended are told to stop.

A step that is killed leaves its job running. The job's metadata names the run; a run that this instance does not know
is another one's, and its job is left alone. The reaper ends the runs of dead processes first, so this comes after it.
"""

import os
from collections.abc import Iterator, Mapping

import dagster as dg

from atft_assets.settings import RAY_URL_VARIABLE, Settings
from atft_assets.training.ray_jobs import RUN_ID, Job, JobsApi, NoAnswer, Refused
from atft_assets.training.ray_launcher import stopped


def stop_ended_jobs(instance: dg.DagsterInstance, api: JobsApi) -> Iterator[str]:
    """Stop jobs whose run has ended; a sentence for each, or one for a cluster that cannot be asked."""

    def has_ended(job: Job) -> bool:
        run = instance.get_run_by_id(job.metadata.get(RUN_ID, ""))
        return run is not None and run.is_finished

    try:
        for job in stopped(api, has_ended):
            yield f"Ray job {job.id}: its run {job.metadata[RUN_ID]} has ended; told to stop"
    except (NoAnswer, Refused) as error:
        yield f"Ray jobs were not looked at: {error}"


def reap_ray(instance: dg.DagsterInstance, environ: Mapping[str, str] | None = None) -> Iterator[str]:
    """The same for the cluster that the environment names; nothing where it names none.

    Raises:
        SettingsError: a variable holds what cannot be used.
    """
    exported = os.environ if environ is None else environ
    if exported.get(RAY_URL_VARIABLE, "").strip():
        settings = Settings.from_env(exported)
        yield from stop_ended_jobs(instance, JobsApi(str(settings.ray_url), settings.ray_token_path))
