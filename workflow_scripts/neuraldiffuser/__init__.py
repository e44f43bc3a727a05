"""NeuralDiffuser: fMRI-to-image reconstruction with primary visual feature guidance.

Sub-packages stand in the order in which data flows: ``nsd``, ``features``, ``decoders``,
``diffusion``, ``encoding``, ``evaluation``, ``reporting``; ``mini`` is the miniature world.
"""

__version__ = "0.1.0"
