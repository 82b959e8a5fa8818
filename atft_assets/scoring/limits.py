"""Limits beyond which a figure is a fault rather than a finding: one definition for reports, panels and evaluations."""

LEAK_ALARM = 0.15  # no honest single column ranks tomorrow's returns that well: |RankIC| with the one-day label
