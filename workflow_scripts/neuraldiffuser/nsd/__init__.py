"""The Natural Scenes Dataset: its files, design, betas, masks, stimuli and captions."""
