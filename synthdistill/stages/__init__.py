"""One page a stage: its Config, and run(config, ...) in four paragraphs: config, read, work, write."""
