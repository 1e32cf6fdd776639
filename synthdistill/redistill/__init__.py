"""What a scheduled call of `redistill` knows and does beside the stages: new prompts, what is due, what is kept."""
