"""The triage task of the demo: customer messages with known truth, a teacher and a base student trained on them."""
