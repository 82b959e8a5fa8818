"""Command lines that no definition uses: the guarded UI, the doctor, the reaper, the migration of an older data root.

Here belongs what a person or a start script runs beside Dagster. Not here: anything that an asset, job, schedule or
sensor needs.
"""
