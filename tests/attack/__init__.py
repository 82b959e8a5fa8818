"""The attack: what was tried to break ATFT, kept so that it is tried again.

* `hostile.py`, `cases.py`, `test_api.py`: a proxy in front of the sandbox that spoils its answers. Each row of
  `cases.py` says what is spoiled and what must become of it: refused (one failed run, one alert, not a byte changed in
  the store), published as if nothing had been, or told (published, with a warning that waits for a person). The rows go
  through the real assets, the real store, a Dagster instance and the real alert sensors.
* `damage.py`, `test_corruption.py`: every kind of file of a data root flipped, cut, emptied, deleted or filled with
  nonsense. Its reader refuses in a sentence that names the command that mends, or builds it again; the command mends.
* `kill.py`, `test_kill.py`: processes struck in every phase of the road by SIGINT, SIGTERM and SIGKILL. They end, leave
  nothing torn, and the same command completes what an undisturbed one makes.
* `test_secrets.py`: the key is nowhere at rest after all that; no unsafe loading; nothing listens but on loopback.
* `test_wrong_settings.py`: wrong settings and wrong input, each with the sentence that it must get.

All of it belongs to the suite (`pytest tests/attack`); what takes seconds is listed in `tests/slow.py`. The whole kill
matrix takes most of an hour and is run by hand: `python -m tests.attack.kill --all`; `--list` shows its cells, and one
alone is `python -m tests.attack.kill ingest:worker:SIGINT`.
"""
