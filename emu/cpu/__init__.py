"""vCPUs: one Unicorn engine each, with the trap delivery of the real hardware."""
