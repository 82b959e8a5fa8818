"""A trainer that trains nothing and ends well, for `benches.scale`: what a fan-out then takes is the launcher's."""
