"""Everything that runs a plan: backends, executor, client, server, keys."""
